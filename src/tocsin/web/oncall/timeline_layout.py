"""Lays out a group's timeline as rows of positioned segments, and as a list of days. Pure.

Decides nothing: `oncall.calculation.final_schedule` determines who is on call and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.final_schedule import CoverageGap, LayerSegment, OnCall, Timeline
from tocsin.oncall.calculation.group_snapshot import Absence, GroupPlan
from tocsin.oncall.calculation.schedules import CompiledOverride
from tocsin.people.member_roles import MemberRole

#: Rounding tolerance in percent: segments that overlap by less share a lane.
_CLOSE = 0.001

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
    WINNER = "winner"
    #: One shift, whether or not it is effective.
    SHIFT = "shift"
    OVERRIDES = "overrides"
    ABSENCES = "absences"


@dataclass(frozen=True, slots=True)
class DateRange:
    """A range of days between two local midnights."""

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

    def place(self, at: datetime) -> float:
        """Return the position of a moment in percent of the width, clamped to the range."""
        whole = (self.until - self.since).total_seconds()
        return min(100.0, max(0.0, (at - self.since).total_seconds() / whole * 100))


@dataclass(frozen=True, slots=True)
class TimelineSegment:
    """One segment of a row: its position, and the data for its description."""

    x: float
    width: float
    lane: int
    text: str
    #: CSS class: `who-3`, `gap`, `away`, `hidden`.
    tone: str
    since: datetime | None
    until: datetime | None
    reasons: tuple[str, ...] = ()
    role: str = ""
    user_id: int | None = None
    schedule: str = ""
    override_id: int | None = None
    is_absent: bool = False


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One row of the timeline."""

    kind: RowKind
    label: str
    #: Text beside the label: the schedule's name.
    about: str = ""
    role: str = ""
    schedule: str = ""
    pieces: Sequence[TimelineSegment] = ()
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
    pieces: Sequence[TimelineSegment]
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


def draw(plan: GroupPlan, timeline: Timeline, shown: DateRange, now: datetime) -> TimelineDrawing:
    """Lay out a group's timeline. `timeline` must cover the range `shown`."""
    colours = _ColourAssigner(plan)
    winners = {role: _winners(timeline, role, shown, colours) for role in MemberRole}
    rows = [row for role in MemberRole for row in _role(timeline, role, winners[role], shown, colours)]
    rows += [row for schedule in plan.schedules if (row := _overrides(plan, schedule.name, shown, colours))]
    absences = _absences(plan, shown)
    rows += [absences] if absences else []
    today = weekly_windows.day_of(now, shown.zone)
    holidays = {day: _holiday(plan, day) for day in shown.days}
    pieces = [piece for role in MemberRole for piece in winners[role]]
    return TimelineDrawing(
        shown,
        rows,
        list(_ticks(shown, today, holidays)),
        [DaySummary(day, holidays[day], list(_in_day(pieces, day, shown.zone)), day == today) for day in shown.days],
        shown.place(now) if shown.since <= now < shown.until else None,
    )


def _first(span: TimelineSpan, day: date) -> date:
    match span:
        case TimelineSpan.DAY:
            return day
        case TimelineSpan.WEEK:
            return day - timedelta(days=day.weekday())
        case TimelineSpan.MONTH:
            return day.replace(day=1)


class _ColourAssigner:
    """Assigns each user the same colour in every range."""

    def __init__(self, plan: GroupPlan) -> None:
        self._places = {user_id: place for place, user_id in enumerate(sorted(plan.people))}

    def of(self, user_id: int) -> str:
        return f"who-{self._places.get(user_id, 0) % COLOURS}"


def _role(
    timeline: Timeline, role: MemberRole, winners: Sequence[TimelineSegment], shown: DateRange, colours: _ColourAssigner
) -> Iterator[TimelineRow]:
    """Yield the row of the final schedule of a role, then one row per shift, highest layer first."""
    bars = [bar for bar in timeline.bars if bar.role is role]
    if not winners and not bars:
        return
    schedule = next((bar.schedule for bar in bars), "")
    yield _row(RowKind.WINNER, str(role), winners, role=str(role), schedule=schedule)
    keys = sorted({(-bar.layer, bar.schedule, bar.shift) for bar in bars})
    for layer, schedule, shift in keys:
        own = [bar for bar in bars if (-bar.layer, bar.schedule, bar.shift) == (layer, schedule, shift)]
        if len(own) > _MAX_SHIFTS_PER_ROW:
            continue
        yield _row(
            RowKind.SHIFT,
            shift,
            [_shift(bar, shown, colours) for bar in own],
            about=schedule,
            layer=-layer,
            role=str(role),
            schedule=schedule,
        )


def _row(
    kind: RowKind,
    label: str,
    pieces: Sequence[TimelineSegment],
    *,
    about: str = "",
    role: str = "",
    schedule: str = "",
    layer: int = 0,
) -> TimelineRow:
    placed = list(_in_lanes(pieces))
    lanes = max((piece.lane for piece in placed), default=0) + 1
    return TimelineRow(kind, label, about, role, schedule, placed, lanes, layer)


def _in_lanes(pieces: Sequence[TimelineSegment]) -> Iterator[TimelineSegment]:
    """Assign lanes so that overlapping segments do not cover each other."""
    ends: list[float] = []
    for piece in sorted(pieces, key=lambda one: one.x):
        # The tolerance prevents rounding from moving an adjacent segment to the next lane.
        lane = next((number for number, end in enumerate(ends) if end <= piece.x + _CLOSE), len(ends))
        ends[lane : lane + 1] = [piece.x + piece.width]
        yield replace(piece, lane=lane)


