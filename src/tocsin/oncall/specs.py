"""Schedules and support hours as people write them, checked. Names are resolved by the commands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from tocsin.core import durations
from tocsin.core.specs import Spec
from tocsin.oncall import windows
from tocsin.oncall.windows import Window
from tocsin.people.members import MemberRole

#: A rotation hands over at most so often, and at least so often.
SHORTEST_TURN = timedelta(hours=1)
LONGEST_TURN = timedelta(days=366)
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True)
class ShiftSpec:
    """A shift in its stored form, but with users by name, and the place where those were named."""

    stored: dict[str, Any]
    users: tuple[str, ...]
    place: str

    def with_users(self, ids: list[int]) -> dict[str, Any]:
        """The stored form, with users by id."""
        kind = "rotate" if "rotate" in self.stored else "fixed"
        return {**self.stored, kind: {**self.stored[kind], "users": ids}}


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule. `time_zone` is None where the group's is meant."""

    name: str
    group: str
    time_zone: str | None
    shifts: tuple[ShiftSpec, ...]


@dataclass(frozen=True, slots=True)
class SupportHoursSpec:
    """Support hours; `group` is the owner's name, or None."""

    name: str
    group: str | None
    time_zone: str
    windows: tuple[Window, ...]


def read_schedule(value: object) -> ScheduleSpec:
    """Raises Rejected, or RejectedAll, naming each place."""
    spec = Spec(value)
    schedule = ScheduleSpec(
        name=spec.name(),
        group=spec.text("group", required=True),
        time_zone=spec.zone() if spec.has("time_zone") else None,
        shifts=tuple(_shift(shift) for shift in spec.specs("shifts")),
    )
    if not schedule.shifts:
        spec.refuse("shifts", "at least one shift is needed.", "missing")
    spec.finish()
    return schedule


def read_support_hours(value: object, default_zone: str) -> SupportHoursSpec:
    """Raises Rejected, or RejectedAll, naming each place."""
    spec = Spec(value)
    hours = SupportHoursSpec(
        name=spec.name(),
        group=spec.text("group") or None,
        time_zone=spec.zone(default=default_zone),
        windows=_windows(spec),
    )
    spec.finish()
    return hours


def _windows(spec: Spec) -> tuple[Window, ...]:
    found = tuple(_window(window) for window in spec.specs("windows"))
    if not found:
        spec.refuse("windows", "at least one window is needed.", "missing")
    return found


def _window(spec: Spec) -> Window:
    days = set()
    for number, text in enumerate(spec.texts("days")):
        try:
            days.add(windows.day(text).number)
        except ValueError as error:
            spec.refuse(f"days[{number}]", str(error))
    if not days and not spec.raw("days"):
        spec.refuse("days", "at least one day is needed, such as [mon, tue].", "missing")
    window = Window(frozenset(days), _time(spec, "from"), _time(spec, "to"))
    if window.start == windows.MINUTES_A_DAY:
        spec.refuse("from", "begins before 24:00; write 00:00 on the next day.")
    elif window.start == window.end and spec.has("from") and spec.has("to"):
        spec.refuse("to", "is the same as from; a whole day is 00:00 to 24:00.")
    spec.done()
    return window


def _time(spec: Spec, key: str) -> int:
    text = spec.text(key, required=True)
    if text:
        try:
            return windows.minutes(text)
        except ValueError as error:
            spec.refuse(key, str(error))
    return 0


def _shift(spec: Spec) -> ShiftSpec:
    stored: dict[str, Any] = {"name": spec.text("name", required=True, longest=100)}
    start, end = _date(spec, "start"), _date(spec, "end")
    rotate, fixed = spec.spec("rotate"), spec.spec("fixed")
    users: tuple[str, ...] = ()
    kind = fixed or rotate
    if rotate is not None and fixed is not None:
        spec.refuse("fixed", "give either rotate or fixed.")
    elif rotate is not None:
        if start is None and not spec.has("start"):
            spec.refuse("start", "is needed: the day from which hand-offs are counted, such as 2026-01-05.", "missing")
        users, stored["rotate"] = _rotation(rotate)
    elif fixed is not None:
        users, stored["fixed"] = _fixed(fixed)
    else:
        spec.refuse("rotate", "give either rotate or fixed.", "missing")
    if start is not None and end is not None and end < start:
        spec.refuse("end", "is before start.")
    spec.done()
    stored |= {key: day.isoformat() for key, day in (("start", start), ("end", end)) if day is not None}
    return ShiftSpec(stored, users, kind.place("users") if kind else spec.place("users"))


def _rotation(spec: Spec) -> tuple[tuple[str, ...], dict[str, Any]]:
    every = spec.span("every", _WEEK, longest=LONGEST_TURN)
    if every < SHORTEST_TURN:
        spec.refuse("every", "must be at least 1h.")
    stored: dict[str, Any] = {"every": durations.write(every), "at": windows.clock(_time(spec, "at"))}
    if spec.has("on"):
        try:
            stored["on"] = str(windows.day(spec.text("on")))
        except ValueError as error:
            spec.refuse("on", str(error))
        if every % _WEEK:
            spec.refuse("on", "fits only where every is whole weeks.")
    users, roles = _users_and_roles(spec)
    if len(roles) > len(users) > 0:
        spec.refuse("roles", f"{len(roles)} roles need at least as many users; there are {len(users)}.")
    spec.done()
    return users, stored | {"roles": roles}


def _fixed(spec: Spec) -> tuple[tuple[str, ...], dict[str, Any]]:
    users, roles = _users_and_roles(spec)
    stored = {"windows": windows.write(_windows(spec)), "roles": roles}
    spec.done()
    return users, stored


def _users_and_roles(spec: Spec) -> tuple[tuple[str, ...], list[str]]:
    users = spec.texts("users")
    if not users and not spec.raw("users"):
        spec.refuse("users", "at least one user is needed.", "missing")
    roles = []
    for number, role in enumerate(spec.texts("roles")):
        if role in list(MemberRole):
            roles.append(role)
        else:
            spec.refuse(f"roles[{number}]", f'"{role}" is not one of {", ".join(MemberRole)}.')
    return users, roles or [str(MemberRole.PRIMARY)]


def _date(spec: Spec, key: str) -> date | None:
    if not spec.has(key):
        return None
    text = spec.text(key)
    try:
        return date.fromisoformat(text)
    except ValueError:
        if text or isinstance(spec.raw(key), str):
            spec.refuse(key, f'"{text}" is not a date; write it like 2026-01-05.')
        return None
