"""Loads a group's schedules, with shifts and overrides, from their stored form. Pure.

`final_schedule` calculates from them who is on call.
"""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.core.validation import inputs
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import HolidayDays, MergedWeek

# ---------- shifts
# Shifts: who is on call in one at a moment, from when until when, and the moments at which that may change. Pure.
# All calculations use local time in the shift's zone (see `weekly_windows`), so a rotation hands over at the same
# local time all year, and never drifts. A handoff at a time that a clock change skips happens that much later, but
# never after the next one. At a time that occurs twice, only the first counts.


_DAY = timedelta(days=1)
#: Maximum number of days that are searched for holidays before and after a moment.
_MAX_STEPS = 400


class OnHolidays(StrEnum):
    """How a shift behaves on the days of its holiday calendars, from midnight to midnight in its zone."""

    RUN = "run"
    SKIP = "skip"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class ShiftOccurrence:
    """One user in one role through one shift, for a period; a bound of None is open.

    `role` is None if the user has their own roles in the group.
    """

    role: MemberRole | None
    user_id: int
    since: datetime | None
    until: datetime | None
    shift: str
    layer: int = 1


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The users in a pattern's places, in order, for a period."""

    since: datetime | None
    until: datetime | None
    users: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MonthInterval:
    """An interval of whole months, to a day of the month (at most its last), or to its first given weekday."""

    count: int
    day: int | None = None
    weekday: int | None = None

    def after(self, first: datetime, steps: int) -> datetime:
        """Returns the local time `steps` intervals after `first`, which must be such a day."""
        years, month = divmod(first.month - 1 + steps * self.count, 12)
        return datetime.combine(self.in_month(first.year + years, month + 1), first.time())

    def in_month(self, year: int, month: int) -> date:
        if self.weekday is not None:
            begin = date(year, month, 1)
            return begin + timedelta(days=(self.weekday - begin.weekday()) % 7)
        return date(year, month, min(self.day or 1, calendar.monthrange(year, month)[1]))