def _winners(timeline: Timeline, role: MemberRole, shown: DateRange, colours: _ColourAssigner) -> list[TimelineSegment]:
    held = [_segment(one, shown, colours) for one in timeline.segments if one.role is role]
    return [*held, *(_gap(gap, shown) for gap in timeline.gaps if gap.role is role)]


def _segment(one: OnCall, shown: DateRange, colours: _ColourAssigner) -> TimelineSegment:
    x, width = _between(shown, one.since, one.until)
    tone = "away" if one.is_absent else colours.of(one.user_id)
    return TimelineSegment(
        x, width, 0, one.name, tone, one.since, one.until, one.reasons or (one.reason,),
        str(one.role), one.user_id, one.schedule, one.override_id, one.is_absent,
    )  # fmt: skip


def _gap(gap: CoverageGap, shown: DateRange) -> TimelineSegment:
    x, width = _between(shown, gap.since, gap.until)
    return TimelineSegment(x, width, 0, "", "gap", gap.since, gap.until, role=str(gap.role))


def _shift(bar: LayerSegment, shown: DateRange, colours: _ColourAssigner) -> TimelineSegment:
    x, width = _between(shown, bar.since, bar.until)
    tone = f"{colours.of(bar.user_id)}{' hidden' if bar.hidden_by else ''}"
    reasons = (bar.hidden_by,) if bar.hidden_by else ()
    return TimelineSegment(
        x, width, 0, bar.name, tone, bar.since, bar.until, reasons, str(bar.role), bar.user_id, bar.schedule
    )  # fmt: skip


def _overrides(plan: GroupPlan, schedule: str, shown: DateRange, colours: _ColourAssigner) -> TimelineRow | None:
    held = next(one for one in plan.schedules if one.name == schedule).overrides
    pieces = [
        _override(plan, one, shown, colours, schedule) for one in held if _touches(one.starts_at, one.ends_at, shown)
    ]
    return _row(RowKind.OVERRIDES, "", pieces, about=schedule, schedule=schedule) if pieces else None


def _override(
    plan: GroupPlan, one: CompiledOverride, shown: DateRange, colours: _ColourAssigner, schedule: str
) -> TimelineSegment:
    x, width = _between(shown, one.starts_at, one.ends_at)
    whose = (plan.name_of(one.instead_of),) if one.instead_of else ()
    return TimelineSegment(
        x, width, 0, plan.name_of(one.user_id), colours.of(one.user_id), one.starts_at, one.ends_at, whose,
        str(one.role or one.shift or ""), one.user_id, schedule, one.id,
    )  # fmt: skip


def _absences(plan: GroupPlan, shown: DateRange) -> TimelineRow | None:
    pieces = [_absence(plan, one, shown) for one in plan.absences if _touches(one.starts_at, one.ends_at, shown)]
    return _row(RowKind.ABSENCES, "", pieces) if pieces else None


def _absence(plan: GroupPlan, one: Absence, shown: DateRange) -> TimelineSegment:
    x, width = _between(shown, one.starts_at, one.ends_at)
    cover = plan.cover_of(one)
    tone = "away" if cover is None else "covered"
    whose = (plan.name_of(cover),) if cover is not None else ()
    return TimelineSegment(
        x, width, 0, plan.name_of(one.user_id), tone, one.starts_at, one.ends_at, whose,
        user_id=one.user_id, is_absent=cover is None,
    )  # fmt: skip


def _between(shown: DateRange, since: datetime | None, until: datetime | None) -> tuple[float, float]:
    begin = shown.place(since) if since else 0.0
    return round(begin, 4), round((shown.place(until) if until else 100.0) - begin, 4)


def _touches(since: datetime, until: datetime, shown: DateRange) -> bool:
    return since < shown.until and until > shown.since


def _holiday(plan: GroupPlan, day: date) -> str:
    """Return the name of a holiday on that day that any of the group's schedules observes, or ""."""
    calendars = {c.name: c for s in plan.schedules for shift in s.shifts for c in shift.calendars}
    return next((name for one in calendars.values() if (name := one.on(day))), "")


def _ticks(shown: DateRange, today: date, holidays: dict[date, str]) -> Iterator[Tick]:
    if shown.span is TimelineSpan.DAY:
        day = shown.first
        for hour in range(0, 24, 2):
            at = weekly_windows.instant(datetime.combine(day, time(hour)), shown.zone)
            x = shown.place(at)
            yield Tick(x, 100 / 12, f"{hour:02d}:00", day, hour, day.weekday() > 4, day == today, holidays[day])
        return
    for day in shown.days:
        x = shown.place(weekly_windows.midnight(day, shown.zone))
        width = shown.place(weekly_windows.midnight(day + timedelta(days=1), shown.zone)) - x
        yield Tick(x, width, "", day, None, day.weekday() > 4, day == today, holidays[day])


def _in_day(pieces: Iterable[TimelineSegment], day: date, zone: ZoneInfo) -> Iterator[TimelineSegment]:
    """Yield the segments that touch the day, by role and start."""
    begin, end = weekly_windows.midnight(day, zone), weekly_windows.midnight(day + timedelta(days=1), zone)
    order = [str(role) for role in MemberRole]
    touching = [p for p in pieces if (p.since is None or p.since < end) and (p.until is None or p.until > begin)]
    yield from sorted(touching, key=lambda p: (order.index(p.role), p.since or begin))
