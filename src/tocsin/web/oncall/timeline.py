"""A group's schedule as a timeline by day, week or month, with its schedules and their actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from tocsin.access.roles import MemberRole, Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, final_schedule, month_calendar, weekly_windows
from tocsin.oncall.calculation.final_schedule import GroupPlan, Timeline
from tocsin.oncall.calculation.month_calendar import CalendarDay
from tocsin.oncall.calculation.schedules import CompiledSchedule
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import CalendarFeed, FeedKind, Schedule
from tocsin.people.models import Group
from tocsin.resources.registry import GROUPS
from tocsin.web.http.request import SignedInRequest, find_object, may, render_view
from tocsin.web.oncall import board, schedules, shift_forms, swaps
from tocsin.web.ui.forms import user_zone

# ---------- timeline layout
# Lays out a group's timeline as rows of positioned segments, and as a list of days. Pure.
#
# Decides nothing: `oncall.calculation.final_schedule` determines who is on call and why.

#: Rounding tolerance in percent: segments that overlap by less share a lane.
_LANE_TOLERANCE = 0.001

#: A shift with more segments in the range would be an unreadable bar and is omitted; shorter ranges show it.
_MAX_SHIFTS_PER_ROW = 200

#: Number of distinct colours for users, assigned in rotation.
COLOURS = 8


class TimelineSpan(StrEnum):
    """Length of the displayed range."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class RowKind(StrEnum):
    """The content of a row."""

    #: The final schedule of a role.
    FINAL = "winner"
    #: One shift, whether or not it is effective.
    SHIFT = "shift"
    OVERRIDES = "overrides"
    ABSENCES = "absences"


@dataclass(frozen=True, slots=True)
class DateRange:
    span: TimelineSpan
    first: date
    #: The day after the last one.
    end: date
    zone: ZoneInfo

    @property
    def since(self) -> datetime:
        return weekly_windows.midnight(self.first, self.zone)

    @property
    def until(self) -> datetime:
        return weekly_windows.midnight(self.end, self.zone)

    @property
    def midnights(self) -> list[datetime]:
        """The start of each day, and the end of the range."""
        return [*(weekly_windows.midnight(day, self.zone) for day in self.days), self.until]

    @property
    def earlier(self) -> date:
        """The first day of the preceding range."""
        return _first(self.span, self.first - timedelta(days=1))

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=number) for number in range((self.end - self.first).days)]

    def position(self, at: datetime) -> float:
        """Return the position of a moment in percent of the width, clamped to the range."""
        total_seconds = (self.until - self.since).total_seconds()
        return min(100.0, max(0.0, (at - self.since).total_seconds() / total_seconds * 100))


@dataclass(frozen=True, slots=True)
class TimelineSegment:
    """One segment of a row: its position, and the data for its description."""

    x: float
    width: float
    lane: int
    text: str
    #: CSS class: `user-3`, `gap`, `away`, `hidden`.
    tone: str
    since: datetime | None
    until: datetime | None
    reasons: tuple[Reason, ...] = ()
    role: str = ""
    user_id: int | None = None
    schedule: str = ""
    override_id: int | None = None
    is_absent: bool = False
    #: Who is replaced by an override, or covers during an absence.
    other_person: str = ""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    kind: RowKind
    label: str
    #: Text beside the label: the schedule's name.
    subtitle: str = ""
    role: str = ""
    schedule: str = ""
    segments: Sequence[TimelineSegment] = ()
    lanes: int = 1
    #: The layer, for a shift row.
    layer: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """A vertical grid line for a day or an hour, with its label."""

    x: float
    width: float
    text: str
    day: date
    hour: int | None = None
    is_weekend: bool = False
    is_today: bool = False
    holiday: str = ""


@dataclass(frozen=True, slots=True)
class DaySummary:
    """One day of the list: the users on call, with the part of the day if they do not cover all of it."""

    day: date
    holiday: str
    segments: Sequence[TimelineSegment]
    is_today: bool = False


@dataclass(frozen=True, slots=True)
class TimelineDrawing:
    """The complete layout. `now` is the position of the current time in percent, or None if it is out of range."""

    range: DateRange
    rows: Sequence[TimelineRow]
    ticks: Sequence[Tick]
    days: Sequence[DaySummary] = field(default_factory=tuple)
    now: float | None = None


