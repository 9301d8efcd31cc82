"""Schedules: which shift is on at an instant, who has it in which role, since and until when. Pure.

A rotation hands over at local times, so a night in which clocks change has a shift that is an hour shorter or longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core import durations
from tocsin.oncall import windows
from tocsin.oncall.windows import Window
from tocsin.people.members import MemberRole


@dataclass(frozen=True, slots=True)
class Turn:
    """One user on call in one role for a span, by which shift."""

    role: MemberRole
    user_id: int
    since: datetime
    until: datetime
    shift: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """A shift that moves on along its users.

    With n users, after k hand-offs, role i is held by user (k + i) mod n. The first hand-off is at `first`, a local
    time; then one follows each `every`.
    """

    name: str
    users: tuple[int, ...]
    roles: tuple[MemberRole, ...]
    first: datetime
    every: timedelta
    end: date | None = None

    def turns(self, zone: ZoneInfo, at: datetime) -> list[Turn]:
        """Who has this shift at `at`, in the order of the roles."""
        handed = self._hand_offs_before(zone, at)
        if handed is None:
            return []
        since = self._hand_off(handed, zone)
        until = _until_end(self._hand_off(handed + 1, zone), self.end, zone)
        if until <= at:
            return []
        count = len(self.users)
        return [
            Turn(role, self.users[(handed + number) % count], since, until, self.name)
            for number, role in enumerate(self.roles[:count])
        ]

    def _hand_offs_before(self, zone: ZoneInfo, at: datetime) -> int | None:
        """The number of the last hand-off at or before `at`; None before the first."""
        local = at.astimezone(zone).replace(tzinfo=None)
        number = (local - self.first) // self.every
        # Local time jumps, so the count by local time is off by one near a clock change at most a few times over.
        while self._hand_off(number, zone) > at:
            number -= 1
        while self._hand_off(number + 1, zone) <= at:
            number += 1
        return number if number >= 0 else None

    def _hand_off(self, number: int, zone: ZoneInfo) -> datetime:
        return windows.instant(self.first + number * self.every, zone)


@dataclass(frozen=True, slots=True)
class Fixed:
    """A shift of the same people in the same windows every week: each has every role, in the order of the users."""

    name: str
    users: tuple[int, ...]
    roles: tuple[MemberRole, ...]
    windows: tuple[Window, ...]
    start: date | None = None
    end: date | None = None

    def turns(self, zone: ZoneInfo, at: datetime) -> list[Turn]:
        """Who has this shift at `at`, by role and then in the order of the users."""
        span = windows.current(self.windows, zone, at)
        if span is None:
            return []
        since = span[0]
        if self.start is not None:
            since = max(since, windows.instant(datetime.combine(self.start, time()), zone))
        until = _until_end(span[1], self.end, zone)
        if not since <= at < until:
            return []
        return [Turn(role, user, since, until, self.name) for role in self.roles for user in self.users]


type Shift = Rotation | Fixed


@dataclass(frozen=True, slots=True)
class Schedule:
    """A group's shifts in their time zone. Earlier shifts are called first."""

    name: str
    zone: ZoneInfo
    shifts: tuple[Shift, ...]

    @property
    def roles(self) -> frozenset[MemberRole]:
        """The roles that this schedule decides about, at whatever time."""
        return frozenset(role for shift in self.shifts for role in shift.roles)

    @property
    def users(self) -> frozenset[int]:
        """Everybody who has a shift in it, at whatever time."""
        return frozenset(user for shift in self.shifts for user in shift.users)

    def turns(self, at: datetime) -> list[Turn]:
        """Who is on call at `at`."""
        return [turn for shift in self.shifts for turn in shift.turns(self.zone, at)]


def load(name: str, time_zone: str, definition: Mapping[str, Any]) -> Schedule:
    """The schedule from its stored form."""
    return Schedule(name, ZoneInfo(time_zone), tuple(_shift(stored) for stored in definition["shifts"]))


def first_hand_off(start: date, at: int, on: int | None) -> datetime:
    """The first hand-off on or after `start`: at that minute of the day, and on that weekday if one is given."""
    wait = 0 if on is None else (on - start.weekday()) % 7
    return datetime.combine(start, time()) + timedelta(days=wait, minutes=at)


def _shift(stored: Mapping[str, Any]) -> Shift:
    name = stored["name"]
    start = date.fromisoformat(stored["start"]) if "start" in stored else None
    end = date.fromisoformat(stored["end"]) if "end" in stored else None
    if "rotate" in stored:
        rotate = stored["rotate"]
        assert start is not None
        on = windows.day(rotate["on"]).number if "on" in rotate else None
        return Rotation(
            name=name,
            users=tuple(rotate["users"]),
            roles=_roles(rotate["roles"]),
            first=first_hand_off(start, windows.minutes(rotate["at"]), on),
            every=durations.parse(rotate["every"]),
            end=end,
        )
    fixed = stored["fixed"]
    return Fixed(
        name=name,
        users=tuple(fixed["users"]),
        roles=_roles(fixed["roles"]),
        windows=windows.load(fixed["windows"]),
        start=start,
        end=end,
    )


def _roles(stored: list[str]) -> tuple[MemberRole, ...]:
    return tuple(MemberRole(role) for role in stored)


def _until_end(until: datetime, end: date | None, zone: ZoneInfo) -> datetime:
    """`until`, or the end of the shift's last day if that is sooner."""
    if end is None:
        return until
    return min(until, windows.instant(datetime.combine(end + timedelta(days=1), time()), zone))
