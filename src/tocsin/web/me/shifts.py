"""The user's own shifts, absences, swap requests, shift reminders and calendar feeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db.models import Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access import boundary
from tocsin.access.roles import Role
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.validation.spec import write_moment
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall
from tocsin.oncall.calculation.lanes import Lanes, lanes
from tocsin.oncall.calendars import feeds as commands
from tocsin.oncall.calendars import ical
from tocsin.oncall.calendars.feeds import NewFeed
from tocsin.oncall.calendars.ical import GroupShift
from tocsin.oncall.changes import overrides
from tocsin.oncall.models import CalendarFeed, FeedKind, HandoverNote
from tocsin.people.changes import out_of_office, users
from tocsin.people.models import Group, OutOfOffice, User
from tocsin.resources import visibility
from tocsin.resources.registry import GROUPS, SCHEDULES
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_object,
    find_row,
    number_of,
    render_view,
    requested_user,
)
from tocsin.web.oncall import schedules, swaps
from tocsin.web.oncall.lanes import DateRange, View, drawings, range_of
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.formatting import format_moment
from tocsin.web.ui.forms import (
    DurationField,
    MomentField,
    field_error_text,
    problems_of,
    rejections_shown,
    set_choices,
    show_rejection,
    user_zone,
)

HORIZON = timedelta(days=60)
MAX_SHIFTS = 40


@dataclass(frozen=True, slots=True)
class MyShift:
    """A period in which the user is on call.

    `url` is the reassign form, or empty if the period follows from the group's member order.
    """

    group_id: int
    group: str
    on_call: OnCall
    url: str
    is_now: bool


class ReminderForm(forms.Form):
    """One shift reminder. An empty form is ignored."""

    before = DurationField(label=_("Time before"), required=False)
    by = forms.ChoiceField(label=_("Via"), required=False)

    def __init__(self, *args: Any, labels: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "by", [("", gettext("email")), *((label, label) for label in labels)])
        self.fields["before"].widget.attrs["placeholder"] = "1h"


@require_http_methods(["GET", "HEAD", "POST"])
def my_shifts(request: SignedInRequest) -> HttpResponse:
    """Render the user's shifts; save the shift reminders."""
    user = request.user
    labels = list(user.contact_methods.values_list("label", flat=True))
    most = users.MAX_REMINDERS
    formset: Any = forms.formset_factory(ReminderForm, extra=most, max_num=most, absolute_max=most)
    data = request.POST if request.method == "POST" else None
    rows = formset(data, initial=user.reminders, prefix="reminders", form_kwargs={"labels": labels})
    # The notes of the user's next handovers, and of those since yesterday.
    own = Q(outgoing__contains=[user.pk]) | Q(incoming__contains=[user.pk])
    notes = HandoverNote.objects.filter(own, at__gte=request.now - timedelta(days=1)).select_related("schedule")
    problems: list[str] = []
    if request.method == "POST" and rows.is_valid():
        filled_rows = [row for row in rows if row.cleaned_data.get("before")]
        names = ("before", "by")
        reminders = [{name: row.cleaned_data[name] for name in names if row.cleaned_data[name]} for row in filled_rows]
        try:
            users.replace_all(user, reminders, actor=actor(request), now=request.now)
        except Rejected as rejected:
            # Above the rows as well as beside them.
            problems = [field_error_text(problem) for problem in problems_of(rejected)]
            show_rejection(forms.Form(request.POST), rejected, rows={"reminders": filled_rows})
        else:
            messages.success(request, gettext("Saved."))
            return redirect("my_shifts")
    feeds = list(CalendarFeed.objects.filter(owner=user).select_related("group", "schedule"))
    date_range = range_of(View.WEEKS, weekly_windows.day_of(request.now, user_zone()), user_zone())
    plans = _plans(user, request.now)

    def own_lanes(part: DateRange) -> Lanes:
        return lanes(plans, part.since, part.until, part.zone).of_user(user.pk)

    context = {
        "drawings": drawings(own_lanes, date_range, request.now),
        "shifts": shifts_of_user(user, request.now)[:MAX_SHIFTS],
        "absences": out_of_office.current(user, request.now),
        "swap_requests": swaps.requests_received(user, request.now),
        "sent_swap_requests": swaps.requests_sent(user, request.now),
        "handovers": schedules.named_notes(notes),
        "reminders": rows,
        "problems": problems,
        "feed": next((feed for feed in feeds if feed.kind == FeedKind.PERSON), None),
        "feeds": [feed for feed in feeds if feed.kind != FeedKind.PERSON],
        "zone": user_zone().key,
    }
    return render_view(request, "me/shifts.html", context, status=422 if problems else 200)


