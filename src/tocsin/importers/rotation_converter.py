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

from tocsin.core.validation import durations
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import MINUTES_A_DAY, MINUTES_A_WEEK, Weekday, WeeklyWindow
from tocsin.oncall.changes.specs import MAX_HANDOFF_INTERVAL, MAX_WEEKS, MIN_HANDOFF_INTERVAL

#: A rotation with more fixed shifts than this would be unreadable.
MAX_SEGMENTS = 200

_WEEK = timedelta(weeks=1)
_MINUTE = timedelta(minutes=1)


class UnsupportedRotation(Exception):
    """The rotation has no exact equivalent; the message explains why, as a sentence."""


@dataclass(frozen=True, slots=True)
class ConvertedRotation:
    """A rotation. All times are local in the schedule's zone, to the minute."""

    name: str
    #: Usernames in order; None is an empty slot.
    slots: tuple[str | None, ...]
    first: datetime
    every: timedelta
    windows: tuple[WeeklyWindow, ...] = ()
    #: Nobody is on call before, even if handoffs count from earlier; None: the first handoff.
    begin: datetime | None = None
    end: datetime | None = None
    layer: int = 1


def shifts(turns: ConvertedRotation, now: datetime) -> list[dict[str, Any]]:
    """The shifts as in YAML; none for a rotation that is over at the local time `now` or has no users.

    Raises UnsupportedRotation.
    """
    last = max(now, turns.first, turns.begin or turns.first)
    if not any(turns.slots) or (turns.end is not None and turns.end <= last):
        return []
    if not MIN_HANDOFF_INTERVAL <= turns.every <= MAX_HANDOFF_INTERVAL:
        raise UnsupportedRotation(
            f"A turn of {durations.describe(turns.every)} is shorter than an hour or longer than a year."
        )
    if len(set(turns.slots)) == 1:
        return [_alone(turns)]
    begin = turns.begin if turns.begin is not None and turns.begin > max(now, turns.first) else None
    if None in turns.slots or len(set(turns.slots)) < len(turns.slots):
        return _stretches(turns, begin)
    return _rotation(turns, begin)


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


def combine(several: Sequence[WeeklyWindow]) -> tuple[WeeklyWindow, ...]:
    """The windows, with those at the same time of day merged."""
    days: dict[tuple[int, int], set[int]] = {}
    alone: list[WeeklyWindow] = []
    for one in several:
        if one.end > MINUTES_A_DAY:
            alone.append(one)
        else:
            days.setdefault((one.start, one.end), set()).update(one.days)
    return (*(WeeklyWindow(frozenset(on), start, end) for (start, end), on in days.items()), *alone)


def _alone(turns: ConvertedRotation) -> dict[str, Any]:
    """A single user from beginning to end."""
    begin = max(turns.first, turns.begin or turns.first)
    open_at = turns.windows or (WeeklyWindow(frozenset(range(len(Weekday))), 0, MINUTES_A_DAY),)
    pattern = {"windows": weekly_windows.write(open_at), "users": [turns.slots[0]], "roles": ["primary"]}
    return _shift(turns, turns.name, {"fixed": pattern, "start": _local(begin)})