def range_of(span: TimelineSpan, day: date, zone: ZoneInfo) -> DateRange:
    """Return the day, the week from Monday, or the month that contains `day`."""
    first = _first(span, day)
    match span:
        case TimelineSpan.DAY:
            end = first + timedelta(days=1)
        case TimelineSpan.WEEK:
            end = first + timedelta(days=7)
        case TimelineSpan.MONTH:
            end = (first + timedelta(days=32)).replace(day=1)
    return DateRange(span, first, end, zone)


def draw(plan: GroupPlan, timeline: Timeline, date_range: DateRange, now: datetime) -> TimelineDrawing:
    """Lay out a group's timeline. `timeline` must cover the range `date_range`."""
    today = weekly_windows.day_of(now, date_range.zone)
    holidays = {day: plan.holiday_on(day) for day in date_range.days}
    layout = _Layout(plan, timeline, date_range)
    winners = {role: layout.winners(role) for role in MemberRole}
    segments = [segment for role in MemberRole for segment in winners[role]]
    return TimelineDrawing(
        date_range,
        [
            *(row for role in MemberRole for row in layout.role_rows(role, winners[role])),
            *(row for schedule in plan.schedules for row in layout.override_rows(schedule)),
            *layout.absence_rows(),
        ],
        list(_ticks(date_range, today, holidays)),
        [
            DaySummary(day, holidays[day], list(_segments_of_day(segments, day, date_range.zone)), day == today)
            for day in date_range.days
        ],
        date_range.position(now) if date_range.since <= now < date_range.until else None,
    )


def _first(span: TimelineSpan, day: date) -> date:
    match span:
        case TimelineSpan.DAY:
            return day
        case TimelineSpan.WEEK:
            return day - timedelta(days=day.weekday())
        case TimelineSpan.MONTH:
            return day.replace(day=1)


def colour_class(number: int) -> str:
    """Return the CSS class of the user with that number; numbers beyond the distinct colours repeat them."""
    return f"user-{number % COLOURS}"


class _Layout:
    """Makes the rows of one group and range. A user has the same colour in every range."""

    def __init__(self, plan: GroupPlan, timeline: Timeline, date_range: DateRange) -> None:
        self._plan, self._timeline, self._range = plan, timeline, date_range
        self._colours = {user_id: colour_class(index) for index, user_id in enumerate(sorted(plan.users))}

    def winners(self, role: MemberRole) -> list[TimelineSegment]:
        """Return who is on call in a role, and its gaps."""
        return [
            *(
                self._segment(
                    one.since, one.until, one.name, "away" if one.is_absent else self._colour(one.user_id),
                    reasons=one.reasons or (one.reason,), role=str(one.role), user_id=one.user_id,
                    schedule=one.schedule, override_id=one.override_id, is_absent=one.is_absent,
                )
                for one in self._timeline.segments
                if one.role is role
            ),
            *(
                self._segment(gap.since, gap.until, "", "gap", role=str(gap.role))
                for gap in self._timeline.gaps
                if gap.role is role
            ),
        ]  # fmt: skip

    def role_rows(self, role: MemberRole, winners: Sequence[TimelineSegment]) -> Iterator[TimelineRow]:
        """Yield the row of the final schedule of a role, then one row per shift, highest layer first."""
        bars = [bar for bar in self._timeline.layer_segments if bar.role is role]
        if not winners and not bars:
            return
        schedule = next((bar.schedule for bar in bars), "")
        yield _row(RowKind.FINAL, str(role), winners, role=str(role), schedule=schedule)
        by_shift: dict[tuple[int, str, str], list[TimelineSegment]] = {}
        for bar in bars:
            tone = f"{self._colour(bar.user_id)}{' hidden' if bar.hidden_by else ''}"
            by_shift.setdefault((-bar.layer, bar.schedule, bar.shift), []).append(
                self._segment(
                    bar.since, bar.until, bar.name, tone, reasons=(bar.hidden_by,) if bar.hidden_by else (),
                    role=str(bar.role), user_id=bar.user_id, schedule=bar.schedule,
                )
            )  # fmt: skip
        for (layer, schedule, shift), segments in sorted(by_shift.items(), key=lambda item: item[0]):
            if len(segments) <= _MAX_SHIFTS_PER_ROW:
                values = {"subtitle": schedule, "role": str(role), "schedule": schedule}
                yield _row(RowKind.SHIFT, shift, segments, layer=-layer, **values)

    def override_rows(self, schedule: CompiledSchedule) -> Iterator[TimelineRow]:
        """Yield the row of a schedule's overrides, if it has any in the range."""
        name_of = self._plan.name_of
        segments = [
            self._segment(
                one.starts_at, one.ends_at, name_of(one.user_id), self._colour(one.user_id),
                role=str(one.role or one.shift or ""), user_id=one.user_id, schedule=schedule.name,
                override_id=one.id, other_person=name_of(one.instead_of) if one.instead_of else "",
            )
            for one in schedule.overrides
            if one.starts_at < self._range.until and one.ends_at > self._range.since
        ]  # fmt: skip
        if segments:
            yield _row(RowKind.OVERRIDES, "", segments, subtitle=schedule.name, schedule=schedule.name)

    def absence_rows(self) -> Iterator[TimelineRow]:
        """Yield the row of the absences, if there are any in the range."""
        name_of, segments = self._plan.name_of, []
        for one in self._plan.absences:
            if one.starts_at < self._range.until and one.ends_at > self._range.since:
                cover = self._plan.cover_of(one)
                segments.append(
                    self._segment(
                        one.starts_at, one.ends_at, name_of(one.user_id), "away" if cover is None else "covered",
                        user_id=one.user_id, is_absent=cover is None,
                        other_person=name_of(cover) if cover is not None else "",
                    )
                )  # fmt: skip
        if segments:
            yield _row(RowKind.ABSENCES, "", segments)

    def _colour(self, user_id: int) -> str:
        return self._colours.get(user_id, colour_class(0))

    def _segment(
        self, since: datetime | None, until: datetime | None, text: str, tone: str, **details: Any
    ) -> TimelineSegment:
        begin = self._range.position(since) if since else 0.0
        width = (self._range.position(until) if until else 100.0) - begin
        return TimelineSegment(round(begin, 4), round(width, 4), 0, text, tone, since, until, **details)


