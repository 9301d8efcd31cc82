"""Schedules, overrides, swaps, holiday calendars, support hours, and calendar feeds and imports."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.access.roles import MemberRole, StoredEnum
from tocsin.core.models import ReasonField
from tocsin.core.validation.name_validator import validate_name

# ---------- states


class SwapState(StoredEnum):
    PENDING = "asked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


class FeedKind(StoredEnum):
    """Whose shifts a calendar feed contains."""

    PERSON = "person"
    GROUP = "group"
    SCHEDULE = "schedule"
    ALL = "all"


class HolidayCalendar(models.Model):
    """The public holidays of a country or region, custom days, or both."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    #: ISO 3166-1 code, such as CH, or empty.
    country = models.CharField(_("country"), max_length=2, blank=True)
    #: ISO 3166-2 code without the country, such as ZH, or empty.
    region = models.CharField(_("region"), max_length=10, blank=True)
    #: Custom days as users write them: date (2026-12-24, or 12-24 for every year) and name.
    days = models.JSONField(default=list)

    objects: ClassVar[models.Manager[HolidayCalendar]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="oncall_holidaycalendar_name"),)

    def __str__(self) -> str:
        return self.name


class Schedule(models.Model):
    """A group's schedule: its shifts say who is on call when, instead of the group's members with the same roles."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", on_delete=models.PROTECT, related_name="schedules")
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    #: `shifts` as users write them, with users by id. See `oncall.calculation.schedules`.
    definition = models.JSONField(default=dict)
    holiday_calendars = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    #: Whether a note is mailed at each handover.
    handover_notes = models.BooleanField(_("handover notes"), default=True, db_default=True)

    objects: ClassVar[models.Manager[Schedule]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="oncall_schedule_name"),)

    def __str__(self) -> str:
        return self.name


class SupportHours(models.Model):
    """A named set of weekly windows."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    #: As users write them: days, from, to. See `oncall.calculation.weekly_windows`.
    windows = models.JSONField(default=list)
    #: Ids of the holiday calendars on whose days they are closed.
    holiday_calendars = ArrayField(models.BigIntegerField(), default=list, db_default=[])

    objects: ClassVar[models.Manager[SupportHours]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "support hours"
        constraints = (models.UniqueConstraint(Lower("name"), name="oncall_supporthours_name"),)

    def __str__(self) -> str:
        return self.name


class Override(models.Model):
    """Replaces who is on call for a while: on one shift, in one role, or in the whole schedule."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="overrides")
    #: A label. May be empty, and need not be unique.
    name = models.CharField(_("name"), max_length=100, blank=True)
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    #: Only this user is replaced; None replaces every user on call.
    instead_of = models.ForeignKey("people.User", null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    shift = models.CharField(_("shift"), max_length=100, blank=True)
    role = models.CharField(_("role"), max_length=20, blank=True, choices=MemberRole.choices())
    starts_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("to"))
    swap = models.ForeignKey("SwapRequest", null=True, on_delete=models.CASCADE, related_name="overrides")
    created_by = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()

    objects: ClassVar[models.Manager[Override]] = BoundedManager()

    class Meta:
        ordering = ("starts_at", "id")
        constraints = (models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="oncall_override_span"),)
        indexes = (
            # Overrides of a schedule that are active at a moment, or later.
            models.Index(fields=("schedule", "ends_at"), name="oncall_override_current"),
        )

    def __str__(self) -> str:
        return self.name or f"override {self.pk}"


class SwapRequest(models.Model):
    """A request that another user takes a part of one's shifts, optionally for a part of theirs in return."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="swaps")
    requester = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    requested_user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    #: Only in this role; empty for every role of the user in that period.
    role = models.CharField(max_length=20, blank=True, choices=MemberRole.choices())
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    #: The period that the requester takes in return.
    return_role = models.CharField(max_length=20, blank=True, choices=MemberRole.choices())
    return_starts_at = models.DateTimeField(null=True)
    return_ends_at = models.DateTimeField(null=True)
    message = models.CharField(max_length=500, blank=True)
    state = models.CharField(max_length=10, default=str(SwapState.PENDING), choices=SwapState.choices())
    created_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[SwapRequest]] = BoundedManager()

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="oncall_swap_span"),
            models.CheckConstraint(condition=Q(state__in=[str(s) for s in SwapState]), name="oncall_swap_state"),
        )