def shifts_of_user(user: User, now: datetime, ahead: timedelta = HORIZON) -> list[MyShift]:
    """Return when the user is on call from now on, earliest first: by shift, override, cover or member order."""
    user_shifts = [
        MyShift(plan.id, plan.name, segment, _url(plan.id, segment, now), segment.since is None or segment.since <= now)
        for plan in _plans(user, now)
        for segment in final_schedule.timeline(plan, now, now + ahead).segments
        if segment.user_id == user.pk
    ]
    return sorted(user_shifts, key=lambda shift: (shift.on_call.since or now, shift.group, shift.on_call.role))


def _plans(user: User, now: datetime) -> list[GroupPlan]:
    """Return the plans of the groups in which the user may be on call, by name."""
    with database.transaction() as connection:
        plans = loader.plans(connection, loader.groups_of(connection, [user.pk]), now)
    return sorted(plans.values(), key=lambda plan: plan.name.casefold())


def _url(group_id: int, segment: OnCall, now: datetime) -> str:
    if not segment.schedule:
        return ""
    fields = {
        "role": str(segment.role),
        "user": str(segment.user_id),
        "schedule": segment.schedule,
        "from": max(segment.since or now, now).isoformat(),
        "to": (segment.until or now + HORIZON).isoformat(),
    }
    return f"{reverse('reassign', args=[group_id])}?{urlencode(fields)}"


# ---------- absences


#: The value of an absence without a cover, which has to be chosen.
NO_COVER = "none"


