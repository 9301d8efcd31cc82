"""How much each user is on call, and how far that is from an even share within each group. Pure.

The time is what the calendar of the month shows: roles that a schedule assigns in the period, including the members who
are on call by the group's own order while no shift is on. Time in several roles of a group counts once; time in several
groups counts once for each group. Nights and weekends are those of the user's time zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.core.config.night_hours import NightHours
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.resolver import OnCallResolver
from tocsin.people.member_roles import MemberRole

_DAY = timedelta(days=1)
_NOTHING = timedelta()
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class OnCallTime:
    """Time on call, and the parts of it at night, on Saturdays and Sundays, and on holidays of the group."""

    total: timedelta = _NOTHING
    night: timedelta = _NOTHING
    weekend: timedelta = _NOTHING
    holiday: timedelta = _NOTHING

    def __add__(self, other: OnCallTime) -> OnCallTime:
        return OnCallTime(
            self.total + other.total,
            self.night + other.night,
            self.weekend + other.weekend,
            self.holiday + other.holiday,
        )

    def __sub__(self, other: OnCallTime) -> OnCallTime:
        return OnCallTime(
            self.total - other.total,
            self.night - other.night,
            self.weekend - other.weekend,
            self.holiday - other.holiday,
        )

    def __truediv__(self, count: int) -> OnCallTime:
        return OnCallTime(self.total / count, self.night / count, self.weekend / count, self.holiday / count)


@dataclass(frozen=True, slots=True)
class Workload:
    """One user's time on call, and the even share: the time of each of their groups, divided by the users of its shifts
    and its order. A user who only replaces others has no share."""

    user_id: int
    name: str
    time: OnCallTime
    even_share: OnCallTime

    @property
    def difference(self) -> OnCallTime:
        """What the user has above the even share; negative below it."""
        return self.time - self.even_share


def workloads(
    plans: Iterable[GroupPlan],
    since: datetime,
    until: datetime,
    night: NightHours,
    zones: Mapping[int, ZoneInfo],
    role: MemberRole | None = None,
) -> tuple[Workload, ...]:
    """Returns everybody's workload from `since` to `until`, the highest first.

    That is each user who is on call, and each active user whom a shift of the period names. `zones` are the users' time
    zones by id. With a role only time in it counts.
    """
    loads: dict[int, Workload] = {}
    for plan in plans:
        segments = _segments(plan, since, until, role)
        periods = _periods(segments, since, until)
        regular_ids = {one.user_id for one in segments if not one.schedule} | _shift_users(plan, since, until, role)
        # Where only overrides and covers assign anybody, those users share the time.
        sharing_ids = regular_ids or periods.keys()
        user_ids = periods.keys() | regular_ids
        times = {user_id: _time(plan, periods.get(user_id, ()), night, zones.get(user_id)) for user_id in user_ids}
        share = sum(times.values(), OnCallTime()) / max(len(sharing_ids), 1)
        for user_id, time in times.items():
            other = loads.get(user_id, Workload(user_id, plan.name_of(user_id), OnCallTime(), OnCallTime()))
            own_share = other.even_share + share if user_id in sharing_ids else other.even_share
            loads[user_id] = Workload(user_id, other.name, other.time + time, own_share)
    return tuple(sorted(loads.values(), key=lambda load: (-load.time.total, load.name.casefold(), load.user_id)))


def _segments(plan: GroupPlan, since: datetime, until: datetime, role: MemberRole | None) -> list[OnCall]:
    timeline = final_schedule.timeline(plan, since, until)
    roles = timeline.scheduled_roles if role is None else timeline.scheduled_roles & {role}
    return [segment for segment in timeline.segments if segment.role in roles]


def _periods(
    segments: Iterable[OnCall], since: datetime, until: datetime
) -> dict[int, list[tuple[datetime, datetime]]]:
    """Returns when each user is on call, without overlaps."""
    periods: dict[int, list[tuple[datetime, datetime]]] = {}
    spans = [(max(one.since or since, since), min(one.until or until, until), one.user_id) for one in segments]
    for begin, end, user_id in sorted(spans):
        own = periods.setdefault(user_id, [])
        if own and begin <= own[-1][1]:
            own[-1] = own[-1][0], max(own[-1][1], end)
        else:
            own.append((begin, end))
    return periods


def _shift_users(plan: GroupPlan, since: datetime, until: datetime, role: MemberRole | None) -> set[int]:
    """Returns the active users whom a shift of the period names."""
    roles = OnCallResolver(plan).roles
    return {
        user_id
        for schedule in plan.schedules
        for shift, shift_roles in zip(schedule.shifts, roles[schedule.name], strict=True)
        if (shift.start is None or shift.start < until)
        and (shift.end is None or shift.end > since)
        and (role is None or role in shift_roles)
        for user_id in shift.users
        if plan.is_active_user(user_id)
    }


def _time(
    plan: GroupPlan, periods: Iterable[tuple[datetime, datetime]], night: NightHours, zone: ZoneInfo | None
) -> OnCallTime:
    time = OnCallTime()
    for begin, end in periods:
        for part in _daily_parts(plan, begin, end, night, zone or ZoneInfo("UTC")):
            time += part
    return time


def _daily_parts(
    plan: GroupPlan, begin: datetime, end: datetime, night: NightHours, zone: ZoneInfo
) -> Iterator[OnCallTime]:
    """Yields the time on each local day of a period. A night belongs to the day on which it begins."""
    # The night that began on the day before may still last.
    day = begin.astimezone(zone).date() - _DAY
    while (midnight := weekly_windows.midnight(day, zone)) < end:
        tomorrow = day + _DAY
        next_midnight = weekly_windows.midnight(tomorrow, zone)
        # A day that the zone skipped has no length, and no night.
        if midnight < next_midnight:
            total = _overlap(begin, end, midnight, next_midnight)
            night_end = datetime.combine(day if night.start < night.end else tomorrow, night.end)
            yield OnCallTime(
                total,
                _overlap(
                    begin,
                    end,
                    weekly_windows.instant(datetime.combine(day, night.start), zone),
                    weekly_windows.instant(night_end, zone),
                ),
                total if day.weekday() >= _SATURDAY else _NOTHING,
                total if plan.holiday_on(day) else _NOTHING,
            )
        day = tomorrow


def _overlap(begin: datetime, end: datetime, since: datetime, until: datetime) -> timedelta:
    # In UTC, since a difference within one zone ignores a change of its clocks.
    return max(_NOTHING, min(end, until).astimezone(UTC) - max(begin, since).astimezone(UTC))
