"""Call routes, and the calls that came with every ring of a person. Only `calls.service` changes calls."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from tocsin.access.boundary import BoundedManager
from tocsin.core.models import ReasonField


class PhoneCall(models.Model):
    """A call to a hotline. Its row is the lock for everything that belongs to it."""

    id = models.BigAutoField(primary_key=True)
    #: NULL: the route was deleted. The call keeps its name, and all that it needs, in `state`.
    route = models.ForeignKey("calls.CallRoute", null=True, on_delete=models.SET_NULL, related_name="calls")
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
    #: NULL: there is none, it is not fetched yet, or it was deleted; `recording_reason` says why it cannot be had.
    recording = models.BinaryField(null=True)
    recording_type = models.TextField(default="", db_default="")
    recording_seconds = models.IntegerField(default=0, db_default=0)
    recording_until = models.DateTimeField(null=True)
    recording_reason = ReasonField()
    transcription = models.TextField(default="", db_default="")

    objects: ClassVar[models.Manager[PhoneCall]] = BoundedManager()

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
