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
from tocsin.oncall.calculation.weekly_windows import Weekday, format_time, parse_time, parse_weekday

#: The maximum length of a one-time window.
MAX_SINGLE_WINDOW = timedelta(days=366)

KEYS = ("repeat", "time_zone", "starts", "ends", "days", "from", "to", "lasts", "first_day", "last_day")

_FIRST = date(2000, 1, 1)
_LAST_YEAR = 2200


def read(spec: ObjectReader) -> dict[str, Any]:
    """Returns a spec's times as stored. Problems are noted in the spec."""
    repeat = spec.one_of("repeat", Repeat, Repeat.ONCE)
    zone = spec.time_zone()
    times: dict[str, Any] = {"repeat": str(repeat), "time_zone": zone}
    if repeat is Repeat.ONCE:
        for key in ("days", "from", "to", "lasts", "first_day", "last_day"):
            if spec.has(key):
                spec.add_error(key, "belongs to windows that come again; one that is once has starts and ends.")
        return times | _read_one_time(spec)
    for key in ("starts", "ends"):
        if spec.has(key):
            spec.add_error(key, "belongs to a window that is once; others have from and to, first_day and last_day.")
    times |= _read_days(spec, repeat)
    times |= _read_hours(spec)
    first, last = _read_date(spec, "first_day"), _read_date(spec, "last_day")
    if first and last and last < first:
        spec.add_error("last_day", "is before first_day.")
    times |= {"first_day": first} if first else {}
    return times | ({"last_day": last} if last else {})


def recurrence(times: Mapping[str, Any]) -> Recurrence:
    """Returns the recurrence of stored times."""
    repeat, zone = Repeat(times.get("repeat", "once")), ZoneInfo(times["time_zone"])
    if repeat is Repeat.ONCE:
        begin = datetime.fromisoformat(times["starts"])
        return Recurrence(repeat, zone, begin, datetime.fromisoformat(times["ends"]) - begin)
    first = date.fromisoformat(times["first_day"]) if "first_day" in times else _FIRST
    start = parse_time(times["from"])
    begin = datetime.combine(first, datetime.min.time()) + timedelta(minutes=start)
    day_texts = times.get("days", [])
    return Recurrence(
        repeat,
        zone,
        begin,
        _length(times, start),
        days=frozenset(parse_weekday(text).number for text in day_texts) if repeat is Repeat.WEEKLY else frozenset(),
        month_days=tuple(month_day(str(text)) for text in day_texts) if repeat is Repeat.MONTHLY else (),
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
            when = f"every {_join_with_and([parse_weekday(text).value.capitalize() for text in times['days']])}"
        case Repeat.MONTHLY:
            when = (
                f"on the {_join_with_and([_month_day_text(month_day(str(text))) for text in times['days']])} "
                "of each month"
            )
        case _:
            when = "every day"
    since = f", from {times['first_day']} on" if "first_day" in times else ""
    until = f", until {times['last_day']}" if "last_day" in times else ""
    return f"{when} {span} ({zone}){since}{until}"


def _month_day_text(month_day_entry: MonthDay) -> str:
    if month_day_entry.weekday is None:
        return "last day" if month_day_entry.number < 0 else f"{month_day_entry.number}."
    return f"{str(month_day_entry).split()[0]} {list(Weekday)[month_day_entry.weekday].value.capitalize()}"


def _join_with_and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _length(times: Mapping[str, Any], start: int) -> timedelta:
    if "lasts" in times:
        return durations.parse(times["lasts"])
    end = parse_time(times["to"])
    return timedelta(minutes=end - start if end > start else end + 24 * 60 - start)


def _read_one_time(spec: ObjectReader) -> dict[str, str]:
    starts, ends = _read_moment(spec, "starts"), _read_moment(spec, "ends")
    if starts is None or ends is None:
        return {}
    if not timedelta() < ends - starts <= MAX_SINGLE_WINDOW:
        spec.add_error("ends", "must be after starts, and within a year of it.")
    return {"starts": starts.strftime("%Y-%m-%d %H:%M"), "ends": ends.strftime("%Y-%m-%d %H:%M")}


def _read_moment(spec: ObjectReader, key: str) -> datetime | None:
    text = str(spec.raw(key, "")).strip()
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is not None or not 2000 <= parsed.year <= _LAST_YEAR:
        spec.add_error(key, 'is needed, by the clock of the time zone: write it like "2026-12-01 22:00".')
        return None
    return parsed.replace(second=0, microsecond=0)


def _read_days(spec: ObjectReader, repeat: Repeat) -> dict[str, list[str]]:
    if repeat is Repeat.DAILY:
        if spec.has("days"):
            spec.add_error("days", "belongs to weekly and monthly windows.")
        return {}
    raw_days = spec.raw("days", [])
    day_texts = [str(day_text) for day_text in raw_days] if isinstance(raw_days, list | tuple) else [str(raw_days)]
    days = []
    for day_text in day_texts:
        try:
            days.append(parse_weekday(day_text).short if repeat is Repeat.WEEKLY else str(month_day(day_text)))
        except ValueError as problem:
            spec.add_error("days", str(problem))
    if not day_texts:
        spec.add_error("days", "are needed: [tue] of a week, or [15, 2nd tue, last day] of a month.", "missing")
    return {"days": list(dict.fromkeys(days))}


def _read_hours(spec: ObjectReader) -> dict[str, str]:
    hours: dict[str, str] = {}
    for key in ("from", "to"):
        text = spec.text(key, required=key == "from" or spec.has(key))
        if text:
            try:
                hours[key] = format_time(parse_time(text) % (24 * 60) if key == "from" else parse_time(text))
            except ValueError as problem:
                spec.add_error(key, str(problem))
    if spec.has("to") == spec.has("lasts"):
        spec.add_error("to", "give one of to (22:00) and lasts (8h).", "missing")
    elif spec.has("lasts"):
        span = spec.duration("lasts", timedelta(hours=1), maximum=MAX_RECURRING_WINDOW)
        if span < timedelta(minutes=1):
            spec.add_error("lasts", "must be a minute at least.")
        hours["lasts"] = durations.write(span)
    return hours


def _read_date(spec: ObjectReader, key: str) -> str:
    text = str(spec.raw(key, "")).strip()
    try:
        parsed = date.fromisoformat(text) if text else None
    except ValueError:
        spec.add_error(key, 'must be a day such as "2026-12-01".')
        return ""
    if key == "first_day" and parsed is not None and parsed.year > _LAST_YEAR:
        spec.add_error(key, f"must be a day before the year {_LAST_YEAR + 1}.")
    return parsed.isoformat() if parsed else ""
