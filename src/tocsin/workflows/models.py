"""Workflows, their runs with what each did and why, and how deep in a chain an alert was opened."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.core.validation.name_validator import validate_name
from tocsin.workflows.states import WorkflowRunStatus

#: In which order workflows are shown, and go: of two with the same position by their names.
ORDER = ("position", "name")


class Workflow(models.Model):
    """A trigger, conditions and actions in order; or a button on an alert."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    is_enabled = models.BooleanField(_("in use"), default=True)
    #: Of several that have the same trigger, the lower goes first.
    position = models.IntegerField(default=0, db_default=0)
    #: Of the definition, so that those of a kind are found.
    trigger = models.TextField()
    #: As `workflows.definition.definition` writes it; users, groups and whatever else is named, by id.
    definition = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ORDER
        constraints = (models.UniqueConstraint(Lower("name"), name="workflows_workflow_name"),)

    def __str__(self) -> str:
        return self.name


class Limit(models.Model):
    """What a workflow has brought about elsewhere lately. A row of its own, because every such action changes it."""

    workflow = models.OneToOneField(Workflow, primary_key=True, on_delete=models.CASCADE, related_name="+")
    #: Since when it is counted.
    since = models.DateTimeField()
    used = models.IntegerField(default=0, db_default=0)
    #: What was not done because of it, and when last.
    refused = models.IntegerField(default=0, db_default=0)
    refused_at = models.DateTimeField(null=True)


class Run(models.Model):
    """One workflow looking at one alert once. Its timer is `due_at`. What a message makes has no foreign keys in the
    database: a workflow that is deleted at that moment must not refuse the message."""

    id = models.BigAutoField(primary_key=True)
    workflow = models.ForeignKey(
        Workflow, on_delete=models.CASCADE, related_name="runs", db_index=False, db_constraint=False
    )
    alert = models.ForeignKey(
        "alerts.Alert", on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    status = models.TextField(default=WorkflowRunStatus.WAITING, db_default="waiting")
    #: What happened: a sentence.
    cause = models.TextField(default="", db_default="")
    #: How many workflows' acts led to it.
    depth = models.SmallIntegerField(default=0, db_default=0)
    #: Who pressed the button.
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    user_name = models.TextField(default="", db_default="")
    via = models.TextField(default="", db_default="")
    #: Since when it goes through its actions: its conditions were true.
    begun_at = models.DateTimeField(null=True)
    #: The index of the next action.
    step = models.SmallIntegerField(default=0, db_default=0)
    #: What was done, in order: `{at, do, said}`, with `failed`, and `calls` and `alert` that came of it.
    steps = models.JSONField(default=list, db_default=[])
    #: The SLA moment that it was for.
    moment = models.DateTimeField(null=True)
    #: Why it does or did nothing, or what it waits for: a sentence.
    reason = models.TextField(default="", db_default="")
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    failures = models.SmallIntegerField(default=0, db_default=0)
    error = models.TextField(default="", db_default="")

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=[str(s) for s in WorkflowRunStatus]), name="workflows_run_status"
            ),
        )
        indexes = (
            # The loop's claims: what looks, and what acts.
            models.Index(fields=("due_at",), condition=Q(due_at__isnull=False), name="workflows_run_due"),
            # What a workflow did on an alert before; the runs of an alert.
            models.Index(fields=("alert", "workflow", "id"), name="workflows_run_alert"),
            # The log of a workflow, newest first.
            models.Index(fields=("workflow", "-id"), name="workflows_run_log"),
            # Those that are stuck, for Home and doctor.
            models.Index(fields=("-id",), condition=Q(status="stuck"), name="workflows_run_stuck"),
            # The oldest, for pruning.
            models.Index(fields=("ended_at",), condition=Q(ended_at__isnull=False), name="workflows_run_ended"),
        )


class Origin(models.Model):
    """How deep in a chain of workflows an alert is, so that no chain is endless: what its opening brought about, and
    what its escalation does since a workflow set that going."""

    alert = models.OneToOneField("alerts.Alert", primary_key=True, on_delete=models.CASCADE, related_name="+")
    depth = models.SmallIntegerField(default=0, db_default=0)
    paging_depth = models.SmallIntegerField(default=0, db_default=0)
