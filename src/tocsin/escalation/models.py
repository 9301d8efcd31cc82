"""Escalation policies, their unchanging versions, and the runs that work on alerts."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.core.validation.name_validator import validate_name
from tocsin.escalation.run.run_state import RunStatus


class Policy(models.Model):
    """Whom to notify, in what order, after how long, and what stops it. The steps are its current version's."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    #: The group that owns it.
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    current_version = models.ForeignKey("PolicyVersion", null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="escalation_policy_name"),)

    def __str__(self) -> str:
        return self.name


class PolicyVersion(models.Model):
    """One version of a policy. Never changed after it was made."""

    #: NULL once the policy was deleted: runs at work keep their version.
    policy = models.ForeignKey(Policy, null=True, on_delete=models.SET_NULL, related_name="versions")
    number = models.PositiveIntegerField()
    #: As `escalation.policy.policy` parses it; users and groups by id.
    definition = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("policy", "number"), name="escalation_policyversion_number"),)


#: A run that has nobody further to notify. One whose last step goes on at its end is still at work.
AT_ITS_END = Q(status=RunStatus.FINISHED) | Q(status=RunStatus.ACTIVE, due_at__isnull=False, progress__keeping=True)


class Run(models.Model):
    """One policy version working on one alert. Its one timer is `due_at`."""

    id = models.BigAutoField(primary_key=True)
    alert = models.ForeignKey(
        "alerts.Alert", on_delete=models.CASCADE, related_name="runs", db_index=False, db_constraint=False
    )
    version = models.ForeignKey(
        PolicyVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    #: Its alert's. No foreign key: it only says whose share of the loop's turns the run takes.
    integration_id = models.BigIntegerField(null=True)
    #: As `escalation.run.engine` names them; `ended` when the alert's life ended or a newer run replaced this one.
    status = models.TextField()
    #: `page`, `dry_run` or `record`.
    mode = models.TextField()
    due_at = models.DateTimeField(null=True)
    #: Why there is no timer, or what it waits for: a sentence.
    reason = models.TextField(default="", db_default="")
    #: What the engine needs to go on: step, pass, who was started and until when. See `escalation.run.engine`.
    progress = models.JSONField(default=dict, db_default={})
    #: User ids and group ids; the priority it was started for.
    recipient_users = models.JSONField(default=list, db_default=[])
    recipient_groups = models.JSONField(default=list, db_default=[])
    priority = models.TextField(default="high", db_default="high")
    started_at = models.DateTimeField()
    #: How often deciding failed in a row, and the last error. Five make it stuck.
    failures = models.SmallIntegerField(default=0, db_default=0)
    error = models.TextField(default="", db_default="")

    class Meta:
        constraints = (
            # At most one run of an alert is not over.
            models.UniqueConstraint(fields=("alert",), condition=~Q(status="ended"), name="escalation_run_current"),
        )
        indexes = (
            # The loop's claim, fairly across integrations.
            models.Index(
                fields=("integration_id", "due_at"), condition=Q(due_at__isnull=False), name="escalation_run_due"
            ),
            # Alerts that all steps are behind, and nobody has answered: Home says so. Hardly ever any, so it costs
            # ingest nothing.
            models.Index(fields=("alert",), condition=AT_ITS_END, name="escalation_run_at_its_end"),
            # An alert's runs, newest last.
            models.Index(fields=("alert", "id"), name="escalation_run_alert"),
        )
