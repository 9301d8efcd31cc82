"""The on-call calendar between two moments: a lane for each group and role, with gaps, collisions, holidays and
absences. Pure.

The calendar, a group's page, the preview of a schedule, a user's own shifts and the API all show this one answer. At
each moment a lane has whom `final_schedule.on_call` names for its role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import combinations
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import coverage_checks, final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import CoverageGap, GroupPlan, LayerSegment, OnCall, Timeline
from tocsin.oncall.calculation.schedules import later, sooner

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LocalDay:
    """A day in the zone of the range, cut to the range. When clocks change it has 23 or 25 hours."""

    day: date
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Duty:
    """What a user can be on call for: one role of a group."""

    group_id: int
    group: str
    role: MemberRole


@dataclass(frozen=True, slots=True)
class Lane:
    """One role of a group over the range. The ends of `segments` are the true ones, and may lie outside.

    Where no shift assigns the role (`is_scheduled` is false), its members are on call by the group's own order.
    """

    duty: Duty
    is_scheduled: bool
    segments: tuple[OnCall, ...]
    gaps: tuple[CoverageGap, ...]
    #: All shifts of the role, those without effect included.
    shifts: tuple[LayerSegment, ...]


@dataclass(frozen=True, slots=True)
class Collision:
    """A period in which one user has two duties: two roles of a group, or the primary role of two groups. An end of
    None is not known."""

    user_id: int
    name: str
    duties: tuple[Duty, Duty]
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Holiday:
    """A holiday that a group's schedules observe."""

    group_id: int
    group: str
    name: str
    day: LocalDay


@dataclass(frozen=True, slots=True)
class AbsenceBand:
    """The absence of a user of a group. Without a `cover` they are still paged."""

    group_id: int
    group: str
    user_id: int
    name: str
    since: datetime
    until: datetime
    cover_id: int | None
    cover: str


@dataclass(frozen=True, slots=True)
class Lanes:
    """The calendar from `since` until `until`. Lanes are in the order of the groups, and by role."""

    since: datetime
    until: datetime
    days: tuple[LocalDay, ...]
    lanes: tuple[Lane, ...]
    collisions: tuple[Collision, ...]
    holidays: tuple[Holiday, ...]
    absences: tuple[AbsenceBand, ...]

    def only(self, keeps: Callable[[Duty], bool]) -> Lanes:
        """Returns the lanes of some duties, with what stands beside them."""
        kept = tuple(lane for lane in self.lanes if keeps(lane.duty))
        group_ids = {lane.duty.group_id for lane in kept}
        return replace(
            self,
            lanes=kept,
            collisions=tuple(one for one in self.collisions if any(keeps(duty) for duty in one.duties)),
            holidays=tuple(one for one in self.holidays if one.group_id in group_ids),
            absences=tuple(one for one in self.absences if one.group_id in group_ids),
        )

    def of_user(self, user_id: int) -> Lanes:
        """Returns one user's part: their duties without those of others."""
        own = {
            lane.duty: replace(lane, segments=segments, gaps=(), shifts=())
            for lane in self.lanes
            if (segments := tuple(one for one in lane.segments if one.user_id == user_id))
        }
        limited = self.only(own.__contains__)
        return replace(
            limited,
            lanes=tuple(own.values()),
            collisions=tuple(one for one in limited.collisions if one.user_id == user_id),
            absences=tuple(one for one in limited.absences if one.user_id == user_id),
        )


def lanes(plans: Iterable[GroupPlan], since: datetime, until: datetime, zone: ZoneInfo) -> Lanes:
    """Returns the calendar of the groups, in the order of `plans`, with days in `zone`.

    Load the plans from `since` on. Collisions are found between these groups only: give all that the viewer may see.
    """
    timelines = [(plan, final_schedule.timeline(plan, since, until)) for plan in plans]
    days = tuple(_days(since, until, zone))
    return Lanes(
        since,
        until,
        days,
        tuple(lane for plan, timeline in timelines for lane in _lanes(plan, timeline)),
        tuple(sorted(_collisions(timelines), key=lambda one: (one.since or since, one.name.casefold()))),
        tuple(
            Holiday(plan.id, plan.name, name, day)
            for plan, _timeline in timelines
            for day in days
            if (name := plan.holiday_on(day.day))
        ),
        tuple(band for plan, _timeline in timelines for band in _absences(plan, since, until)),
    )


def _days(since: datetime, until: datetime, zone: ZoneInfo) -> Iterator[LocalDay]:
    day = weekly_windows.day_of(since, zone)
    while (begin := weekly_windows.midnight(day, zone)) < until:
        end = weekly_windows.midnight(day + _DAY, zone)
        # A day that the zone skipped has no length.
        if max(begin, since) < min(end, until):
            yield LocalDay(day, max(begin, since), min(end, until))
        day += _DAY


def _lanes(plan: GroupPlan, timeline: Timeline) -> Iterator[Lane]:
    for role in MemberRole:
        lane = Lane(
            Duty(plan.id, plan.name, role),
            role in timeline.scheduled_roles,
            tuple(one for one in timeline.segments if one.role is role),
            tuple(gap for gap in timeline.gaps if gap.role is role),
            tuple(one for one in timeline.layer_segments if one.role is role),
        )
        if lane.segments or lane.gaps or lane.shifts:
            yield lane


def _collisions(timelines: Iterable[tuple[GroupPlan, Timeline]]) -> Iterator[Collision]:
    primaries: dict[int, list[tuple[Duty, OnCall]]] = {}
    for plan, timeline in timelines:
        for double in coverage_checks.double_roles(timeline):
            first, second = (Duty(plan.id, plan.name, role) for role in double.roles)
            yield Collision(double.user_id, double.name, (first, second), double.since, double.until)
        for segment in coverage_checks.counted(timeline):
            if segment.role is MemberRole.PRIMARY:
                duty = Duty(plan.id, plan.name, segment.role)
                primaries.setdefault(segment.user_id, []).append((duty, segment))
    for duties in primaries.values():
        for (duty, one), (other_duty, other) in combinations(duties, 2):
            # Whoever is first in the order of two groups without a schedule is not planned twice.
            is_planned = one.schedule or other.schedule
            if duty != other_duty and is_planned and coverage_checks.overlap_in_time(one, other):
                since, until = later(one.since, other.since), sooner(one.until, other.until)
                yield Collision(one.user_id, one.name, (duty, other_duty), since, until)


def _absences(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[AbsenceBand]:
    for one in plan.absences:
        if one.starts_at < until and one.ends_at > since:
            cover_id = plan.cover_of(one)
            yield AbsenceBand(
                plan.id, plan.name, one.user_id, plan.name_of(one.user_id), one.starts_at, one.ends_at,
                cover_id, plan.name_of(cover_id) if cover_id is not None else "",
            )  # fmt: skip
