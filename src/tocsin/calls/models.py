"""Call routes: which numbers Tocsin answers, and whom a caller reaches."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.alerts.states import Priority
from tocsin.calls.router import AnsweredAlert, OutsideHours, RingOrder
from tocsin.core.validation.name_validator import validate_name


def _reference(model: str) -> models.ForeignKey[models.Model | None, models.Model | None]:
    """What a route refers to; it is not deleted meanwhile."""
    return models.ForeignKey(model, null=True, blank=True, on_delete=models.PROTECT, related_name="+")


class CallRoute(models.Model):
    """One or more phone numbers, and what happens to their calls. Its columns are the fields of `CallRouteSpec`."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    #: The group that owns it.
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    is_enabled = models.BooleanField(_("enabled"), default=True, db_default=True)
    #: In E.164 form. No two routes have the same.
    numbers = ArrayField(models.CharField(max_length=16))
    provider = models.ForeignKey("notify.Provider", on_delete=models.PROTECT, related_name="+")
    language = models.CharField(max_length=10, default="en", db_default="en")
    greeting = models.TextField(default="", db_default="")
    #: The entries as in the spec, groups and policies by id.
    menu = models.JSONField(default=list, db_default=[])
    policy = _reference("escalation.Policy")
    schedule = _reference("oncall.Schedule")
    #: In which the policy's roles are on call, and whose alerts the calls become; the owner if there is none.
    recipient_group = _reference("people.Group")
    ring_order = models.CharField(max_length=20, default=RingOrder.IN_ORDER, db_default="in_order")
    rounds = models.PositiveSmallIntegerField(default=2, db_default=2)
    ring_seconds = models.PositiveSmallIntegerField(default=25, db_default=25)
    skip_rung = models.BooleanField(default=True, db_default=True)
    caller_id = models.CharField(max_length=20, default="service", db_default="service")
    support_hours = _reference("oncall.SupportHours")
    outside_hours = models.CharField(max_length=20, default=OutsideHours.VOICEMAIL, db_default="voicemail")
    outside_sentence = models.TextField(default="", db_default="")
    raise_again_at_hours = models.BooleanField(default=False, db_default=False)
    voicemail = models.BooleanField(default=True, db_default=True)
    voicemail_greeting = models.TextField(default="", db_default="")
    transcribe = models.BooleanField(default=False, db_default=False)
    record_calls = models.BooleanField(default=False, db_default=False)
    recording_days = models.PositiveSmallIntegerField(default=90, db_default=90)
    #: Numbers whose calls are refused.
    blocked = ArrayField(models.CharField(max_length=16), default=list, db_default=[])
    alert_when_answered = models.CharField(max_length=20, default=AnsweredAlert.OPEN, db_default="open")
    priority = models.CharField(max_length=20, default=Priority.HIGH, db_default="high")
    #: Pages about a missed call or a voicemail; without one, `policy`.
    alert_policy = _reference("escalation.Policy")
    #: Where a missed call or a voicemail becomes a ticket.
    ticket_integration = _reference("outbound.OutboundIntegration")

    objects: ClassVar[models.Manager[CallRoute]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="calls_callroute_name"),)

    def __str__(self) -> str:
        return self.name