class AbsenceForm(forms.Form):
    """Period of the absence, the default cover, and covers for single groups."""

    begins = MomentField(label=_("From"))
    ends = MomentField(label=_("To"))
    cover = forms.ChoiceField(
        label=_("Covered by"),
        error_messages={"required": _("Select who covers, or choose that no one does.")},
    )
    note = forms.CharField(label=_("Note"), max_length=200, required=False)

    def __init__(self, *args: Any, away: User, groups: list[Group], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = User.objects.filter(is_active=True).exclude(pk=away.pk).order_by("name", "username")
        self.people = {str(person.pk): person for person in people}
        set_choices(
            self,
            "cover",
            [
                ("", gettext("Select a person")),
                *((number, person.display_name) for number, person in self.people.items()),
                (NO_COVER, gettext("No cover (you'll still be paged)")),
            ],
        )
        # With a single group the default cover is sufficient.
        self.groups = groups if len(groups) > 1 else []
        for group in self.groups:
            self.fields[f"cover-{group.pk}"] = forms.ModelChoiceField(
                people, label=group.name, required=False, empty_label=gettext("Same as above")
            )

    @property
    def single(self) -> list[Any]:
        return [self[f"cover-{group.pk}"] for group in self.groups]

    def spec(self) -> dict[str, Any]:
        data = self.cleaned_data
        covers = {group.name: user.username for group in self.groups if (user := data[f"cover-{group.pk}"])}
        spec: dict[str, Any] = {"from": write_moment(data["begins"]), "to": write_moment(data["ends"])}
        if data["cover"] != NO_COVER:
            spec["cover"] = self.people[data["cover"]].username
        return spec | ({"covers": covers} if covers else {}) | ({"note": data["note"]} if data["note"] else {})


@require_http_methods(["GET", "HEAD", "POST"])
def absence(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    row = _find(request, number) if number is not None else None
    away = row.user if row else requested_user(request)
    form = _form(request, row, away)
    state = None if row is None else partial(out_of_office.absence_spec, row)
    snapshot = FormSnapshot(request, "out_of_office", row.pk if row else "", state, row=row)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form, {"from": "begins", "to": "ends", "covers": "cover"}), snapshot.unchanged():
            overrides.save_absence(away, form.spec(), existing=row, actor=actor(request), now=request.now)
            messages.success(request, gettext("Saved."))
            return _back(request, away)
    begin, end = (row.starts_at, row.ends_at) if row else (None, None)
    uncovered = [
        shift
        for shift in (shifts_of_user(away, begin, end - begin) if begin and end and end > begin else ())
        if shift.on_call.is_absent
    ]
    context = {
        "absence": row, "away": away, "form": form, "snapshot": snapshot, "uncovered": uncovered,
        "zone": user_zone().key,
    }  # fmt: skip
    return render_view(request, "me/absence.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, describing the effect; then delete the absence."""
    row = _find(request, number)
    if request.method != "POST":
        about = gettext("%(name)s will be on call as scheduled again, and all covers end.") % {
            "name": row.user.display_name
        }
        context = {"object_name": gettext("this absence"), "consequences": about, "back": ("absence", row.pk)}
        return render_view(request, "parts/delete.html", context)
    overrides.delete_absence(row, actor=actor(request), now=request.now)
    messages.success(request, gettext("Absence deleted. The schedules apply again."))
    return _back(request, row.user)


def _form(request: SignedInRequest, row: OutOfOffice | None, away: User) -> AbsenceForm:
    with database.transaction() as connection:
        groups = list(Group.objects.filter(pk__in=loader.groups_of(connection, [away.pk])).order_by("name"))
    begin: dict[str, Any]
    if row is not None:
        begin = {"begins": row.starts_at, "ends": row.ends_at, "cover": row.cover_id or NO_COVER, "note": row.note}
        begin |= {f"cover-{cover.group_id}": cover.user_id for cover in row.covers.all()}
    else:
        tomorrow = request.now.astimezone(user_zone()).replace(hour=8, minute=0, second=0, microsecond=0)
        tomorrow += timedelta(days=1)
        begin = {"begins": tomorrow, "ends": tomorrow + timedelta(days=7)}
        if not groups:
            # Who is on call nowhere needs no cover.
            begin["cover"] = NO_COVER
    return AbsenceForm(request.POST or None, initial=begin, away=away, groups=groups)


def _find(request: SignedInRequest, number: int) -> OutOfOffice:
    rows = out_of_office.rows()
    return find_row(rows if request.user.role == Role.ADMIN else rows.filter(user=request.user), number, "absence")


def _back(request: SignedInRequest, away: User) -> HttpResponse:
    return redirect("my_shifts") if away == request.user else redirect("user", away.pk)


# ---------- feeds


@require_POST
def create_feed(request: SignedInRequest) -> HttpResponse:
    """Create a feed of the user's own shifts, of a group, or of a schedule."""
    kind_name, number = request.POST.get("kind", ""), number_of(request.POST.get("number")) or 0
    if kind_name not in list(FeedKind):
        raise Http404(gettext("Unknown calendar feed type."))
    kind = FeedKind(kind_name)
    group = find_object(GROUPS, number) if kind is FeedKind.GROUP else None
    schedule = find_object(SCHEDULES, number) if kind is FeedKind.SCHEDULE else None
    with rejections_shown(request):
        created = commands.create_feed(
            request.user, kind, group=group, schedule=schedule, actor=actor(request), now=request.now
        )
        return _render_feed(request, created)
    return redirect("my_shifts")


@require_POST
def rotate_feed(request: SignedInRequest, number: int) -> HttpResponse:
    """Replace the feed's URL. The old URL stops working at once."""
    return _render_feed(request, commands.rotate(_find_feed(request, number), actor=actor(request), now=request.now))


@require_http_methods(["GET", "HEAD", "POST"])
def delete_feed(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, showing when the feed was last read; then delete the feed."""
    feed = _find_feed(request, number)
    if request.method != "POST":
        used = format_moment(feed.used_at, request.now) if feed.used_at else gettext("never")
        about = gettext("Subscribed calendar apps stop receiving updates. Last read: %(when)s.") % {"when": used}
        context = {"object_name": commands.name_of(feed), "consequences": about, "back": ("my_shifts",)}
        return render_view(request, "parts/delete.html", context)
    commands.delete(feed, actor=actor(request), now=request.now)
    messages.success(request, gettext("Calendar feed deleted."))
    return redirect("my_shifts")


def _render_feed(request: SignedInRequest, created: NewFeed) -> HttpResponse:
    response = render_view(request, "oncall/feed.html", {"name": commands.name_of(created.feed), "url": created.url})
    response["Cache-Control"] = "no-store"
    return response


def _find_feed(request: SignedInRequest, number: int) -> CalendarFeed:
    rows = CalendarFeed.objects.select_related("group", "schedule").filter(owner=request.user)
    return find_row(rows, number, "calendar feed")


# ---------- views
# `/calendar/TOKEN.ics`: the shifts of a user, a group, a schedule or every group as an iCalendar feed, authenticated
# by its token.

#: The period that a feed covers, before and after now.
FEED_PAST_PERIOD = timedelta(days=31)
FEED_FUTURE_PERIOD = timedelta(days=180)


@login_not_required
@require_safe
def feed(request: SignedInRequest, token: str) -> HttpResponse:
    """Serve the feed of the token; 404 for an unknown one."""
    calendar_feed = commands.verify(token, request.now)
    if calendar_feed is None:
        raise Http404("There is no such calendar.")
    boundary.enter(visibility.boundary_of_user(calendar_feed.owner))
    if not _is_visible(calendar_feed):
        raise Http404("There is no such calendar.")
    since, until = request.now - FEED_PAST_PERIOD, request.now + FEED_FUTURE_PERIOD
    body = ical.write(
        commands.name_of(calendar_feed),
        _shifts(calendar_feed, since, until),
        since,
        until,
        request.now,
        include_names=calendar_feed.kind != FeedKind.PERSON,
    )
    response = HttpResponse(body, content_type="text/calendar; charset=utf-8")
    response["Cache-Control"] = "private, max-age=300"
    response["Content-Disposition"] = 'inline; filename="on-call.ics"'
    return response


def _is_visible(calendar_feed: CalendarFeed) -> bool:
    """Return whether the owner still sees the group of the feed."""
    limit = boundary.current()
    group_id = calendar_feed.schedule.group_id if calendar_feed.schedule else calendar_feed.group_id
    return limit is None or group_id is None or group_id in limit.groups


def _shifts(calendar_feed: CalendarFeed, since: datetime, until: datetime) -> list[GroupShift]:
    """Return the shifts of the feed, including bounded periods in which the group's member order applies."""
    with database.transaction() as connection:
        match FeedKind(calendar_feed.kind):
            case FeedKind.PERSON:
                group_ids = loader.groups_of(connection, [calendar_feed.owner_id])
            case FeedKind.GROUP:
                group_ids = frozenset({calendar_feed.group_id} if calendar_feed.group_id else ())
            case FeedKind.SCHEDULE:
                group_ids = frozenset({calendar_feed.schedule.group_id} if calendar_feed.schedule else ())
            case FeedKind.ALL:
                group_ids = loader.groups_with_schedule(connection)
        plans = loader.plans(connection, group_ids, since)
    return [
        GroupShift(plan.name, person)
        for plan in plans.values()
        for person in final_schedule.timeline(plan, since, until).segments
        if _belongs(calendar_feed, person) and (person.schedule or (person.since and person.until))
    ]


def _belongs(calendar_feed: CalendarFeed, person: final_schedule.OnCall) -> bool:
    match FeedKind(calendar_feed.kind):
        case FeedKind.PERSON:
            return person.user_id == calendar_feed.owner_id
        case FeedKind.GROUP:
            return True
        case FeedKind.SCHEDULE:
            return calendar_feed.schedule is not None and person.schedule == calendar_feed.schedule.name
        case FeedKind.ALL:
            return bool(person.schedule)