@dataclass(frozen=True, slots=True)
class Rotation:
    """Users who rotate through places.

    After k handoffs, place i belongs to user (k·move + i) mod n. The first handoff is at `first`, a local time; the
    next ones follow at intervals of `every`. With `week`, the shift is on only in its windows, and handoffs outside
    them count too.
    """

    users: tuple[int, ...]
    first: datetime
    every: timedelta | MonthInterval
    move: int = 1
    week: MergedWeek | None = None

    def occupants_at(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        """Returns the users in the places at `at`, starting from the current one; nothing before the first handoff."""
        number, since, until = self._handoff_around(zone, at)
        if number < 0:
            return []
        if self.week is not None and not self.week.is_always:
            window = self.week.current(zone, at)
            if window is None:
                return []
            since, until = max(since, window[0]), window[1] if until is None else min(until, window[1])
        offset = number * self.move % len(self.users)
        return [Occupancy(since, until, self.users[offset:] + self.users[:offset])]

    def transitions(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yields every moment after `since` and before `until` at which the result of `held` may change."""
        number = max(-1, self._handoff_around(zone, since)[0]) + 1
        moment = self.handoff_time(number, zone)
        while moment < until and not (number and self._is_static):
            if moment > since:
                yield moment
            number += 1
            moment = self.handoff_time(number, zone)
        if self.week is not None:
            yield from self.week.transitions(zone, since, until)

    def handoff_time(self, number: int, zone: ZoneInfo) -> datetime:
        """Returns the time in UTC of the handoff with this number, from 0; never before that of the previous one."""
        local = self._local(number)
        moment = weekly_windows.instant(local, zone)
        if weekly_windows.exists(local, zone):
            return moment
        # A clock change skips this time. If it skips several handoffs, the first time after the change limits all of
        # them.
        following = number + 1
        while not weekly_windows.exists(self._local(following), zone):
            following += 1
        return min(moment, weekly_windows.instant(self._local(following), zone))

    @property
    def _is_static(self) -> bool:
        return self.move % len(self.users) == 0

    def _local(self, number: int) -> datetime:
        if isinstance(self.every, MonthInterval):
            return self.every.after(self.first, number)
        return self.first + number * self.every

    def _handoff_around(self, zone: ZoneInfo, at: datetime) -> tuple[int, datetime, datetime | None]:
        """Returns the last handoff's number at `at`, its time, and the time of the next one that changes anything.

        The number is negative before the first handoff.
        """
        local = at.astimezone(zone).replace(tzinfo=None)
        if isinstance(self.every, MonthInterval):
            number = ((local.year - self.first.year) * 12 + local.month - self.first.month) // self.every.count
        else:
            number = (local - self.first) // self.every
        # Local time jumps, so the estimated number may be off near a clock change.
        following = self.handoff_time(number + 1, zone)
        while following <= at:
            number, following = number + 1, self.handoff_time(number + 2, zone)
        moment = self.handoff_time(number, zone)
        while moment > at:
            number, following, moment = number - 1, moment, self.handoff_time(number - 1, zone)
        if number > 0 and self._is_static:
            return number, self.handoff_time(0, zone), None
        return number, moment, None if self._is_static else following


@dataclass(frozen=True, slots=True)
class Weekly:
    users: tuple[int, ...]
    week: MergedWeek

    def occupants_at(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        if self.week.is_always:
            return [Occupancy(None, None, self.users)]
        span = self.week.current(zone, at)
        return [Occupancy(*span, self.users)] if span else []

    def transitions(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        return self.week.transitions(zone, since, until)


@dataclass(frozen=True, slots=True)
class FixedSpan:
    """The same users in one period between two local times, repeated at intervals of `every`, if given."""

    users: tuple[int, ...]
    begin: datetime
    end: datetime
    every: timedelta | None = None

    def occupants_at(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        number = self._number(zone, at)
        for near in (number - 1, number, number + 1):
            if near == 0 or (near > 0 and self.every is not None):
                since, until = self._occurrence(near, zone)
                if since <= at < until:
                    return [Occupancy(since, until, self.users)]
        return []

    def transitions(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        number = max(0, self._number(zone, since) - 1)
        while True:
            span = self._occurrence(number, zone)
            yield from (transition for transition in span if since < transition < until)
            number += 1
            if self.every is None or span[0] >= until:
                return

    def _number(self, zone: ZoneInfo, at: datetime) -> int:
        if self.every is None:
            return 0
        return (at.astimezone(zone).replace(tzinfo=None) - self.begin) // self.every

    def _occurrence(self, number: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
        later = number * self.every if self.every else timedelta()
        return weekly_windows.instant(self.begin + later, zone), weekly_windows.instant(self.end + later, zone)


@dataclass(frozen=True, slots=True)
class ImportedShifts:
    """Periods imported from an external calendar: (user, from, to), with times in UTC, in order."""

    spans: tuple[tuple[int, datetime, datetime], ...] = ()
    #: Length of the longest period, which bounds the search for overlapping ones.
    _max_length: timedelta = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        max_length = max((until - since for _, since, until in self.spans), default=timedelta())
        object.__setattr__(self, "_max_length", max_length)

    @property
    def users(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(user for user, _, _ in self.spans))

    def occupants_at(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        del zone
        return [Occupancy(since, until, (user,)) for user, since, until in self.spans if since <= at < until]

    def transitions(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        del zone
        begin = bisect_right(self.spans, since - self._max_length - _DAY, key=lambda span: span[1])
        for _, *span in self.spans[begin:]:
            yield from (transition for transition in span if since < transition < until)


type ShiftPattern = Rotation | Weekly | FixedSpan | ImportedShifts


@dataclass(frozen=True, slots=True)
class Shift:
    """A pattern in a time zone and layer, from `start` to `end`, with its behaviour on holidays.

    In a rotation, the n-th of `roles` is that of the n-th place; in every other pattern, each user has each role. Empty
    `roles` mean the users' own roles in the group.
    """

    name: str
    zone: ZoneInfo
    roles: tuple[MemberRole, ...]
    pattern: ShiftPattern
    layer: int = 1
    start: datetime | None = None
    end: datetime | None = None
    on_holidays: OnHolidays = OnHolidays.RUN
    calendars: tuple[HolidayDays, ...] = ()

    @property
    def users(self) -> tuple[int, ...]:
        return self.pattern.users

    def occurrences(self, at: datetime) -> list[ShiftOccurrence]:
        """Returns who is on call at `at`: for a rotation in the order of roles, else by role and user order."""
        if (self.start and at < self.start) or (self.end and at >= self.end):
            return []
        return [
            ShiftOccurrence(role, user, *span, self.name, self.layer)
            for occupancy in self.pattern.occupants_at(self.zone, at)
            if (span := self._active_period(occupancy, at)) is not None
            for role, user in self._assign_roles(occupancy)
        ]

    def transitions(self, since: datetime, until: datetime) -> Iterator[datetime]:
        begin, end = max(since, self.start or since), min(until, self.end or until)
        if begin >= end:
            return
        yield from (transition for transition in (self.start, self.end) if transition and since < transition < until)
        yield from self.pattern.transitions(self.zone, begin, end)
        if self.on_holidays is not OnHolidays.RUN:
            yield from (transition for transition in self._holiday_transitions(begin, end) if begin < transition < end)

    def _assign_roles(self, occupancy: Occupancy) -> list[tuple[MemberRole | None, int]]:
        roles: tuple[MemberRole | None, ...] = self.roles or (None,)
        if isinstance(self.pattern, Rotation):
            return list(zip(roles, occupancy.users, strict=False))
        return [(role, user) for role in roles for user in occupancy.users]

    def _active_period(self, occupancy: Occupancy, at: datetime) -> tuple[datetime | None, datetime | None] | None:
        """Returns the period of `occupancy` around `at`, cut by the shift's bounds and holidays; None if it is off."""
        since, until = later(occupancy.since, self.start), sooner(occupancy.until, self.end)
        if self.on_holidays is OnHolidays.RUN:
            return since, until
        today = weekly_windows.day_of(at, self.zone)
        is_holiday_expected = self.on_holidays is OnHolidays.ONLY
        if self._is_holiday(today) is not is_holiday_expected:
            return None
        # Searched day by day, no further than the period reaches.
        before = (today - weekly_windows.day_of(since, self.zone)).days + 1 if since else _MAX_STEPS
        after = (weekly_windows.day_of(until, self.zone) - today).days + 1 if until else _MAX_STEPS
        for days in range(1, min(before, _MAX_STEPS)):
            if self._is_holiday(today - days * _DAY) is not is_holiday_expected:
                since = later(since, weekly_windows.midnight(today - (days - 1) * _DAY, self.zone))
                break
        for days in range(1, min(after, _MAX_STEPS)):
            if self._is_holiday(today + days * _DAY) is not is_holiday_expected:
                until = sooner(until, weekly_windows.midnight(today + days * _DAY, self.zone))
                break
        return since, until

    def _is_holiday(self, day: date) -> bool:
        return any(days.holiday_on(day) is not None for days in self.calendars)

    def _holiday_transitions(self, since: datetime, until: datetime) -> Iterator[datetime]:
        day, last = since.astimezone(self.zone).date(), until.astimezone(self.zone).date()
        while day <= last:
            if self._is_holiday(day) is not self._is_holiday(day - _DAY):
                yield weekly_windows.midnight(day, self.zone)
            day += _DAY


def first_handoff(start: date, at: int, on: int | None = None) -> datetime:
    """Returns the first handoff on or after `start`, at minute `at` of the day, and on weekday `on`, if given."""
    days_until = 0 if on is None else (on - start.weekday()) % 7
    return datetime.combine(start, datetime.min.time()) + timedelta(days=days_until, minutes=at)


def first_monthly_handoff(start: date, at: int, months: MonthInterval) -> datetime:
    """Returns the first handoff on or after `start` of a rotation by months."""
    day = months.in_month(start.year, start.month)
    if day < start:
        years, month = divmod(start.month, 12)
        day = months.in_month(start.year + years, month + 1)
    return datetime.combine(day, datetime.min.time()) + timedelta(minutes=at)


def parse_utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def later(*moments: datetime | None) -> datetime | None:
    """The last of the bounds that are given."""
    return max((moment for moment in moments if moment is not None), default=None)


def sooner(*moments: datetime | None) -> datetime | None:
    """The first of the bounds that are given."""
    return min((moment for moment in moments if moment is not None), default=None)


#: A value of a shift's roles: each user has their own roles in the group.
OWN_ROLES = "own"
KINDS = ("rotate", "fixed", "calendar")


@dataclass(frozen=True, slots=True)
class CompiledOverride:
    """A user on call from `starts_at` to `ends_at`: on one shift, in one role, or in every role of the schedule.

    With `instead_of` only that user is replaced. Without it, everybody is, and a coverage gap is filled too.
    """

    id: int
    name: str
    user_id: int
    starts_at: datetime
    ends_at: datetime
    shift: str = ""
    role: MemberRole | None = None
    instead_of: int | None = None

    def is_active_at(self, at: datetime) -> bool:
        return self.starts_at <= at < self.ends_at


@dataclass(frozen=True, slots=True)
class CompiledSchedule:
    """A group's shifts. In each role the highest layer wins; within a layer, earlier shifts are paged first."""

    name: str
    zone: ZoneInfo
    shifts: tuple[Shift, ...]
    id: int = 0
    #: In the order of creation: a later one goes before an earlier one.
    overrides: tuple[CompiledOverride, ...] = ()

    @property
    def roles(self) -> frozenset[MemberRole]:
        """The roles named by its shifts, without the users' own roles in the group."""
        return frozenset(role for shift in self.shifts for role in shift.roles)

    @property
    def users(self) -> frozenset[int]:
        return frozenset(user for shift in self.shifts for user in shift.users) | {o.user_id for o in self.overrides}

    def occurrences(self, at: datetime) -> list[ShiftOccurrence]:
        """Returns who is on call in which shift at `at`, before layers and overrides."""
        return [occurrence for shift in self.shifts for occurrence in shift.occurrences(at)]


def load(
    name: str,
    time_zone: str,
    definition: Mapping[str, Any],
    *,
    number: int = 0,
    calendars: Sequence[HolidayDays] = (),
    imported: Mapping[str, ImportedShifts] | None = None,
    overrides: Sequence[CompiledOverride] = (),
) -> CompiledSchedule:
    """Returns the schedule from its stored form. `imported` contains the imported shifts, by shift name."""
    zone = ZoneInfo(time_zone)
    compiled = tuple(_shift(stored, zone, tuple(calendars), imported or {}) for stored in definition["shifts"])
    return CompiledSchedule(name, zone, compiled, number, tuple(overrides))


def kind_of(stored: Mapping[str, Any]) -> str:
    """Returns the kind of a stored shift: `rotate`, `fixed` or `calendar`."""
    return next(kind for kind in KINDS if kind in stored)


def users_of(stored: Mapping[str, Any]) -> list[int]:
    return list(stored[kind_of(stored)].get("users", ()))


def _shift(
    stored: Mapping[str, Any],
    zone: ZoneInfo,
    calendars: tuple[HolidayDays, ...],
    imported: Mapping[str, ImportedShifts],
) -> Shift:
    zone = ZoneInfo(stored["time_zone"]) if "time_zone" in stored else zone
    kind = kind_of(stored)
    pattern: ShiftPattern
    if kind == "rotate":
        pattern = _rotation(stored["rotate"], date.fromisoformat(stored["start"]))
    elif kind == "fixed":
        pattern = _fixed(stored["fixed"], stored.get("start"))
    else:
        pattern = imported.get(stored["name"], ImportedShifts())
    return Shift(
        name=stored["name"],
        zone=zone,
        roles=tuple(MemberRole(role) for role in stored[kind]["roles"] if role != OWN_ROLES),
        pattern=pattern,
        layer=stored.get("layer", 1),
        start=weekly_windows.instant(datetime.fromisoformat(stored["start"]), zone) if "start" in stored else None,
        end=_end(stored["end"], zone) if "end" in stored else None,
        on_holidays=OnHolidays(stored.get("holidays", OnHolidays.RUN)),
        calendars=calendars,
    )


def _rotation(stored: Mapping[str, Any], start: date) -> Rotation:
    every, at = parse_handoff_interval(stored["every"]), inputs.parse_time(stored["at"])
    on = stored.get("on")
    if isinstance(every, MonthInterval):
        if isinstance(on, str):
            every = MonthInterval(every.count, weekday=weekly_windows.parse_weekday(on).number)
        else:
            every = MonthInterval(every.count, day=on or start.day)
        first = first_monthly_handoff(start, at, every)
    else:
        first = first_handoff(start, at, weekly_windows.parse_weekday(on).number if on else None)
    return Rotation(
        users=tuple(stored["users"]),
        first=first,
        every=every,
        move=stored.get("move", 1),
        week=weekly_windows.merge_windows(weekly_windows.load(stored["windows"])) if "windows" in stored else None,
    )


def _fixed(stored: Mapping[str, Any], start: str | None) -> Weekly | FixedSpan:
    users = tuple(stored["users"])
    every = inputs.parse_duration(stored["every"]) if "every" in stored else None
    if "windows" not in stored:
        begin, end = datetime.fromisoformat(stored["from"]), datetime.fromisoformat(stored["to"])
        return FixedSpan(users, begin, end, every)
    weeks = every // timedelta(weeks=1) if every else 1
    first = datetime.fromisoformat(start).date() if start else None
    return Weekly(users, weekly_windows.merge_windows(weekly_windows.load(stored["windows"]), weeks, first))


def parse_handoff_interval(text: str) -> timedelta | MonthInterval:
    """Parses the interval between handoffs: a duration, or months such as `1 month`. Raises Rejected."""
    count, _, unit = text.partition(" ")
    if unit in ("month", "months") and count.isascii() and count.isdigit() and len(count) < 4:
        return MonthInterval(int(count))
    return inputs.parse_duration(text)


def _end(text: str, zone: ZoneInfo) -> datetime:
    """Returns when a shift ends: at that local time, or at the end of that day."""
    if len(text) == len("2026-01-05"):
        return weekly_windows.midnight(date.fromisoformat(text) + timedelta(days=1), zone)
    return weekly_windows.instant(datetime.fromisoformat(text), zone)
