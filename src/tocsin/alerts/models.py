"""Alerts and their timelines. Rows are changed by `alerts.service` only.

Where a message makes rows, the foreign keys have no constraint in the database: its check costs a query a row. The one
way in which those rows are written keeps them right.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, Priority
from tocsin.core.db.trigram_index import TrigramIndex


class Alert(models.Model):
    """One problem that somebody must answer. The row is the lock for everything under it."""

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
    #: Text values by name: every mapped field that has no column (ticket_type, category, vip, respond_by, …).
    custom = models.JSONField(default=dict, db_default={})

    integration = models.ForeignKey(
        "inbound.Integration",
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    #: SHA-256 of the dedup key; NULL for an alert opened by hand.
    key_hash = models.BinaryField(max_length=32, null=True)
    #: Whether it holds that key: it is live, or merged into an alert that is.
    holds_key = models.BooleanField(default=False, db_default=False)
    count = models.IntegerField(default=1, db_default=1)
    opened_at = models.DateTimeField()
    last_message_at = models.DateTimeField()

    owner = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: The owner's name when it is nobody that Tocsin knows.
    owner_name = models.TextField(default="", db_default="")
    hold_until = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    merged_into = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="merged", db_index=False)
    #: The closed alert of the same key that came before this one.
    previous_alert = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    dry_run = models.BooleanField(default=False, db_default=False)
    is_test = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = (
            # The guard of "at most one live alert exists per key".
            models.UniqueConstraint(fields=("key_hash",), condition=Q(holds_key=True), name="alerts_alert_live_key"),
            models.CheckConstraint(condition=Q(status__in=[str(s) for s in AlertStatus]), name="alerts_alert_status"),
            models.CheckConstraint(condition=Q(priority__in=[str(p) for p in Priority]), name="alerts_alert_priority"),
        )
        indexes = (
            # Lists and counts of live alerts, and the auditor.
            models.Index(fields=("status", "id"), condition=Q(status__in=sorted(ACTIVE)), name="alerts_alert_live"),
            # The alerts merged into one.
            models.Index(
                fields=("merged_into",), condition=Q(merged_into__isnull=False), name="alerts_alert_merged_into"
            ),
            # The alerts of one integration, newest first.
            models.Index(fields=("integration", "id"), name="alerts_alert_integration"),
            # What is over, of one priority, newest first. An alert enters it as it ends: opening one costs no more.
            models.Index(
                fields=("priority", "id"), condition=Q(status__in=sorted(INACTIVE)), name="alerts_alert_priority"
            ),
            # Those opened in a stretch of time, for reports: of each stretch of the table the first and last moment.
            BrinIndex(fields=("opened_at",), autosummarize=True, pages_per_range=32, name="alerts_alert_opened"),
        )


class AlertText(models.Model):
    """The searchable text of an alert, in upper case. `alerts.search_index` fills it in the background, so that
    opening an alert does not wait."""

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
            # Search among closed alerts by any part of a text. See `core.db.trigram_index`.
            TrigramIndex(fields=("subject", "client", "source_id", "tags"), name="alerts_text_parts"),
        )


class AlertEvent(models.Model):
    """One line of an alert's timeline. Append-only."""

    id = models.BigAutoField(primary_key=True)
    alert = models.ForeignKey(
        Alert, on_delete=models.CASCADE, related_name="events", db_index=False, db_constraint=False
    )
    at = models.DateTimeField()
    kind = models.TextField()
    #: `user`, `integration`, `system`, `token` or `contact`, with the user's id where there is one.
    actor_kind = models.TextField(default="system", db_default="system")
    actor = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    actor_name = models.TextField(default="", db_default="")
    via = models.TextField(default="", db_default="")
    reason = models.TextField(default="", db_default="")
    data = models.JSONField(default=dict, db_default={})

    class Meta:
        # The timeline of one alert.
        indexes = (models.Index(fields=("alert", "id"), name="alerts_event_alert"),)


class Acknowledgement(models.Model):
    """That a person acknowledged an alert, while that stands."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="acknowledgements", db_index=False)
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("alert", "user"), name="alerts_acknowledgement_once"),)
