"""Converts OnCall's shifts by their recurrence rules: single events, recurrent events and rolling users. Pure.

See https://grafana.com/docs/oncall/latest/oncall-api-reference/on_call_shifts/. `start` is local time in the shift's
zone. Rolling users take turns by the rule's periods (hours, days, weeks), `interval` periods each; within a week, each
day of `by_day` is an occurrence for the users who have that week. `until` limits when occurrences begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tocsin.importers import reasons, rotation_converter
from tocsin.importers.grafana_oncall import reasons as product_reasons
from tocsin.importers.json_access import JsonObject, parse_local_time
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.changes.shift_specs import MAX_WEEKS

_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WEEK = timedelta(weeks=1)
_DAY = timedelta(days=1)
_PERIODS = {"hourly": timedelta(hours=1), "daily": _DAY, "weekly": _WEEK}


@dataclass(frozen=True, slots=True)
class GrafanaShift:
    """An OnCall shift with local times in its zone.

    `rotation` are the users of each turn, in order; a recurring shift without rolling users has a single turn.
    """

    name: str
    layer: int
    start: datetime
    duration: timedelta
    rotation: tuple[tuple[str, ...], ...]
    #: None: a single occurrence.
    frequency: str | None = None
    interval: int = 1
    #: 0 is Monday.
    by_day: tuple[int, ...] = ()
    week_start: int = 0
    until: datetime | None = None
    #: No occurrence begins earlier.
    begin: datetime | None = None


def read(document: JsonObject, name: str, layer: int, rotation: tuple[tuple[str, ...], ...]) -> GrafanaShift:
    """Parses a document. Raises UnsupportedRotation."""
    start, duration = _parse_local(document.get("start")), document.get("duration")
    if start is None or not isinstance(duration, int) or not 60 <= duration < 10**8:
        raise UnsupportedRotation(product_reasons.SHIFT_UNREADABLE())
    if document.get("by_month") or document.get("by_monthday"):
        raise UnsupportedRotation(product_reasons.SOME_MONTHS())
    interval = document.get("interval") or 1
    days = document.get("by_day") or []
    if not isinstance(interval, int) or not 1 <= interval < 10_000 or not set(days) <= set(_DAYS):
        raise UnsupportedRotation(product_reasons.RULE_UNREADABLE())
    is_single_occurrence = document.get("type") in ("single_event", "override")
    return GrafanaShift(
        name=name,
        layer=layer,
        start=start,
        duration=timedelta(seconds=duration // 60 * 60),
        rotation=rotation,
        frequency=None if is_single_occurrence else str(document.get("frequency") or ""),
        interval=interval,
        by_day=tuple(sorted(_DAYS.index(day) for day in days)),
        week_start=_DAYS.index(document["week_start"]) if document.get("week_start") in _DAYS else 0,
        until=_parse_local(document.get("until")),
        begin=_parse_local(document.get("rotation_start")),
    )


def shifts(event: GrafanaShift, now: datetime) -> list[dict[str, Any]]:
    """The shifts as in YAML; none if the shift is over at the local time `now` or has no users.

    Raises UnsupportedRotation.
    """
    if not any(event.rotation):
        return []
    if event.frequency is None:
        end = event.start + event.duration
        return [_fixed_shift(event, event.name, event.rotation[0], event.start, None, None)] if end > now else []
    period = _PERIODS.get(event.frequency)
    if period is None:
        raise UnsupportedRotation(
            product_reasons.RECURS_BY(frequency=event.frequency or "by a rule that cannot be read")
        )
    if event.until is not None and (event.until < event.start or event.until + event.duration <= now):
        return []
    recurrence = event.interval * period
    if event.duration >= recurrence and not event.by_day:
        if event.duration > recurrence and len(event.rotation) > 1:
            raise UnsupportedRotation(product_reasons.TURNS_OVERLAP())
        return _without_gaps(event, recurrence, now)
    if event.frequency == "hourly":
        raise UnsupportedRotation(product_reasons.HOURLY_WITH_GAPS())
    if len(event.rotation) == 1 and event.duration <= _DAY and recurrence in (_WEEK, _DAY):
        return _in_windows(event, recurrence, now)
    return _occurrences(event, recurrence, now)


def _in_windows(event: GrafanaShift, recurrence: timedelta, now: datetime) -> list[dict[str, Any]]:
    """A shift with the same users on the same weekdays."""
    first_occurrences = [_not_before(occurrence, event.begin, 1) for _, occurrence in _first_week(event, recurrence)]
    minutes = event.duration // timedelta(minutes=1)
    windows = [rotation_converter.window(at.weekday(), at.hour * 60 + at.minute, minutes) for at in first_occurrences]
    bounds = {"start": _format_time(min(first_occurrences))}
    if event.until is not None:
        until = event.until
        ends = [at + (until - at) // _WEEK * _WEEK + event.duration for at in first_occurrences if at <= until]
        if not ends or max(ends) <= now:
            return []
        bounds["end"] = _format_time(max(ends))
    pattern = {
        "windows": weekly_windows.write(rotation_converter.combine(windows)),
        "users": list(event.rotation[0]),
        "roles": ["primary"],
    }
    layer = {"layer": event.layer} if event.layer != 1 else {}
    return [{"name": event.name, **layer, "fixed": pattern, **bounds}]


def _first_week(event: GrafanaShift, recurrence: timedelta) -> list[tuple[tuple[str, ...], datetime]]:
    """The first occurrence on each weekday that has one."""
    if recurrence == _DAY and not event.by_day:
        return [(event.rotation[0], event.start + day * _DAY) for day in range(7)]
    return _first_occurrences(event, recurrence)


def _without_gaps(event: GrafanaShift, recurrence: timedelta, now: datetime) -> list[dict[str, Any]]:
    """Turns without gaps become a rotation; users who share a turn become parallel rotations."""
    max_members = max(len(members) for members in event.rotation)
    converted = []
    for index in range(max_members):
        slots = tuple(members[index] if index < len(members) else None for members in event.rotation)
        name = event.name if index == 0 else f"{event.name[:90]}, beside {index}"
        end = _last_end(event, recurrence) if event.until is not None else None
        converted += rotation_converter.shifts(
            ConvertedRotation(name, slots, event.start, recurrence, (), event.begin, end, event.layer), now
        )
    return converted


def _last_end(event: GrafanaShift, recurrence: timedelta) -> datetime:
    """The end of the last occurrence that begins by `until`."""
    assert event.until is not None
    elapsed = max(0, (event.until - event.start) // recurrence)
    return event.start + elapsed * recurrence + event.duration


def _occurrences(event: GrafanaShift, recurrence: timedelta, now: datetime) -> list[dict[str, Any]]:
    """Each occurrence as a fixed shift that recurs after everybody's turn."""
    first_occurrences = list(_first_occurrences(event, recurrence))
    cycle = recurrence * len(event.rotation)
    weeks = next((n for n in range(1, MAX_WEEKS + 1) if (n * _WEEK) % cycle == timedelta()), None)
    if weeks is None:
        raise UnsupportedRotation(product_reasons.CYCLE_FITS_NO_YEAR())
    repetitions = range((weeks * _WEEK) // cycle)
    occurrences = [
        (users, occurrence + position * cycle)
        for position in repetitions
        for users, occurrence in first_occurrences
        if users
    ]
    if event.duration > weeks * _WEEK or len(occurrences) > rotation_converter.MAX_SEGMENTS:
        raise UnsupportedRotation(reasons.TOO_MANY_OCCURRENCES(spans=len(occurrences), weeks=weeks))
    converted = []
    for position, (users, occurrence) in enumerate(occurrences, 1):
        name = event.name if len(occurrences) == 1 else f"{event.name[:90]}, {position}"
        begins = _not_before(occurrence, event.begin, weeks)
        end = None
        if event.until is not None:
            if begins > event.until:
                continue
            end = begins + (event.until - begins) // (weeks * _WEEK) * (weeks * _WEEK) + event.duration
            if end <= now:
                continue
        converted.append(_fixed_shift(event, name, users, begins, f"{weeks}w", end))
    return converted


def _first_occurrences(event: GrafanaShift, recurrence: timedelta) -> list[tuple[tuple[str, ...], datetime]]:
    """The occurrences of everybody's first turn."""
    if event.frequency == "daily":
        if event.by_day and set(event.by_day) != set(range(7)):
            if event.interval > 1 or len(event.rotation) > 1:
                raise UnsupportedRotation(product_reasons.DAILY_ON_SOME_DAYS())
            return _in_week(event, event.rotation[0], event.start)
        return [(users, event.start + index * recurrence) for index, users in enumerate(event.rotation)]
    occurrences = []
    for index, users in enumerate(event.rotation):
        # The first turn begins on the day of `start`, later ones with their week.
        monday = event.start - ((event.start.weekday() - event.week_start) % 7) * _DAY
        occurrences += _in_week(
            event, users, event.start if index == 0 else monday + index * recurrence, index * recurrence
        )
    return occurrences


def _in_week(
    event: GrafanaShift, users: tuple[str, ...], since: datetime, offset: timedelta = timedelta()
) -> list[tuple[tuple[str, ...], datetime]]:
    """The days of one turn's week. Days before the start come with the next turn of the same users."""
    first_day = event.start - ((event.start.weekday() - event.week_start) % 7) * _DAY + offset
    cycle = event.interval * len(event.rotation) * _WEEK if event.frequency == "weekly" else _WEEK
    occurrences = []
    for day in event.by_day or (event.start.weekday(),):
        at = first_day + ((day - event.week_start) % 7) * _DAY
        occurrences.append((users, at if at >= since else at + cycle))
    return occurrences


def _not_before(occurrence: datetime, begin: datetime | None, weeks: int) -> datetime:
    """The first occurrence at or after `begin`."""
    if begin is None or occurrence >= begin:
        return occurrence
    return occurrence + -((occurrence - begin) // (weeks * _WEEK)) * weeks * _WEEK


def _fixed_shift(
    event: GrafanaShift, name: str, users: tuple[str, ...], begin: datetime, every: str | None, end: datetime | None
) -> dict[str, Any]:
    fixed: dict[str, Any] = {"from": _format_time(begin), "to": _format_time(begin + event.duration)}
    if every is not None:
        fixed["every"] = every
    shift: dict[str, Any] = {"name": name}
    if event.layer != 1:
        shift["layer"] = event.layer
    shift["fixed"] = {**fixed, "users": list(users), "roles": ["primary"]}
    return shift | ({"end": _format_time(end)} if end is not None else {})


def _parse_local(value: object) -> datetime | None:
    """A local time in the API's format, such as `2026-01-05T09:00:00`, truncated to the minute."""
    at = parse_local_time(value)
    return at.replace(tzinfo=None, second=0, microsecond=0) if at is not None else None


def _format_time(at: datetime) -> str:
    return at.isoformat(timespec="minutes")
