"""Converts a rotation of any product to equivalent shifts. Pure.

A rotation has slots in an order, all of the same length in local time, counted from the first handoff, and starts over
after the last one. Restrictions are weekly windows. Tocsin's own rotation has each user once and no empty slot; any
other becomes fixed shifts that recur every few weeks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.reasons import Reason
from tocsin.core.validation import inputs
from tocsin.importers import reasons
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import MINUTES_A_DAY, MINUTES_A_WEEK, Weekday, WeeklyWindow
from tocsin.oncall.changes.specs import MAX_HANDOFF_INTERVAL, MAX_WEEKS, MIN_HANDOFF_INTERVAL

#: A rotation with more fixed shifts than this would be unreadable.
MAX_SEGMENTS = 200

_WEEK = timedelta(weeks=1)
_MINUTE = timedelta(minutes=1)


class UnsupportedRotation(Exception):
    """The rotation has no exact equivalent; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def why_unsupported(problem: Exception) -> Reason:
    """Why a rotation is not converted: it has no equivalent, or something in it cannot be read."""
    return (
        problem.reason if isinstance(problem, UnsupportedRotation) else reasons.UNREADABLE(problem=str(problem)[:200])
    )


@dataclass(frozen=True, slots=True)
class ConvertedRotation:
    """A rotation. All times are local in the schedule's zone, to the minute."""

    name: str
    #: Usernames in order; None is an empty slot.
    slots: tuple[str | None, ...]
    first_handoff: datetime
    interval: timedelta
    windows: tuple[WeeklyWindow, ...] = ()
    #: Nobody is on call before, even if handoffs count from earlier; None: the first handoff.
    begin: datetime | None = None
    end: datetime | None = None
    layer: int = 1


def shifts(rotation: ConvertedRotation, now: datetime) -> list[dict[str, Any]]:
    """The shifts as in YAML; none for a rotation that is over at the local time `now` or has no users.

    Raises UnsupportedRotation.
    """
    latest_start = max(now, rotation.first_handoff, rotation.begin or rotation.first_handoff)
    if not any(rotation.slots) or (rotation.end is not None and rotation.end <= latest_start):
        return []
    if not MIN_HANDOFF_INTERVAL <= rotation.interval <= MAX_HANDOFF_INTERVAL:
        raise UnsupportedRotation(reasons.TURN_LENGTH(interval=rotation.interval))
    if len(set(rotation.slots)) == 1:
        return [_single_user(rotation)]
    start = rotation.begin if rotation.begin is not None and rotation.begin > max(now, rotation.first_handoff) else None
    if None in rotation.slots or len(set(rotation.slots)) < len(rotation.slots):
        return _fixed_shifts(rotation, start)
    return _rotation(rotation, start)


def window(day: int, start: int, length: int) -> WeeklyWindow:
    """A window that begins on that day (0 is Monday) at that minute and lasts `length` minutes, at most a week."""
    end = start + min(length, MINUTES_A_WEEK)
    return WeeklyWindow(
        frozenset({day}), start, end - MINUTES_A_DAY if end > MINUTES_A_DAY and length < MINUTES_A_DAY else end
    )


def daily(start: int, length: int) -> tuple[WeeklyWindow, ...]:
    """A window on every day; empty, which means always, if it lasts all day."""
    if length >= MINUTES_A_DAY:
        return ()
    return (WeeklyWindow(frozenset(range(len(Weekday))), start, window(0, start, length).end),)


def combine(windows: Sequence[WeeklyWindow]) -> tuple[WeeklyWindow, ...]:
    """The windows, with those at the same time of day merged."""
    days: dict[tuple[int, int], set[int]] = {}
    long_windows: list[WeeklyWindow] = []
    for item in windows:
        if item.end > MINUTES_A_DAY:
            long_windows.append(item)
        else:
            days.setdefault((item.start, item.end), set()).update(item.days)
    return (*(WeeklyWindow(frozenset(weekdays), start, end) for (start, end), weekdays in days.items()), *long_windows)


def _single_user(rotation: ConvertedRotation) -> dict[str, Any]:
    """A single user from beginning to end."""
    start = max(rotation.first_handoff, rotation.begin or rotation.first_handoff)
    windows = rotation.windows or (WeeklyWindow(frozenset(range(len(Weekday))), 0, MINUTES_A_DAY),)
    pattern = {"windows": weekly_windows.write(windows), "users": [rotation.slots[0]], "roles": ["primary"]}
    return _shift(rotation, rotation.name, {"fixed": pattern, "start": _format_time(start)})


