"""Times of maintenance windows in specs: parses and validates them, and describes them in a sentence. Pure.

`{starts: 2026-12-01 22:00, ends: 2026-12-02 02:00}` once; `{repeat: weekly, days: [tue], from: "22:00", to: "02:00"}`,
with `lasts: 56h` instead of `to`, and `first_day` and `last_day`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.inbound.maintenance.recurrence import MAX_RECURRING_WINDOW, MonthDay, Recurrence, Repeat, month_day
from tocsin.oncall.calculation.weekly_windows import Weekday, clock, day, minutes

#: The maximum length of a one-time window.
MAX_SINGLE_WINDOW = timedelta(days=366)

KEYS = ("repeat", "time_zone", "starts", "ends", "days", "from", "to", "lasts", "first_day", "last_day")

_FIRST = date(2000, 1, 1)
_LAST_YEAR = 2200


def read(spec: ObjectReader) -> dict[str, Any]:
    """Returns a spec's times as stored. Problems are noted in the spec."""
    repeat = spec.one_of("repeat", Repeat, Repeat.ONCE)
    zone = spec.zone()
    times: dict[str, Any] = {"repeat": str(repeat), "time_zone": zone}
    if repeat is Repeat.ONCE:
        for key in ("days", "from", "to", "lasts", "first_day", "last_day"):
            if spec.has(key):
                spec.refuse(key, "belongs to windows that come again; one that is once has starts and ends.")
        return times | _once(spec)
    for key in ("starts", "ends"):
        if spec.has(key):
            spec.refuse(key, "belongs to a window that is once; others have from and to, first_day and last_day.")
    times |= _days(spec, repeat)
    times |= _hours(spec)
    first, last = _date(spec, "first_day"), _date(spec, "last_day")
    if first and last and last < first:
        spec.refuse("last_day", "is before first_day.")
    times |= {"first_day": first} if first else {}
    return times | ({"last_day": last} if last else {})


def recurrence(times: Mapping[str, Any]) -> Recurrence:
    """Returns the recurrence of stored times."""
    repeat, zone = Repeat(times.get("repeat", "once")), ZoneInfo(times["time_zone"])
    if repeat is Repeat.ONCE:
        begin = datetime.fromisoformat(times["starts"])
        return Recurrence(repeat, zone, begin, datetime.fromisoformat(times["ends"]) - begin)
    first = date.fromisoformat(times["first_day"]) if "first_day" in times else _FIRST
    start = minutes(times["from"])
    begin = datetime.combine(first, datetime.min.time()) + timedelta(minutes=start)
    named = times.get("days", [])
    return Recurrence(
        repeat,
        zone,
        begin,
        _length(times, start),
        days=frozenset(day(text).number for text in named) if repeat is Repeat.WEEKLY else frozenset(),
        month_days=tuple(month_day(str(text)) for text in named) if repeat is Repeat.MONTHLY else (),
        until=date.fromisoformat(times["last_day"]) if "last_day" in times else None,
    )


def describe_times(times: Mapping[str, Any]) -> str:
    """Describes the times in words: "every Tuesday from 22:00 to 02:00 (Europe/Zurich)"."""
    zone = times["time_zone"]
    if times.get("repeat", "once") == "once":
        return f"once, from {times['starts']} to {times['ends']} ({zone})"
    span = f"from {times['from']} to {times['to']}" if "to" in times else f"from {times['from']} for {times['lasts']}"
    match Repeat(times["repeat"]):
        case Repeat.WEEKLY:
            when = f"every {_and([day(text).value.capitalize() for text in times['days']])}"
        case Repeat.MONTHLY:
            when = f"on the {_and([_said(month_day(str(text))) for text in times['days']])} of each month"
        case _:
            when = "every day"
    since = f", from {times['first_day']} on" if "first_day" in times else ""
    until = f", until {times['last_day']}" if "last_day" in times else ""
    return f"{when} {span} ({zone}){since}{until}"


def _said(one: MonthDay) -> str:
    if one.weekday is None:
        return "last day" if one.number < 0 else f"{one.number}."
    return f"{str(one).split()[0]} {list(Weekday)[one.weekday].value.capitalize()}"


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _length(times: Mapping[str, Any], start: int) -> timedelta:
    if "lasts" in times:
        return durations.parse(times["lasts"])
    end = minutes(times["to"])
    return timedelta(minutes=end - start if end > start else end + 24 * 60 - start)


def _once(spec: ObjectReader) -> dict[str, str]:
    starts, ends = _moment(spec, "starts"), _moment(spec, "ends")
    if starts is None or ends is None:
        return {}
    if not timedelta() < ends - starts <= MAX_SINGLE_WINDOW:
        spec.refuse("ends", "must be after starts, and within a year of it.")
    return {"starts": starts.strftime("%Y-%m-%d %H:%M"), "ends": ends.strftime("%Y-%m-%d %H:%M")}


def _moment(spec: ObjectReader, key: str) -> datetime | None:
    text = str(spec.raw(key, "")).strip()
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not 2000 <= found.year <= _LAST_YEAR:
        spec.refuse(key, 'is needed, by the clock of the time zone: write it like "2026-12-01 22:00".')
        return None
    return found.replace(second=0, microsecond=0)


def _days(spec: ObjectReader, repeat: Repeat) -> dict[str, list[str]]:
    if repeat is Repeat.DAILY:
        if spec.has("days"):
            spec.refuse("days", "belongs to weekly and monthly windows.")
        return {}
    given = spec.raw("days", [])
    listed = [str(one) for one in given] if isinstance(given, list | tuple) else [str(given)]
    found = []
    for one in listed:
        try:
            found.append(day(one).short if repeat is Repeat.WEEKLY else str(month_day(one)))
        except ValueError as problem:
            spec.refuse("days", str(problem))
    if not listed:
        spec.refuse("days", "are needed: [tue] of a week, or [15, 2nd tue, last day] of a month.", "missing")
    return {"days": list(dict.fromkeys(found))}


def _hours(spec: ObjectReader) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in ("from", "to"):
        text = spec.text(key, required=key == "from" or spec.has(key))
        if text:
            try:
                found[key] = clock(minutes(text) % (24 * 60) if key == "from" else minutes(text))
            except ValueError as problem:
                spec.refuse(key, str(problem))
    if spec.has("to") == spec.has("lasts"):
        spec.refuse("to", "give one of to (22:00) and lasts (8h).", "missing")
    elif spec.has("lasts"):
        span = spec.span("lasts", timedelta(hours=1), longest=MAX_RECURRING_WINDOW)
        if span < timedelta(minutes=1):
            spec.refuse("lasts", "must be a minute at least.")
        found["lasts"] = durations.write(span)
    return found


def _date(spec: ObjectReader, key: str) -> str:
    text = str(spec.raw(key, "")).strip()
    try:
        found = date.fromisoformat(text) if text else None
    except ValueError:
        spec.refuse(key, 'must be a day such as "2026-12-01".')
        return ""
    if key == "first_day" and found is not None and found.year > _LAST_YEAR:
        spec.refuse(key, f"must be a day before the year {_LAST_YEAR + 1}.")
    return found.isoformat() if found else ""
