"""Alerts and their timelines. Only `alerts.service` changes rows.

Foreign keys of rows created by messages have no database constraint, because checking it costs a query per row. The
single function that writes those rows guarantees them.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tocsin.access.boundary import BoundedManager
from tocsin.alerts.states import ACTIVE, INACTIVE, RESPONSES, AlertStatus, Priority
from tocsin.core.db.queries import TrigramIndex
from tocsin.core.models import ReasonField


class Alert(models.Model):
    """A problem that needs an answer. Its row is the lock for everything that belongs to it."""

    id = models.BigAutoField(primary_key=True)
    status = models.TextField(default=AlertStatus.OPEN)
    priority = models.TextField(default=Priority.HIGH)
    subject = models.TextField()
    short_text = models.TextField(default="", db_default="")
    long_text = models.TextField(default="", db_default="")

    source = models.TextField(default="", db_default="")
    source_name = models.TextField(default="", db_default="")
    source_id = models.TextField(default="", db_default="")
    source_url = models.TextField(default="", db_default="")
    source_status = models.TextField(default="", db_default="")
    source_priority = models.TextField(default="", db_default="")
    source_agent = models.TextField(default="", db_default="")
    client = models.TextField(default="", db_default="")
    site = models.TextField(default="", db_default="")
    team = models.TextField(default="", db_default="")
    requester = models.TextField(default="", db_default="")
    requester_phone = models.TextField(default="", db_default="")
    #: Text values by name.
    tags = models.JSONField(default=dict, db_default={})
    #: Text values by name: every mapped field without a column (ticket_type, category, vip, respond_by, …).
    custom = models.JSONField(default=dict, db_default={})

    integration = models.ForeignKey(
        "inbound.Integration",
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    #: Ids of the groups that the alert notifies, whose members may see it.
    group_ids = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    #: SHA-256 of the dedup key; NULL for a manually created alert.
    key_hash = models.BinaryField(max_length=32, null=True)
    #: Whether it holds that key: it is active, or merged into an alert that is.
    holds_key = models.BooleanField(default=False, db_default=False)
    count = models.IntegerField(default=1, db_default=1)
    opened_at = models.DateTimeField()
    last_message_at = models.DateTimeField()

    owner = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: The owner's name, if the owner is not a user of Tocsin.
    owner_name = models.TextField(default="", db_default="")
    hold_until = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    merged_into = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="merged", db_index=False)
    #: The previous, closed alert with the same key.
    previous_alert = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    dry_run = models.BooleanField(default=False, db_default=False)
    is_test = models.BooleanField(default=False, db_default=False)

    objects: ClassVar[models.Manager[Alert]] = BoundedManager()

    class Meta:
        constraints = (
            # Guarantees at most one active alert per key.
            models.UniqueConstraint(fields=("key_hash",), condition=Q(holds_key=True), name="alerts_alert_live_key"),
            models.CheckConstraint(condition=Q(status__in=[str(s) for s in AlertStatus]), name="alerts_alert_status"),
            models.CheckConstraint(condition=Q(priority__in=[str(p) for p in Priority]), name="alerts_alert_priority"),
        )
        indexes = (
            # Lists and counts of active alerts, and the self-check.
            models.Index(fields=("status", "id"), condition=Q(status__in=sorted(ACTIVE)), name="alerts_alert_live"),
            # The alerts merged into one.
            models.Index(
                fields=("merged_into",), condition=Q(merged_into__isnull=False), name="alerts_alert_merged_into"
            ),
            # The alerts of one integration, newest first.
            models.Index(fields=("integration", "id"), name="alerts_alert_integration"),
            # Inactive alerts of one priority, newest first. An alert enters it when it ends, so creating one costs
            # nothing.
            models.Index(
                fields=("priority", "id"), condition=Q(status__in=sorted(INACTIVE)), name="alerts_alert_priority"
            ),
            # Alerts opened within a period, for reports: the first and last time of each block range of the table.
            BrinIndex(fields=("opened_at",), autosummarize=True, pages_per_range=32, name="alerts_alert_opened"),
        )


class AlertText(models.Model):
    """The searchable text of an alert, in upper case. `alerts.store` fills it in the background, so that
    creating an alert does not wait."""

    alert = models.OneToOneField(
        Alert, primary_key=True, on_delete=models.CASCADE, related_name="texts", db_constraint=False
    )
    subject = models.TextField()
    client = models.TextField()
    source_id = models.TextField()
    #: As JSON.
    tags = models.TextField()

    class Meta:
        indexes = (
            # Substring search among closed alerts. See `core.db.queries`.
            TrigramIndex(fields=("subject", "client", "source_id", "tags"), name="alerts_text_parts"),
        )


class AlertEvent(models.Model):
    """One entry of an alert's timeline. Append-only.

    The table's primary key is (alert, id), which a migration sets: entries are only looked up by their alert, and a
    second index of all of them would cost each message a write. Django knows `id` as the key, because it is generated.
    """

    id = models.BigAutoField(primary_key=True)
    alert = models.ForeignKey(
        Alert, on_delete=models.CASCADE, related_name="events", db_index=False, db_constraint=False
    )
    at = models.DateTimeField()
    kind = models.TextField()
    #: `user`, `integration`, `system`, `token` or `contact`, with the user's id if there is one.
    actor_kind = models.TextField(default="system", db_default="system")
    actor = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    actor_name = models.TextField(default="", db_default="")
    via = models.TextField(default="", db_default="")
    reason = ReasonField()
    data = models.JSONField(default=dict, db_default={})

    objects: ClassVar[models.Manager[AlertEvent]] = BoundedManager()

    class Meta:
        indexes = (
            # Reports: the first response to each alert, without reading the other events. Messages write none of them.
            models.Index(
                fields=("alert",), include=("at", "kind"), condition=Q(kind__in=RESPONSES), name="alerts_event_response"
            ),
        )


class Acknowledgement(models.Model):
    """A user's current acknowledgement of an alert."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="acknowledgements", db_index=False)
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField(db_default=Now())

    objects: ClassVar[models.Manager[Acknowledgement]] = BoundedManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("alert", "user"), name="alerts_acknowledgement_once"),)