def _row(kind: RowKind, label: str, segments: Sequence[TimelineSegment], **details: Any) -> TimelineRow:
    laned = list(_assign_lanes(segments))
    lanes = max((segment.lane for segment in laned), default=0) + 1
    return TimelineRow(kind, label, segments=laned, lanes=lanes, **details)


def _assign_lanes(segments: Sequence[TimelineSegment]) -> Iterator[TimelineSegment]:
    """Assign lanes so that overlapping segments do not cover each other."""
    ends: list[float] = []
    for segment in sorted(segments, key=lambda candidate: candidate.x):
        # The tolerance prevents rounding from moving an adjacent segment to the next lane.
        lane = next((number for number, end in enumerate(ends) if end <= segment.x + _LANE_TOLERANCE), len(ends))
        ends[lane : lane + 1] = [segment.x + segment.width]
        yield replace(segment, lane=lane)


def _ticks(date_range: DateRange, today: date, holidays: dict[date, str]) -> Iterator[Tick]:
    if date_range.span is TimelineSpan.DAY:
        day = date_range.first
        for hour in range(0, 24, 2):
            at = weekly_windows.instant(datetime.combine(day, time(hour)), date_range.zone)
            x = date_range.position(at)
            yield Tick(x, 100 / 12, f"{hour:02d}:00", day, hour, day.weekday() > 4, day == today, holidays[day])
        return
    for day in date_range.days:
        x = date_range.position(weekly_windows.midnight(day, date_range.zone))
        width = date_range.position(weekly_windows.midnight(day + timedelta(days=1), date_range.zone)) - x
        yield Tick(x, width, "", day, None, day.weekday() > 4, day == today, holidays[day])


def _segments_of_day(segments: Iterable[TimelineSegment], day: date, zone: ZoneInfo) -> Iterator[TimelineSegment]:
    """Yield the segments that touch the day, by role and start."""
    begin, end = weekly_windows.midnight(day, zone), weekly_windows.midnight(day + timedelta(days=1), zone)
    order = [str(role) for role in MemberRole]
    overlapping = [
        segment
        for segment in segments
        if (segment.since is None or segment.since < end) and (segment.until is None or segment.until > begin)
    ]
    yield from sorted(overlapping, key=lambda segment: (order.index(segment.role), segment.since or begin))


#: Range of selectable dates, with a margin to the limits of date arithmetic on both sides.
_FIRST, _LAST = date(1970, 2, 1), date(2190, 1, 1)


