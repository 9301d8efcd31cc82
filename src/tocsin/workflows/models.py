"""Workflows, their runs with a log of actions, and how deep in a chain of workflows each alert is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.core.models import ReasonField
from tocsin.core.validation.name_validator import validate_name
from tocsin.workflows.definition import WorkflowRunStatus

#: Display and execution order; workflows at the same position are ordered by name.
ORDER = ("position", "name")


class Workflow(models.Model):
    """A trigger, conditions, and actions in order; or a manual workflow (a button on alerts)."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    is_enabled = models.BooleanField(_("enabled"), default=True)
    #: Among workflows with the same trigger, lower positions run first.
    position = models.IntegerField(default=0, db_default=0)
    #: Copied from the definition, for filtering.
    trigger = models.TextField()
    #: The format of `workflows.definition`; all references by id.
    definition = models.JSONField()
    created_at = models.DateTimeField()

    objects: ClassVar[models.Manager[Workflow]] = BoundedManager()

    class Meta:
        ordering = ORDER
        constraints = (models.UniqueConstraint(Lower("name"), name="workflows_workflow_name"),)

    def __str__(self) -> str:
        return self.name


class Limit(models.Model):
    """A workflow's recent outward actions. A separate row, because every such action updates it."""

    workflow = models.OneToOneField(Workflow, primary_key=True, on_delete=models.CASCADE, related_name="+")
    since = models.DateTimeField()
    used = models.IntegerField(default=0, db_default=0)
    #: Actions skipped because of the limit, and when the last one was.
    refused = models.IntegerField(default=0, db_default=0)
    refused_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[Limit]] = BoundedManager()


class WorkflowRun(models.Model):
    """One execution of a workflow on one alert. `due_at` is its timer.

    Rows created during ingestion have no foreign keys in the database: deleting a workflow at the same time must not
    make the message fail.
    """

    id = models.BigAutoField(primary_key=True)
    workflow = models.ForeignKey(
        Workflow, on_delete=models.CASCADE, related_name="runs", db_index=False, db_constraint=False
    )
    alert = models.ForeignKey(
        "alerts.Alert", on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    status = models.TextField(default=WorkflowRunStatus.WAITING, db_default="waiting")
    #: What happened.
    cause = ReasonField()
    #: Why it does or did nothing, or what it waits for.
    reason = ReasonField()
    #: How many workflows in a row led to this run.
    depth = models.SmallIntegerField(default=0, db_default=0)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    user_name = models.TextField(default="", db_default="")
    via = models.TextField(default="", db_default="")
    #: Since when its actions are executed; its conditions held then.
    started_at = models.DateTimeField(null=True)
    step = models.SmallIntegerField(default=0, db_default=0)
    #: The executed actions in order: `{at, do, result}` with the result as a reason, and where applicable `failed`,
    #: `calls` and `alert`.
    steps = models.JSONField(default=list, db_default=[])
    moment = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    failures = models.SmallIntegerField(default=0, db_default=0)
    error = models.TextField(default="", db_default="")

    objects: ClassVar[models.Manager[WorkflowRun]] = BoundedManager()

    class Meta:
        db_table = "workflows_run"
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=[str(s) for s in WorkflowRunStatus]), name="workflows_run_status"
            ),
        )
        indexes = (
            # For claiming due runs, undecided or acting.
            models.Index(fields=("due_at",), condition=Q(due_at__isnull=False), name="workflows_run_due"),
            # A workflow's earlier runs on an alert; the runs of an alert.
            models.Index(fields=("alert", "workflow", "id"), name="workflows_run_alert"),
            # The log of a workflow, newest first.
            models.Index(fields=("workflow", "-id"), name="workflows_run_log"),
            # Stuck runs, for Home and doctor.
            models.Index(fields=("-id",), condition=Q(status="stuck"), name="workflows_run_stuck"),
            # The oldest rows, for pruning.
            models.Index(fields=("ended_at",), condition=Q(ended_at__isnull=False), name="workflows_run_ended"),
        )


class Origin(models.Model):
    """How deep in a chain of workflows an alert is, so that no chain is endless.

    `depth` counts for what its creation causes, `paging_depth` for what its escalation does since a workflow started
    it.
    """

    alert = models.OneToOneField("alerts.Alert", primary_key=True, on_delete=models.CASCADE, related_name="+")
    depth = models.SmallIntegerField(default=0, db_default=0)
    paging_depth = models.SmallIntegerField(default=0, db_default=0)
