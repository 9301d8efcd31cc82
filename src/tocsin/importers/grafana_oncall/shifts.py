"""Converts OnCall's shifts by their recurrence rules: single events, recurrent events and rolling users. Pure.

See https://grafana.com/docs/oncall/latest/oncall-api-reference/on_call_shifts/. `start` is local time in the shift's
zone. Rolling users take turns by the rule's periods (hours, days, weeks), `interval` periods each; within a week, each
day of `by_day` is an occurrence for the users who have that week. `until` limits when occurrences begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tocsin.importers import rotation_converter
from tocsin.importers.json_access import JsonObject, local_moment
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.changes.specs import MAX_WEEKS

_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WEEK = timedelta(weeks=1)
_DAY = timedelta(days=1)
_PERIODS = {"hourly": timedelta(hours=1), "daily": _DAY, "weekly": _WEEK}


@dataclass(frozen=True, slots=True)
class GrafanaShift:
    """An OnCall shift with local times in its zone.

    `turns` are the users of each turn, in order; a recurring shift without rolling users has a single turn.
    """

    name: str
    layer: int
    start: datetime
    duration: timedelta
    turns: tuple[tuple[str, ...], ...]
    #: None: a single occurrence.
    frequency: str | None = None
    interval: int = 1
    #: 0 is Monday.
    by_day: tuple[int, ...] = ()
    week_start: int = 0
    until: datetime | None = None
    #: No occurrence begins earlier.
    begin: datetime | None = None


def read(document: JsonObject, name: str, layer: int, people: tuple[tuple[str, ...], ...]) -> GrafanaShift:
    """Parses a document. Raises UnsupportedRotation."""
    start, duration = _local(document.get("start")), document.get("duration")
    if start is None or not isinstance(duration, int) or not 60 <= duration < 10**8:
        raise UnsupportedRotation("Its start or duration cannot be read")
    if document.get("by_month") or document.get("by_monthday"):
        raise UnsupportedRotation("It is for some months or days of the month only")
    interval = document.get("interval") or 1
    days = document.get("by_day") or []
    if not isinstance(interval, int) or not 1 <= interval < 10_000 or not set(days) <= set(_DAYS):
        raise UnsupportedRotation("Its rule cannot be read")
    is_once = document.get("type") in ("single_event", "override")
    return GrafanaShift(
        name=name,
        layer=layer,
        start=start,
        duration=timedelta(seconds=duration // 60 * 60),
        turns=people,
        frequency=None if is_once else str(document.get("frequency") or ""),
        interval=interval,
        by_day=tuple(sorted(_DAYS.index(day) for day in days)),
        week_start=_DAYS.index(document["week_start"]) if document.get("week_start") in _DAYS else 0,
        until=_local(document.get("until")),
        begin=_local(document.get("rotation_start")),
    )


def shifts(event: GrafanaShift, now: datetime) -> list[dict[str, Any]]:
    """The shifts as in YAML; none if the shift is over at the local time `now` or has no users.

    Raises UnsupportedRotation.
    """
    if not any(event.turns):
        return []
    if event.frequency is None:
        end = event.start + event.duration
        return [_stretch(event, event.name, event.turns[0], event.start, None, None)] if end > now else []
    period = _PERIODS.get(event.frequency)
    if period is None:
        raise UnsupportedRotation(f"It recurs {event.frequency or 'by a rule that cannot be read'}")
    if event.until is not None and (event.until < event.start or event.until + event.duration <= now):
        return []
    each = event.interval * period
    if event.duration >= each and not event.by_day:
        if event.duration > each and len(event.turns) > 1:
            raise UnsupportedRotation("Its turns overlap")
        return _without_gaps(event, each, now)
    if event.frequency == "hourly":
        raise UnsupportedRotation("It recurs by the hour, with gaps")
    if len(event.turns) == 1 and event.duration <= _DAY and each in (_WEEK, _DAY):
        return _in_windows(event, each, now)
    return _occurrences(event, each, now)


def _in_windows(event: GrafanaShift, each: timedelta, now: datetime) -> list[dict[str, Any]]:
    """A shift with the same users on the same weekdays."""
    firsts = [_not_before(first, event.begin, 1) for _, first in _week_of(event, each)]
    minutes = event.duration // timedelta(minutes=1)
    opened = [rotation_converter.window(at.weekday(), at.hour * 60 + at.minute, minutes) for at in firsts]
    bounds = {"start": _written(min(firsts))}
    if event.until is not None:
        until = event.until
        ends = [at + (until - at) // _WEEK * _WEEK + event.duration for at in firsts if at <= until]
        if not ends or max(ends) <= now:
            return []
        bounds["end"] = _written(max(ends))
    pattern = {
        "windows": weekly_windows.write(rotation_converter.combine(opened)),
        "users": list(event.turns[0]),
        "roles": ["primary"],
    }
    layer = {"layer": event.layer} if event.layer != 1 else {}
    return [{"name": event.name, **layer, "fixed": pattern, **bounds}]


def _week_of(event: GrafanaShift, each: timedelta) -> list[tuple[tuple[str, ...], datetime]]:
    """The first occurrence on each weekday that has one."""
    if each == _DAY and not event.by_day:
        return [(event.turns[0], event.start + number * _DAY) for number in range(7)]
    return _firsts(event, each)


def _without_gaps(event: GrafanaShift, each: timedelta, now: datetime) -> list[dict[str, Any]]:
    """Turns without gaps become a rotation; users who share a turn become parallel rotations."""
    most = max(len(several) for several in event.turns)
    found = []
    for place in range(most):
        slots = tuple(several[place] if place < len(several) else None for several in event.turns)
        name = event.name if place == 0 else f"{event.name[:90]}, beside {place}"
        end = _last_end(event, each) if event.until is not None else None
        found += rotation_converter.shifts(
            ConvertedRotation(name, slots, event.start, each, (), event.begin, end, event.layer), now
        )
    return found


def _last_end(event: GrafanaShift, each: timedelta) -> datetime:
    """The end of the last occurrence that begins by `until`."""
    assert event.until is not None
    passed = max(0, (event.until - event.start) // each)
    return event.start + passed * each + event.duration


def _occurrences(event: GrafanaShift, each: timedelta, now: datetime) -> list[dict[str, Any]]:
    """Each occurrence as a fixed shift that recurs after everybody's turn."""
    firsts = list(_firsts(event, each))
    cycle = each * len(event.turns)
    weeks = next((n for n in range(1, MAX_WEEKS + 1) if (n * _WEEK) % cycle == timedelta()), None)
    if weeks is None:
        raise UnsupportedRotation("Its turns come again after a time that fits into no year")
    again = range((weeks * _WEEK) // cycle)
    spans = [(users, first + number * cycle) for number in again for users, first in firsts if users]
    if event.duration > weeks * _WEEK or len(spans) > rotation_converter.MAX_SEGMENTS:
        raise UnsupportedRotation(f"It would take {len(spans)} stretches in {weeks} weeks to write it down")
    found = []
    for number, (users, first) in enumerate(spans, 1):
        name = event.name if len(spans) == 1 else f"{event.name[:90]}, {number}"
        begins = _not_before(first, event.begin, weeks)
        end = None
        if event.until is not None:
            if begins > event.until:
                continue
            end = begins + (event.until - begins) // (weeks * _WEEK) * (weeks * _WEEK) + event.duration
            if end <= now:
                continue
        found.append(_stretch(event, name, users, begins, f"{weeks}w", end))
    return found


def _firsts(event: GrafanaShift, each: timedelta) -> list[tuple[tuple[str, ...], datetime]]:
    """The occurrences of everybody's first turn."""
    if event.frequency == "daily":
        if event.by_day and set(event.by_day) != set(range(7)):
            if event.interval > 1 or len(event.turns) > 1:
                raise UnsupportedRotation("Its turns by the day are on some days of the week only")
            return _in_week(event, event.turns[0], event.start)
        return [(users, event.start + number * each) for number, users in enumerate(event.turns)]
    found = []
    for number, users in enumerate(event.turns):
        # The first turn begins on the day of `start`, later ones with their week.
        monday = event.start - ((event.start.weekday() - event.week_start) % 7) * _DAY
        found += _in_week(event, users, event.start if number == 0 else monday + number * each, number * each)
    return found


def _in_week(
    event: GrafanaShift, users: tuple[str, ...], since: datetime, later: timedelta = timedelta()
) -> list[tuple[tuple[str, ...], datetime]]:
    """The days of one turn's week. Days before the start come with the next turn of the same users."""
    first_day = event.start - ((event.start.weekday() - event.week_start) % 7) * _DAY + later
    cycle = event.interval * len(event.turns) * _WEEK if event.frequency == "weekly" else _WEEK
    found = []
    for day in event.by_day or (event.start.weekday(),):
        at = first_day + ((day - event.week_start) % 7) * _DAY
        found.append((users, at if at >= since else at + cycle))
    return found


def _not_before(first: datetime, begin: datetime | None, weeks: int) -> datetime:
    """The first occurrence at or after `begin`."""
    if begin is None or first >= begin:
        return first
    return first + -((first - begin) // (weeks * _WEEK)) * weeks * _WEEK


def _stretch(
    event: GrafanaShift, name: str, users: tuple[str, ...], begin: datetime, every: str | None, end: datetime | None
) -> dict[str, Any]:
    fixed: dict[str, Any] = {"from": _written(begin), "to": _written(begin + event.duration)}
    if every is not None:
        fixed["every"] = every
    shift: dict[str, Any] = {"name": name}
    if event.layer != 1:
        shift["layer"] = event.layer
    shift["fixed"] = {**fixed, "users": list(users), "roles": ["primary"]}
    return shift | ({"end": _written(end)} if end is not None else {})


def _local(value: object) -> datetime | None:
    """A local time in the API's format, such as `2026-01-05T09:00:00`, truncated to the minute."""
    at = local_moment(value)
    return at.replace(tzinfo=None, second=0, microsecond=0) if at is not None else None


def _written(at: datetime) -> str:
    return at.isoformat(timespec="minutes")