class PendingNotice(models.Model):
    """A notice for a user about their shifts: a swap requested or answered, a shift handed over, a cover.

    Written in the same transaction as the change; a periodic task sends it by e-mail, rendered for the recipient.
    """

    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    #: The swap that the user is asked to accept or decline, if any.
    swap = models.ForeignKey(SwapRequest, null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    title = ReasonField()
    text = ReasonField()
    #: Why the user gets it.
    reason = ReasonField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            # Notices waiting to be sent.
            models.Index(fields=("id",), condition=Q(sent_at=None), name="oncall_pendingnotice_waiting"),
        )


class CalendarFeed(models.Model):
    """A secret URL at which calendar programs read the shifts of a user, a group, a schedule or every group."""

    #: The user who created it. It is deleted with their account.
    owner = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="calendar_feeds")
    kind = models.CharField(max_length=10, choices=FeedKind.choices())
    group = models.ForeignKey("people.Group", null=True, on_delete=models.CASCADE, related_name="+")
    schedule = models.ForeignKey(Schedule, null=True, on_delete=models.CASCADE, related_name="+")
    #: Hash of the token in the URL, which is shown once.
    token_hash = models.BinaryField(unique=True)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[CalendarFeed]] = BoundedManager()

    class Meta:
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(
                "owner", "kind", "group", "schedule", name="oncall_calendarfeed_once", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(kind__in=[str(k) for k in FeedKind]), name="oncall_calendarfeed_kind"),
        )


class CalendarImport(models.Model):
    """The last import of an external iCal calendar for a shift, and its errors."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="imports")
    shift = models.CharField(max_length=100)
    #: Sealed: see `oncall.changes.specs`.
    url = models.TextField()
    due_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True)
    #: Why the last import failed, or was incomplete; `NO_REASON` without an error.
    error = ReasonField()
    #: Names in the calendar that match no user.
    unknown = models.JSONField(default=list)
    #: [user id, from, to], with times in UTC, in order.
    spans = models.JSONField(default=list)

    objects: ClassVar[models.Manager[CalendarImport]] = BoundedManager()

    class Meta:
        ordering = ("schedule", "shift")
        constraints = (models.UniqueConstraint("schedule", Lower("shift"), name="oncall_calendarimport_shift"),)
        indexes = (
            # Imports that are due.
            models.Index(fields=("due_at",), name="oncall_calendarimport_due"),
        )


class Reminder(models.Model):
    """A reminder of a shift for a user, before the shift begins: pending or done."""

    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    group = models.ForeignKey("people.Group", on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=20, choices=MemberRole.choices())
    shift_at = models.DateTimeField()
    before = models.DurationField()
    due_at = models.DateTimeField()
    #: When it was sent, or turned out to be no longer needed.
    done_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("user", "group", "role", "shift_at", "before"), name="oncall_reminder_once"
            ),
        )
        indexes = (
            # Reminders that are due.
            models.Index(fields=("due_at",), condition=Q(done_at=None), name="oncall_reminder_due"),
        )


class HandoverNote(models.Model):
    """The note of one handover of a schedule: planned a day ahead, editable, and mailed once when it happens."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    #: When the shift that ends then began.
    since = models.DateTimeField()
    #: Ids of the users whose shift ends, and of those whose shift begins.
    outgoing = ArrayField(models.BigIntegerField())
    incoming = ArrayField(models.BigIntegerField())
    #: What an outgoing user wrote; empty if nothing.
    text = models.TextField(default="", db_default="")
    edited_by = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    edited_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    #: The facts as they were mailed; see `reports.handover`. Empty until then.
    facts = models.JSONField(default=list, db_default=[])

    objects: ClassVar[models.Manager[HandoverNote]] = BoundedManager()

    class Meta:
        ordering = ("-at",)
        constraints = (models.UniqueConstraint(fields=("schedule", "at"), name="oncall_handovernote_once"),)
        indexes = (
            # Notes that are due.
            models.Index(fields=("at",), condition=Q(sent_at=None), name="oncall_handovernote_due"),
        )