def _rotation(turns: ConvertedRotation, begin: datetime | None) -> list[dict[str, Any]]:
    """A rotation with each user once."""
    first, slots, found = turns.first, list(turns.slots), []
    if begin is not None:
        passed = -((first - begin) // turns.every)
        handed = first + passed * turns.every
        if handed > begin:
            # The remainder of the turn in progress at the start becomes a separate shift.
            until = min(handed, turns.end) if turns.end else handed
            found += _one_stretch(turns, begin, until, slots[(passed - 1) % len(slots)])
        first, slots = handed, slots[passed % len(slots) :] + slots[: passed % len(slots)]
    if turns.end is not None and first >= turns.end:
        return found
    rotate: dict[str, Any] = {"every": durations.write(turns.every), "at": first.strftime("%H:%M")}
    if turns.every % _WEEK == timedelta():
        rotate["on"] = str(list(Weekday)[first.weekday()])
    if turns.windows:
        rotate["windows"] = weekly_windows.write(turns.windows)
    rotate |= {"users": slots, "roles": ["primary"]}
    found.append(_shift(turns, turns.name, {"rotate": rotate, "start": first.date().isoformat()}))
    return found


def _one_stretch(turns: ConvertedRotation, begin: datetime, end: datetime, user: str | None) -> list[dict[str, Any]]:
    open_at = turns.windows or (WeeklyWindow(frozenset(range(len(Weekday))), 0, MINUTES_A_DAY),)
    pattern = {"windows": weekly_windows.write(open_at), "users": [user], "roles": ["primary"]}
    bounds = {"start": _local(begin), "end": _local(end)}
    shift = {"name": _named(turns.name, "first turn"), **_layer(turns), "fixed": pattern, **bounds}
    return [shift] if user is not None else []


def _stretches(turns: ConvertedRotation, begin: datetime | None) -> list[dict[str, Any]]:
    """A user with several slots, or an empty slot: each slot's spans become fixed shifts that recur with the whole
    cycle."""
    cycle = len(turns.slots) * turns.every
    weeks = next((n for n in range(1, MAX_WEEKS + 1) if (n * _WEEK) % cycle == timedelta()), None)
    if weeks is None:
        raise UnsupportedRotation(
            f"Its order comes again after {durations.describe(cycle)}, which fits into no {MAX_WEEKS} weeks."
        )
    found = list(_held(turns, weeks))
    if len(found) > MAX_SEGMENTS:
        raise UnsupportedRotation(f"It would take {len(found)} stretches in {weeks} weeks to write it down.")
    bounds = {"start": _local(begin)} if begin is not None else {}
    each = f"{weeks}w"
    return [
        _shift(
            turns,
            _named(turns.name, str(number)),
            {
                "fixed": {
                    "from": _local(since),
                    "to": _local(until),
                    "every": each,
                    "users": [user],
                    "roles": ["primary"],
                },
                **bounds,
            },
        )
        for number, (user, since, until) in enumerate(found, 1)
    ]


def _held(turns: ConvertedRotation, weeks: int) -> Iterator[tuple[str, datetime, datetime]]:
    """Who is on call, from when until when, in the first `weeks` weeks."""
    last = turns.first + weeks * _WEEK
    held: tuple[str | None, datetime, datetime] | None = None
    number = 0
    while turns.first + number * turns.every < last:
        since = turns.first + number * turns.every
        user = turns.slots[number % len(turns.slots)]
        if held is not None and held[0] == user:
            held = (user, held[1], since + turns.every)
        else:
            yield from _open(turns, held)
            held = (user, since, since + turns.every)
        number += 1
    yield from _open(turns, held)


def _open(
    turns: ConvertedRotation, held: tuple[str | None, datetime, datetime] | None
) -> Iterator[tuple[str, datetime, datetime]]:
    """The parts of a span within the windows."""
    if held is None or held[0] is None:
        return
    user, since, until = held[0], held[1], held[2]
    if not turns.windows or (week := weekly_windows.week(turns.windows)).is_always:
        yield user, since, until
        return
    monday = datetime.combine(since.date() - timedelta(days=since.weekday(), weeks=1), datetime.min.time())
    while monday < until:
        for start, length in week.spans:
            opens = monday + start * _MINUTE
            begin, end = max(opens, since), min(opens + length * _MINUTE, until)
            if begin < end:
                yield user, begin, end
        monday += _WEEK


def _shift(turns: ConvertedRotation, name: str, rest: dict[str, Any]) -> dict[str, Any]:
    end = {"end": _local(turns.end)} if turns.end is not None else {}
    return {"name": name, **_layer(turns), **rest, **end}


def _layer(turns: ConvertedRotation) -> dict[str, Any]:
    return {"layer": turns.layer} if turns.layer != 1 else {}


def _named(name: str, suffix: str) -> str:
    return f"{name[: 98 - len(suffix)]}, {suffix}"


def _local(at: datetime) -> str:
    return at.isoformat(timespec="minutes")