@require_safe
def group_schedule(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the group's timeline, with coverage warnings for the next 60 days and the readiness of the next shifts."""
    group = find_object(GROUPS, number)
    zone = user_zone()
    span_name = request.GET.get("show", "")
    span = TimelineSpan(span_name) if span_name in list(TimelineSpan) else TimelineSpan.WEEK
    today = weekly_windows.day_of(request.now, zone)
    date_range = range_of(span, _day(request.GET.get("day", ""), today), zone)
    plan, warnings = _plan(group, date_range.since, request.now)
    layout = draw(plan, final_schedule.timeline(plan, date_range.since, date_range.until), date_range, request.now)
    schedules = list(Schedule.objects.filter(group=group).prefetch_related("imports", overrides.prefetched()))
    names = commands.user_names(schedules, "display_name")
    context = {
        "group": group,
        "layout": layout,
        "has_holidays": any(tick.holiday for tick in layout.ticks),
        "spans": list(TimelineSpan),
        "as_list": request.GET.get("view") == "list",
        "warnings": warnings,
        "readiness": board.of_group(group, request.now),
        "schedules": [
            (schedule, shift_forms.lines(schedule.definition, names), overrides.current(schedule, request.now))
            for schedule in schedules
        ],
        "swap_requests": swaps.requests_received(request.user, request.now),
        "may_change": may(request, Permission.MANAGE_TEAMS, group),
        "zone": zone.key,
    }
    return render_view(request, "oncall/group_schedule.html", context, partials=("timeline",))


def segment_url(segment: TimelineSegment, group_id: int, date_range: DateRange) -> str:
    """Return the URL of the reassign form, prefilled with the segment."""
    fields = {
        "role": segment.role,
        "user": segment.user_id,
        "schedule": segment.schedule,
        "from": (segment.since or date_range.since).isoformat(),
        "to": (segment.until or date_range.until).isoformat(),
    }
    return f"{reverse('reassign', args=[group_id])}?{urlencode({k: v for k, v in fields.items() if v})}"


def _plan(group: Group, since: datetime, now: datetime) -> tuple[GroupPlan, Sequence[str]]:
    """Return the group's plan from `since`, and its coverage warnings from now on as sentences."""
    with database.transaction() as connection:
        plan = loader.plan(connection, group.pk, min(since, now)) or GroupPlan(group.pk, group.name)
        findings = schedules.findings_of_plans(connection, {group.pk: plan}, now, coverage_checks.COVERAGE_HORIZON)
    return plan, schedules.sentences(findings[group.pk], now)


def _day(text: str, today: date) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return today
    return min(max(day, _FIRST), _LAST)


# ---------- month view
# `/on-call/calendar/`: who is on call in every group, or in one, by day of a month.


@require_safe
def calendar(request: SignedInRequest) -> HttpResponse:
    """Render the month in the query string, else the current one."""
    zone = user_zone()
    today = weekly_windows.day_of(request.now, zone)
    try:
        month = month_calendar.parse_month(request.GET.get("month", ""))
    except Rejected:
        month = today
    date_range = range_of(TimelineSpan.MONTH, month, zone)
    with database.transaction() as connection:
        group_ids = loader.groups_with_schedule(connection)
        groups = list(Group.objects.filter(pk__in=group_ids).order_by("name"))
        selected = next((group for group in groups if str(group.pk) == request.GET.get("group")), None)
        shown = [selected] if selected else groups
        plans = loader.plans(connection, [group.pk for group in shown], date_range.since)
    days = month_calendar.days_of_month((plans[group.pk] for group in shown), month, zone)
    feeds = CalendarFeed.objects.filter(owner=request.user, kind=FeedKind.GROUP if selected else FeedKind.ALL)
    context = {
        "range": date_range,
        "week": _first_week(date_range),
        "days": days,
        "today": today,
        # A phone shows the current month from today on.
        "earlier_days": "past" in request.GET,
        "colours": _colours(days),
        "groups": groups,
        "selected": selected,
        "feed": feeds.filter(group=selected).first(),
        "feed_kind": FeedKind.GROUP if selected else FeedKind.ALL,
        "zone": zone.key,
    }
    return render_view(request, "oncall/calendar.html", context, partials=("month",))


def _first_week(date_range: DateRange) -> list[date]:
    """Return Monday to Sunday of the week in which the month begins."""
    monday = date_range.first - timedelta(days=date_range.first.weekday())
    return [monday + timedelta(days=number) for number in range(7)]


def _colours(days: Iterable[CalendarDay]) -> dict[int, str]:
    user_ids = {
        entry.user_id for day in days for role in day.roles for entry in role.entries if entry.user_id is not None
    }
    return {user_id: colour_class(number) for number, user_id in enumerate(sorted(user_ids))}
