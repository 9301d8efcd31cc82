"""The final schedules of several groups as days of one month. Pure.

It contains the roles that a group's schedules assign. In all other roles, and in groups without a schedule, the same
members are on call every day.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.core.reasons import sentence
from tocsin.core.validation.inputs import rejected_at
from tocsin.oncall.calculation import coverage_checks, final_schedule, weekly_windows
from tocsin.oncall.calculation.coverage_checks import DoubleRole
from tocsin.oncall.calculation.final_schedule import GroupPlan, Timeline

_DAY = timedelta(days=1)
#: Months that can be shown, with a margin to the limits of date arithmetic on both sides.
_FIRST, _LAST = date(1970, 2, 1), date(2190, 1, 1)


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """One user on call for a part of a day, or nobody: `user_id` is None in a coverage gap."""

    user_id: int | None
    name: str
    #: Cut to the day.
    since: datetime
    until: datetime
    #: The schedules that decide; empty where the group's own order does, and in a gap.
    schedules: tuple[str, ...] = ()
    is_absent: bool = False
    #: Other roles of the group that the same user has meanwhile.
    double_roles: tuple[MemberRole, ...] = ()


@dataclass(frozen=True, slots=True)
class CalendarRole:
    """One role of a group on one day. `entries` are ordered by start, and never empty."""

    group_id: int
    group: str
    role: MemberRole
    entries: tuple[CalendarEntry, ...]


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A local day. `holidays` are the names of the holidays that the groups' schedules observe."""

    day: date
    since: datetime
    until: datetime
    holidays: tuple[str, ...]
    roles: tuple[CalendarRole, ...]


def next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def parse_month(text: str, field: str = "month") -> date:
    """Parses a month such as 2026-12 to its first day. Raises Rejected, naming the field."""
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        month = date.min
    if len(text) != len("2026-12") or not _FIRST <= month <= _LAST:
        raise rejected_at(field, sentence('"{value}" is not a month; write it like 2026-12.', value=text))
    return month


def days_of_month(plans: Iterable[GroupPlan], month: date, zone: ZoneInfo) -> tuple[CalendarDay, ...]:
    """Returns every day of the month that contains `month`, with midnights in `zone`.

    Groups appear in the order of `plans`, without those that have no schedule. Load them from the month's start on.
    """
    first, end = month.replace(day=1), next_month(month)
    dates = [first + number * _DAY for number in range((end - first).days)]
    midnights = [weekly_windows.midnight(day, zone) for day in [*dates, end]]
    bounds = dict(zip(dates, itertools.pairwise(midnights), strict=True))
    scheduled_plans = [plan for plan in plans if plan.schedules]
    roles: dict[date, list[CalendarRole]] = {day: [] for day in dates}
    for plan in scheduled_plans:
        timeline = final_schedule.timeline(plan, midnights[0], midnights[-1])
        for day, role, entries in _entries(timeline, bounds):
            roles[day].append(CalendarRole(plan.id, plan.name, role, tuple(_merge(entries))))
    return tuple(
        CalendarDay(
            day,
            since,
            until,
            tuple(dict.fromkeys(name for plan in scheduled_plans if (name := plan.holiday_on(day)))),
            tuple(roles[day]),
        )
        for day, (since, until) in bounds.items()
    )


def _entries(
    timeline: Timeline, bounds: dict[date, tuple[datetime, datetime]]
) -> Iterator[tuple[date, MemberRole, list[CalendarEntry]]]:
    """Yields the entries of each day and role that a schedule assigns, or leaves without anybody."""
    doubles = coverage_checks.double_roles(timeline)
    scheduled = timeline.scheduled_roles
    entries: dict[tuple[date, MemberRole], list[CalendarEntry]] = {}
    for segment in timeline.segments:
        if segment.role not in scheduled:
            continue
        for day, since, until in _days_within(segment.since, segment.until, bounds):
            other_roles = _other_roles(doubles, segment.user_id, segment.role, since, until)
            entry = CalendarEntry(
                segment.user_id,
                segment.name,
                since,
                until,
                (segment.schedule,) if segment.schedule else (),
                segment.is_absent,
                tuple(dict.fromkeys(other_roles)),
            )
            entries.setdefault((day, segment.role), []).append(entry)
    for gap in timeline.gaps:
        for day, since, until in _days_within(gap.since, gap.until, bounds):
            entries.setdefault((day, gap.role), []).append(CalendarEntry(None, "", since, until))
    for role in MemberRole:
        for day in bounds:
            if (day, role) in entries:
                yield day, role, entries[day, role]


def _days_within(
    since: datetime | None, until: datetime | None, bounds: dict[date, tuple[datetime, datetime]]
) -> Iterator[tuple[date, datetime, datetime]]:
    """Yields each day that the period touches, and the part of the period on that day."""
    for day, (begin, end) in bounds.items():
        # A day that the zone skipped has no length.
        if begin < end and (since is None or since < end) and (until is None or until > begin):
            yield day, max(begin, since or begin), min(end, until or end)


def _other_roles(
    doubles: Sequence[DoubleRole], user_id: int, role: MemberRole, since: datetime, until: datetime
) -> Iterator[MemberRole]:
    for double in doubles:
        overlaps = (double.since or since) < until and (double.until or until) > since
        if double.user_id == user_id and role in double.roles and overlaps:
            yield next(other for other in double.roles if other is not role)


def _merge(entries: Iterable[CalendarEntry]) -> list[CalendarEntry]:
    """Joins adjacent entries of one user, such as two consecutive shifts."""
    merged: list[CalendarEntry] = []
    for entry in sorted(entries, key=lambda one: one.since):
        for index, earlier in enumerate(merged):
            joined = replace(
                earlier,
                until=max(earlier.until, entry.until),
                schedules=tuple(dict.fromkeys((*earlier.schedules, *entry.schedules))),
            )
            is_same = replace(entry, since=joined.since, until=joined.until, schedules=joined.schedules) == joined
            if is_same and earlier.until >= entry.since:
                merged[index] = joined
                break
        else:
            merged.append(entry)
    return merged
