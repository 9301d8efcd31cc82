"""Escalation policies, their immutable versions, and the runs that execute them on alerts."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.core.models import ReasonField
from tocsin.core.validation.name_validator import validate_name
from tocsin.escalation.run.run_state import RunStatus


class Policy(models.Model):
    """Whom to notify, in which order, after what delay, and when to stop. The current version holds the steps."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    current_version = models.ForeignKey("PolicyVersion", null=True, on_delete=models.PROTECT, related_name="+")

    objects: ClassVar[models.Manager[Policy]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="escalation_policy_name"),)

    def __str__(self) -> str:
        return self.name


class PolicyVersion(models.Model):
    #: NULL once the policy is deleted: active runs keep their version.
    policy = models.ForeignKey(Policy, null=True, on_delete=models.SET_NULL, related_name="versions")
    number = models.PositiveIntegerField()
    #: The format of `escalation.policy`, with users and groups by id.
    definition = models.JSONField()
    created_at = models.DateTimeField()

    objects: ClassVar[models.Manager[PolicyVersion]] = BoundedManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("policy", "number"), name="escalation_policyversion_number"),)


#: Runs that are exhausted. A run whose last step keeps repeating is still active, and also counts.
EXHAUSTED_RUNS = Q(status=RunStatus.EXHAUSTED) | Q(
    status=RunStatus.ACTIVE, due_at__isnull=False, progress__is_repeating_last_step=True
)
EXHAUSTED_RUNS_SQL = (
    f"r.status = '{RunStatus.EXHAUSTED}' OR (r.status = '{RunStatus.ACTIVE}' AND r.due_at IS NOT NULL "
    "AND r.progress -> 'is_repeating_last_step' = 'true')"
)


class EscalationRun(models.Model):
    """One policy version executing on one alert. `due_at` is its only timer."""

    id = models.BigAutoField(primary_key=True)
    alert = models.ForeignKey(
        "alerts.Alert", on_delete=models.CASCADE, related_name="runs", db_index=False, db_constraint=False
    )
    version = models.ForeignKey(
        PolicyVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    #: The alert's integration. No foreign key: it only keeps claims fair across integrations.
    integration_id = models.BigIntegerField(null=True)
    #: A `RunStatus`; `ended` when the alert is over or a newer run replaced this one.
    status = models.TextField()
    #: `page`, `watch` (dry run) or `record` (log only).
    mode = models.TextField()
    due_at = models.DateTimeField(null=True)
    #: Why there is no timer, or what the run waits for.
    reason = ReasonField()
    #: The engine's state: step, pass, who is being paged and until when. See `escalation.run.run_state.RunProgress`.
    progress = models.JSONField(default=dict, db_default={})
    #: Ids of users and groups, and the priority for which the run started.
    recipient_users = models.JSONField(default=list, db_default=[])
    recipient_groups = models.JSONField(default=list, db_default=[])
    priority = models.TextField(default="high", db_default="high")
    started_at = models.DateTimeField()
    #: Consecutive failures to advance the run, and the last error. After five the run counts as stuck.
    failures = models.SmallIntegerField(default=0, db_default=0)
    error = models.TextField(default="", db_default="")

    objects: ClassVar[models.Manager[EscalationRun]] = BoundedManager()

    class Meta:
        db_table = "escalation_run"
        constraints = (
            # An alert has at most one run that has not ended.
            models.UniqueConstraint(fields=("alert",), condition=~Q(status="ended"), name="escalation_run_current"),
        )
        indexes = (
            # For claiming due runs, fairly across integrations.
            models.Index(
                fields=("integration_id", "due_at"), condition=Q(due_at__isnull=False), name="escalation_run_due"
            ),
            # Alerts with an exhausted escalation and no response, listed on Home. Rarely any exist, so the index costs
            # ingestion nothing.
            models.Index(fields=("alert",), condition=EXHAUSTED_RUNS, name="escalation_run_at_its_end"),
            # An alert's runs, newest last.
            models.Index(fields=("alert", "id"), name="escalation_run_alert"),
        )
