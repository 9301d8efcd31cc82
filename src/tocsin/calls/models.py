"""Call routes: which numbers Tocsin answers, and whom a caller reaches; and the calls that came, with every ring of a
person. Only `calls.service` changes calls."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.alerts.states import Priority
from tocsin.calls.states import AnsweredAlert, CallerId, OutsideHours, RingOrder
from tocsin.core.models import ReasonField
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
    rounds = models.PositiveSmallIntegerField(default=1, db_default=1)
    ring_seconds = models.PositiveSmallIntegerField(default=25, db_default=25)
    skip_rung = models.BooleanField(default=False, db_default=False)
    caller_id = models.CharField(max_length=20, default=CallerId.SERVICE, db_default="service")
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


class PhoneCall(models.Model):
    """A call to a hotline. Its row is the lock for everything that belongs to it."""

    id = models.BigAutoField(primary_key=True)
    #: NULL: the route was deleted. The call keeps its name, and all that it needs, in `state`.
    route = models.ForeignKey(CallRoute, null=True, on_delete=models.SET_NULL, related_name="calls")
    route_name = models.TextField()
    #: The route's group, whose members see the call.
    group = models.ForeignKey("people.Group", null=True, on_delete=models.SET_NULL, related_name="+")
    #: The provider's name, and the vendor's id of the call.
    provider = models.TextField()
    external_id = models.TextField()
    #: The number that was called, and the caller's; empty if that is withheld.
    called = models.TextField(default="", db_default="")
    caller = models.TextField(default="", db_default="")
    caller_name = models.TextField(default="", db_default="")
    client = models.TextField(default="", db_default="")
    #: `router.RoutedCall`, whole.
    state = models.JSONField()
    #: Copied from the state, for lists and reports: `CallPhase`, `CallOutcome` and `Cause`.
    phase = models.TextField()
    outcome = models.TextField(default="", db_default="")
    cause = models.TextField(default="", db_default="")
    started_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    answered_by = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.SET_NULL, related_name="+")
    is_test = models.BooleanField(default=False, db_default=False)
    #: When something has to be done for it, and until when a node does so.
    due_at = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True)
    #: When the alert pages again: the support hours begin.
    raise_at = models.DateTimeField(null=True)
    #: NULL: there is none, it is not fetched yet, or it was deleted; `recording_reason` says why it cannot be had.
    recording = models.BinaryField(null=True)
    recording_type = models.TextField(default="", db_default="")
    recording_seconds = models.IntegerField(default=0, db_default=0)
    recording_until = models.DateTimeField(null=True)
    recording_reason = ReasonField()
    transcription = models.TextField(default="", db_default="")

    objects: ClassVar[models.Manager[PhoneCall]] = BoundedManager()

    @property
    def recording_length(self) -> str:
        """The length of the recording, as a player shows it."""
        return f"{self.recording_seconds // 60}:{self.recording_seconds % 60:02}"

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("provider", "external_id"), name="calls_phonecall_once"),)
        indexes = (
            # The calls for which something is to be done.
            models.Index(fields=("due_at",), condition=Q(due_at__isnull=False), name="calls_phonecall_due"),
            # Calls of a period, newest first, for lists, reports and retention.
            models.Index(fields=("started_at",), name="calls_phonecall_started"),
            # Recordings that expire.
            models.Index(
                fields=("recording_until",), condition=Q(recording_until__isnull=False), name="calls_phonecall_recorded"
            ),
        )


class CallLeg(models.Model):
    """One ring of one person for a call, as `router.CallRing` says."""

    call = models.ForeignKey(PhoneCall, on_delete=models.CASCADE, related_name="legs", db_index=False)
    #: 1 for the first ring of the call.
    place = models.IntegerField()
    round = models.IntegerField(default=1, db_default=1)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    user_name = models.TextField(default="", db_default="")
    #: In which capacity, such as "secondary, Service Desk".
    capacity = models.TextField(default="", db_default="")
    number = models.TextField(default="", db_default="")
    external_id = models.TextField(default="", db_default="")
    status = models.TextField()
    reason = ReasonField()
    rung_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[CallLeg]] = BoundedManager()

    class Meta:
        ordering = ("place",)
        constraints = (models.UniqueConstraint(fields=("call", "place"), name="calls_callleg_place"),)
