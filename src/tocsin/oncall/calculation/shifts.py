"""Shifts: who has one at an instant, since and until when, and at which moments that may change. Pure.

All arithmetic is by the clock on the wall in the shift's zone (see `windows`), so a rotation hands over at the same
local time all year, and never drifts. A hand-off at a time that clocks skip happens that much later, but never after
the next one; at a time that comes twice, the first time only.
"""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.holiday_calendars import HolidayDays
from tocsin.oncall.calculation.weekly_windows import MergedWeek
from tocsin.people.member_roles import MemberRole

_DAY = timedelta(days=1)
#: Holidays are looked for so far to either side of a moment.
_MAX_STEPS = 400


class OnHolidays(StrEnum):
    """What a shift does on the days of its holiday calendars, from midnight to midnight in its zone."""

    RUN = "run"
    SKIP = "skip"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class ShiftOccurrence:
    """One user in one role by one shift, for a span; None where it has no bound.

    `role` is None where the user counts in whatever roles they have in the group.
    """

    role: MemberRole | None
    user_id: int
    since: datetime | None
    until: datetime | None
    shift: str
    layer: int = 1


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Who holds a pattern's places, in their order, for a span."""

    since: datetime | None
    until: datetime | None
    users: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MonthInterval:
    """A step of whole months, to a day of the month (beyond its end: its last day) or its first weekday of a kind."""

    count: int
    day: int | None = None
    weekday: int | None = None

    def after(self, first: datetime, steps: int) -> datetime:
        """The local time `steps` steps after `first`, which is such a day."""
        years, month = divmod(first.month - 1 + steps * self.count, 12)
        return datetime.combine(self.in_month(first.year + years, month + 1), first.time())

    def in_month(self, year: int, month: int) -> date:
        """The day of that month."""
        if self.weekday is not None:
            begin = date(year, month, 1)
            return begin + timedelta(days=(self.weekday - begin.weekday()) % 7)
        return date(year, month, min(self.day or 1, calendar.monthrange(year, month)[1]))