def _rotation(rotation: ConvertedRotation, start: datetime | None) -> list[dict[str, Any]]:
    """A rotation with each user once."""
    handoff, slots, converted = rotation.first_handoff, list(rotation.slots), []
    if start is not None:
        elapsed_turns = -((handoff - start) // rotation.interval)
        next_handoff = handoff + elapsed_turns * rotation.interval
        if next_handoff > start:
            # The remainder of the turn in progress at the start becomes a separate shift.
            until = min(next_handoff, rotation.end) if rotation.end else next_handoff
            converted += _partial_turn(rotation, start, until, slots[(elapsed_turns - 1) % len(slots)])
        handoff, slots = next_handoff, slots[elapsed_turns % len(slots) :] + slots[: elapsed_turns % len(slots)]
    if rotation.end is not None and handoff >= rotation.end:
        return converted
    rotate: dict[str, Any] = {"every": inputs.write_duration(rotation.interval), "at": handoff.strftime("%H:%M")}
    if rotation.interval % _WEEK == timedelta():
        rotate["on"] = str(list(Weekday)[handoff.weekday()])
    if rotation.windows:
        rotate["windows"] = weekly_windows.write(rotation.windows)
    rotate |= {"users": slots, "roles": ["primary"]}
    converted.append(_shift(rotation, rotation.name, {"rotate": rotate, "start": handoff.date().isoformat()}))
    return converted


def _partial_turn(
    rotation: ConvertedRotation, start: datetime, end: datetime, user: str | None
) -> list[dict[str, Any]]:
    windows = rotation.windows or (WeeklyWindow(frozenset(range(len(Weekday))), 0, MINUTES_A_DAY),)
    pattern = {"windows": weekly_windows.write(windows), "users": [user], "roles": ["primary"]}
    bounds = {"start": _format_time(start), "end": _format_time(end)}
    shift = {"name": _suffixed_name(rotation.name, "first turn"), **_layer(rotation), "fixed": pattern, **bounds}
    return [shift] if user is not None else []


def _fixed_shifts(rotation: ConvertedRotation, start: datetime | None) -> list[dict[str, Any]]:
    """A user with several slots, or an empty slot: each slot's spans become fixed shifts that recur with the whole
    cycle."""
    cycle = len(rotation.slots) * rotation.interval
    weeks = next((n for n in range(1, MAX_WEEKS + 1) if (n * _WEEK) % cycle == timedelta()), None)
    if weeks is None:
        raise UnsupportedRotation(reasons.CYCLE_TOO_LONG(cycle=cycle, weeks=MAX_WEEKS))
    spans = list(_merged_spans(rotation, weeks))
    if len(spans) > MAX_SEGMENTS:
        raise UnsupportedRotation(reasons.TOO_MANY_OCCURRENCES(spans=len(spans), weeks=weeks))
    bounds = {"start": _format_time(start)} if start is not None else {}
    interval = f"{weeks}w"
    return [
        _shift(
            rotation,
            _suffixed_name(rotation.name, str(position)),
            {
                "fixed": {
                    "from": _format_time(since),
                    "to": _format_time(until),
                    "every": interval,
                    "users": [user],
                    "roles": ["primary"],
                },
                **bounds,
            },
        )
        for position, (user, since, until) in enumerate(spans, 1)
    ]


def _merged_spans(rotation: ConvertedRotation, weeks: int) -> Iterator[tuple[str, datetime, datetime]]:
    """Who is on call, from when until when, in the first `weeks` weeks."""
    end = rotation.first_handoff + weeks * _WEEK
    current: tuple[str | None, datetime, datetime] | None = None
    index = 0
    while rotation.first_handoff + index * rotation.interval < end:
        since = rotation.first_handoff + index * rotation.interval
        user = rotation.slots[index % len(rotation.slots)]
        if current is not None and current[0] == user:
            current = (user, current[1], since + rotation.interval)
        else:
            yield from _within_windows(rotation, current)
            current = (user, since, since + rotation.interval)
        index += 1
    yield from _within_windows(rotation, current)


def _within_windows(
    rotation: ConvertedRotation, span: tuple[str | None, datetime, datetime] | None
) -> Iterator[tuple[str, datetime, datetime]]:
    """The parts of a span within the windows."""
    if span is None or span[0] is None:
        return
    user, since, until = span[0], span[1], span[2]
    if not rotation.windows or (week := weekly_windows.merge_windows(rotation.windows)).is_always:
        yield user, since, until
        return
    monday = datetime.combine(since.date() - timedelta(days=since.weekday(), weeks=1), datetime.min.time())
    while monday < until:
        for start, length in week.spans:
            window_start = monday + start * _MINUTE
            begin, end = max(window_start, since), min(window_start + length * _MINUTE, until)
            if begin < end:
                yield user, begin, end
        monday += _WEEK


def _shift(rotation: ConvertedRotation, name: str, content: dict[str, Any]) -> dict[str, Any]:
    end = {"end": _format_time(rotation.end)} if rotation.end is not None else {}
    return {"name": name, **_layer(rotation), **content, **end}


def _layer(rotation: ConvertedRotation) -> dict[str, Any]:
    return {"layer": rotation.layer} if rotation.layer != 1 else {}


def _suffixed_name(name: str, suffix: str) -> str:
    return f"{name[: 98 - len(suffix)]}, {suffix}"


def _format_time(at: datetime) -> str:
    return at.isoformat(timespec="minutes")
