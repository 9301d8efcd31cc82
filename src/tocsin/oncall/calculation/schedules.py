"""Loads a group's schedules, with shifts and overrides, from their stored form. Pure.

`final_schedule` calculates from them who is on call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.validation import durations
from tocsin.oncall.calculation import shifts, weekly_windows
from tocsin.oncall.calculation.holiday_calendars import HolidayDays
from tocsin.oncall.calculation.shifts import (
    FixedSpan,
    ImportedShifts,
    MonthInterval,
    OnHolidays,
    Rotation,
    Shift,
    ShiftOccurrence,
    ShiftPattern,
    Weekly,
)
from tocsin.people.member_roles import MemberRole

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
        """Returns whether `at` is within it. Its end is exclusive."""
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
        """Every user named by a shift or an override, at any time."""
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
    """Returns the ids of the users named in a stored shift."""
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
    every, at = parse_handoff_interval(stored["every"]), weekly_windows.parse_time(stored["at"])
    on = stored.get("on")
    if isinstance(every, MonthInterval):
        if isinstance(on, str):
            every = MonthInterval(every.count, weekday=weekly_windows.parse_weekday(on).number)
        else:
            every = MonthInterval(every.count, day=on or start.day)
        first = shifts.first_monthly_handoff(start, at, every)
    else:
        first = shifts.first_handoff(start, at, weekly_windows.parse_weekday(on).number if on else None)
    return Rotation(
        users=tuple(stored["users"]),
        first=first,
        every=every,
        move=stored.get("move", 1),
        week=weekly_windows.merge_windows(weekly_windows.load(stored["windows"])) if "windows" in stored else None,
    )


def _fixed(stored: Mapping[str, Any], start: str | None) -> Weekly | FixedSpan:
    users = tuple(stored["users"])
    every = durations.parse(stored["every"]) if "every" in stored else None
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
    return durations.parse(text)


def _end(text: str, zone: ZoneInfo) -> datetime:
    """Returns when a shift ends: at that local time, or at the end of that day."""
    if len(text) == len("2026-01-05"):
        return weekly_windows.midnight(date.fromisoformat(text) + timedelta(days=1), zone)
    return weekly_windows.instant(datetime.fromisoformat(text), zone)