@dataclass(frozen=True, slots=True)
class Rotation:
    """Users in an order that moves on.

    After k hand-offs, place i is held by user (k·move + i) mod n. The first hand-off is at `first`, a local time; then
    one follows each `every`. With `week`, only while that is open: hand-offs count all the same.
    """

    users: tuple[int, ...]
    first: datetime
    every: timedelta | MonthInterval
    move: int = 1
    week: MergedWeek | None = None

    def held(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        """Who has the places at `at`, all users in their order from then; nothing before the first hand-off."""
        number, since, until = self._turn(zone, at)
        if number < 0:
            return []
        if self.week is not None and not self.week.is_always:
            open_now = self.week.current(zone, at)
            if open_now is None:
                return []
            since, until = max(since, open_now[0]), open_now[1] if until is None else min(until, open_now[1])
        shift = number * self.move % len(self.users)
        return [Occupancy(since, until, self.users[shift:] + self.users[:shift])]

    def edges(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        """Every moment after `since` and before `until` at which `held` may answer anew."""
        number = max(-1, self._turn(zone, since)[0]) + 1
        moment = self.hand_off(number, zone)
        while moment < until and not (number and self._stands_still):
            if moment > since:
                yield moment
            number += 1
            moment = self.hand_off(number, zone)
        if self.week is not None:
            yield from self.week.edges(zone, since, until)

    def hand_off(self, number: int, zone: ZoneInfo) -> datetime:
        """The moment in UTC of that hand-off, counted from 0; never earlier than the one before it."""
        local = self._local(number)
        moment = weekly_windows.instant(local, zone)
        if weekly_windows.exists(local, zone):
            return moment
        # Clocks skip this time. Those right after the change come first where more than one was skipped.
        following = number + 1
        while not weekly_windows.exists(self._local(following), zone):
            following += 1
        return min(moment, weekly_windows.instant(self._local(following), zone))

    @property
    def _stands_still(self) -> bool:
        return self.move % len(self.users) == 0

    def _local(self, number: int) -> datetime:
        if isinstance(self.every, MonthInterval):
            return self.every.after(self.first, number)
        return self.first + number * self.every

    def _turn(self, zone: ZoneInfo, at: datetime) -> tuple[int, datetime, datetime | None]:
        """The number of the last hand-off at or before `at`, its moment and that of the next one that changes anything.

        The number is negative before the first hand-off.
        """
        local = at.astimezone(zone).replace(tzinfo=None)
        if isinstance(self.every, MonthInterval):
            number = ((local.year - self.first.year) * 12 + local.month - self.first.month) // self.every.count
        else:
            number = (local - self.first) // self.every
        # Local time jumps, so the count by it may be off near a change of clocks.
        following = self.hand_off(number + 1, zone)
        while following <= at:
            number, following = number + 1, self.hand_off(number + 2, zone)
        moment = self.hand_off(number, zone)
        while moment > at:
            number, following, moment = number - 1, moment, self.hand_off(number - 1, zone)
        if number > 0 and self._stands_still:
            return number, self.hand_off(0, zone), None
        return number, moment, None if self._stands_still else following


@dataclass(frozen=True, slots=True)
class Weekly:
    """The same users in the same windows."""

    users: tuple[int, ...]
    week: MergedWeek

    def held(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        """Who has it at `at`: everybody, or nobody."""
        if self.week.is_always:
            return [Occupancy(None, None, self.users)]
        span = self.week.current(zone, at)
        return [Occupancy(*span, self.users)] if span else []

    def edges(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        """Every moment after `since` and before `until` at which a window begins or ends."""
        return self.week.edges(zone, since, until)


@dataclass(frozen=True, slots=True)
class FixedSpan:
    """The same users in one stretch, between two local times; with `every`, again each so many weeks."""

    users: tuple[int, ...]
    begin: datetime
    end: datetime
    every: timedelta | None = None

    def held(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        """Who has it at `at`: everybody, or nobody."""
        for since, until in self._around(zone, at):
            if since <= at < until:
                return [Occupancy(since, until, self.users)]
        return []

    def edges(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        """Every moment after `since` and before `until` at which the stretch begins or ends."""
        number = max(0, self._number(zone, since) - 1)
        while True:
            span = self._occurrence(number, zone)
            yield from (edge for edge in span if since < edge < until)
            number += 1
            if self.every is None or span[0] >= until:
                return

    def _around(self, zone: ZoneInfo, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        number = self._number(zone, at)
        for near in (number - 1, number, number + 1):
            if near == 0 or (near > 0 and self.every is not None):
                yield self._occurrence(near, zone)

    def _number(self, zone: ZoneInfo, at: datetime) -> int:
        if self.every is None:
            return 0
        return (at.astimezone(zone).replace(tzinfo=None) - self.begin) // self.every

    def _occurrence(self, number: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
        later = number * self.every if self.every else timedelta()
        return weekly_windows.instant(self.begin + later, zone), weekly_windows.instant(self.end + later, zone)


@dataclass(frozen=True, slots=True)
class ImportedShifts:
    """Stretches read from a calendar elsewhere: (user, from, to) with moments in UTC, in order."""

    spans: tuple[tuple[int, datetime, datetime], ...] = ()
    #: As long as the longest of them: no other reaches further.
    _longest: timedelta = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        longest = max((until - since for _, since, until in self.spans), default=timedelta())
        object.__setattr__(self, "_longest", longest)

    @property
    def users(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(user for user, _, _ in self.spans))

    def held(self, zone: ZoneInfo, at: datetime) -> list[Occupancy]:
        """Who has it at `at`, whoever began first coming first."""
        del zone
        return [Occupancy(since, until, (user,)) for user, since, until in self.spans if since <= at < until]

    def edges(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        """Every moment after `since` and before `until` at which a stretch begins or ends."""
        del zone
        begin = bisect_right(self.spans, since - self._longest - _DAY, key=lambda span: span[1])
        for _, *span in self.spans[begin:]:
            yield from (edge for edge in span if since < edge < until)


type ShiftPattern = Rotation | Weekly | FixedSpan | ImportedShifts


@dataclass(frozen=True, slots=True)
class Shift:
    """A pattern in its time zone and layer, from `start` to `end`, with what it does on holidays.

    `roles`: of a rotation the n-th is that of the n-th place; in every other pattern each user has each role. Empty:
    whatever roles the user has in the group.
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
        """Everybody who has it at some time."""
        return self.pattern.users

    def turns(self, at: datetime) -> list[ShiftOccurrence]:
        """Who has it at `at`: of a rotation in the order of the roles, else by role and then in the users' order."""
        if (self.start and at < self.start) or (self.end and at >= self.end):
            return []
        return [
            ShiftOccurrence(role, user, *span, self.name, self.layer)
            for held in self.pattern.held(self.zone, at)
            if (span := self._within(held, at)) is not None
            for role, user in self._places(held)
        ]

    def edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Every moment after `since` and before `until` at which `turns` may answer anew; in no order."""
        begin, end = max(since, self.start or since), min(until, self.end or until)
        if begin >= end:
            return
        yield from (edge for edge in (self.start, self.end) if edge and since < edge < until)
        yield from self.pattern.edges(self.zone, begin, end)
        if self.on_holidays is not OnHolidays.RUN:
            yield from (edge for edge in self._holiday_edges(begin, end) if begin < edge < end)

    def _places(self, held: Occupancy) -> list[tuple[MemberRole | None, int]]:
        roles: tuple[MemberRole | None, ...] = self.roles or (None,)
        if isinstance(self.pattern, Rotation):
            return list(zip(roles, held.users, strict=False))
        return [(role, user) for role in roles for user in held.users]

    def _within(self, held: Occupancy, at: datetime) -> tuple[datetime | None, datetime | None] | None:
        """The span of `held` that the shift's own bounds and holidays leave around `at`; None where it does not run."""
        since, until = _later(held.since, self.start), _sooner(held.until, self.end)
        if self.on_holidays is OnHolidays.RUN:
            return since, until
        today = weekly_windows.day_of(at, self.zone)
        wanted = self.on_holidays is OnHolidays.ONLY
        if self._is_holiday(today) is not wanted:
            return None
        # Looked for day by day, no further than the span reaches.
        before = (today - weekly_windows.day_of(since, self.zone)).days + 1 if since else _MAX_STEPS
        after = (weekly_windows.day_of(until, self.zone) - today).days + 1 if until else _MAX_STEPS
        for days in range(1, min(before, _MAX_STEPS)):
            if self._is_holiday(today - days * _DAY) is not wanted:
                since = _later(since, weekly_windows.midnight(today - (days - 1) * _DAY, self.zone))
                break
        for days in range(1, min(after, _MAX_STEPS)):
            if self._is_holiday(today + days * _DAY) is not wanted:
                until = _sooner(until, weekly_windows.midnight(today + days * _DAY, self.zone))
                break
        return since, until

    def _is_holiday(self, day: date) -> bool:
        return any(days.on(day) is not None for days in self.calendars)

    def _holiday_edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        day, last = since.astimezone(self.zone).date(), until.astimezone(self.zone).date()
        while day <= last:
            if self._is_holiday(day) is not self._is_holiday(day - _DAY):
                yield weekly_windows.midnight(day, self.zone)
            day += _DAY


def first_hand_off(start: date, at: int, on: int | None = None) -> datetime:
    """The first hand-off on or after `start`: at that minute of the day, and on that weekday if one is given."""
    wait = 0 if on is None else (on - start.weekday()) % 7
    return datetime.combine(start, datetime.min.time()) + timedelta(days=wait, minutes=at)


def first_of_months(start: date, at: int, months: MonthInterval) -> datetime:
    """The first hand-off on or after `start` of a rotation by months."""
    found = months.in_month(start.year, start.month)
    if found < start:
        years, month = divmod(start.month, 12)
        found = months.in_month(start.year + years, month + 1)
    return datetime.combine(found, datetime.min.time()) + timedelta(minutes=at)


def utc(text: str) -> datetime:
    """A moment from its stored form."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return other if one is None else one if other is None else max(one, other)


def _sooner(one: datetime | None, other: datetime | None) -> datetime | None:
    return other if one is None else one if other is None else min(one, other)
