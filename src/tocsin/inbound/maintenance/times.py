"""Times of maintenance windows in specs: parses and validates them, and describes them. Pure.

`{starts: 2026-12-01 22:00, ends: 2026-12-02 02:00}` once; `{repeat: weekly, days: [tue], from: "22:00", to: "02:00"}`,
with `lasts: 56h` instead of `to`, and `first_day` and `last_day`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term, joined
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.inbound.maintenance.recurrence import MAX_RECURRING_WINDOW, MonthDay, Recurrence, Repeat, month_day
from tocsin.oncall.calculation.weekly_windows import (
    NOT_A_DAY,
    NOT_A_TIME,
    Weekday,
    format_time,
    parse_time,
    parse_weekday,
)

_ONLY_RECURRING = ReasonType(
    "maintenance.only_for_recurring", "applies to recurring windows; a one-time window has starts and ends."
)
_ONLY_ONE_TIME = ReasonType(
    "maintenance.only_for_one_time",
    "applies to one-time windows; a recurring window has from and to, first_day and last_day.",
)
_DAYS_REVERSED = ReasonType("maintenance.days_reversed", "is before first_day.")
_INVALID_SPAN = ReasonType("maintenance.invalid_span", "must be after starts, and within a year of it.")
_INVALID_MOMENT = ReasonType(
    "maintenance.invalid_moment", 'is required, in the time zone\'s local time: write it like "2026-12-01 22:00".'
)
_DAYS_NOT_SUPPORTED = ReasonType("maintenance.days_not_supported", "applies to weekly and monthly windows.")
_DAYS_REQUIRED = ReasonType(
    "maintenance.days_required", "are required: [tue] of a week, or [15, 2nd tue, last day] of a month."
)
_INVALID_MONTH_DAY = ReasonType(
    "maintenance.invalid_month_day",
    '"{day}" is not a day of a month; write it like 15, last day, 2nd tue or last sun.',
)
_TO_OR_LASTS = ReasonType("maintenance.to_or_lasts_required", "give one of to (22:00) and lasts (8h).")
_TOO_SHORT = ReasonType("maintenance.too_short", "must be at least one minute.")
_INVALID_DAY = ReasonType("maintenance.invalid_day", 'must be a day such as "2026-12-01".')
_DAY_TOO_LATE = ReasonType("maintenance.day_too_late", "must be a day before the year {year}.")

#: The description of a window's times.
_ONCE = ReasonType("maintenance.once", "Once, from {start_day}, {start} to {end_day}, {end} ({zone})")
_UNTIL_TIME = ReasonType("maintenance.recurring_until_time", "{days} from {start} to {end} ({zone})")
_FOR_DURATION = ReasonType("maintenance.recurring_for_duration", "{days} from {start} for {duration} ({zone})")
_DAILY = ReasonType("maintenance.daily", "Every day")
_WEEKLY = ReasonType("maintenance.weekly", "Every {weekdays}")
_MONTHLY = ReasonType("maintenance.monthly", "On the {days} of each month")
_LAST_DAY_OF_MONTH = ReasonType("maintenance.last_day_of_month", "last day")
_WEEKDAY_OF_MONTH = ReasonType("maintenance.weekday_of_month", "{ordinal} {weekday}")
_LAST_WEEKDAY_OF_MONTH = ReasonType("maintenance.last_weekday_of_month", "last {weekday}")
_FIRST_DAY = ReasonType("maintenance.first_day", "from {day} on")
_LAST_DAY = ReasonType("maintenance.last_day", "until {day}")
_OTHER_ORDINAL = ReasonType("maintenance.ordinal_th", "{number}th")
_ORDINALS = {
    1: ReasonType("maintenance.ordinal_st", "{number}st"),
    2: ReasonType("maintenance.ordinal_nd", "{number}nd"),
    3: ReasonType("maintenance.ordinal_rd", "{number}rd"),
}

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
                spec.add_error(key, _ONLY_RECURRING())
        return times | _read_one_time(spec)
    for key in ("starts", "ends"):
        if spec.has(key):
            spec.add_error(key, _ONLY_ONE_TIME())
    times |= _read_days(spec, repeat)
    times |= _read_hours(spec)
    first, last = _read_date(spec, "first_day"), _read_date(spec, "last_day")
    if first and last and last < first:
        spec.add_error("last_day", _DAYS_REVERSED())
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


def describe_times(times: Mapping[str, Any]) -> Reason:
    """Describes the times in words: "Every Tuesday from 22:00 to 02:00 (Europe/Zurich)"."""
    zone = times["time_zone"]
    if times.get("repeat", "once") == "once":
        starts, ends = datetime.fromisoformat(times["starts"]), datetime.fromisoformat(times["ends"])
        return _ONCE(
            start_day=starts.date(), start=f"{starts:%H:%M}", end_day=ends.date(), end=f"{ends:%H:%M}", zone=zone
        )
    days = _describe_days(times)
    if "to" in times:
        hours = _UNTIL_TIME(days=days, start=times["from"], end=times["to"], zone=zone)
    else:
        hours = _FOR_DURATION(days=days, start=times["from"], duration=durations.parse(times["lasts"]), zone=zone)
    first_day = _FIRST_DAY(day=date.fromisoformat(times["first_day"])) if "first_day" in times else NO_REASON
    last_day = _LAST_DAY(day=date.fromisoformat(times["last_day"])) if "last_day" in times else NO_REASON
    return joined(hours, first_day, last_day, separator=", ")


def _describe_days(times: Mapping[str, Any]) -> Reason:
    match Repeat(times["repeat"]):
        case Repeat.WEEKLY:
            return _WEEKLY(weekdays=tuple(_weekday_name(parse_weekday(text)) for text in times["days"]))
        case Repeat.MONTHLY:
            return _MONTHLY(days=tuple(_describe_month_day(month_day(str(text))) for text in times["days"]))
        case _:
            return _DAILY()


def _describe_month_day(entry: MonthDay) -> Reason:
    if entry.weekday is None:
        return _LAST_DAY_OF_MONTH() if entry.number < 0 else _ordinal(entry.number)
    weekday = _weekday_name(list(Weekday)[entry.weekday])
    if entry.number < 0:
        return _LAST_WEEKDAY_OF_MONTH(weekday=weekday)
    return _WEEKDAY_OF_MONTH(ordinal=_ordinal(entry.number), weekday=weekday)


def _ordinal(number: int) -> Reason:
    last_digit = 0 if number in (11, 12, 13) else number % 10
    return _ORDINALS.get(last_digit, _OTHER_ORDINAL)(number=number)


def _weekday_name(weekday: Weekday) -> Term:
    return Term(weekday.value.capitalize())


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
        spec.add_error("ends", _INVALID_SPAN())
    return {"starts": starts.strftime("%Y-%m-%d %H:%M"), "ends": ends.strftime("%Y-%m-%d %H:%M")}


def _read_moment(spec: ObjectReader, key: str) -> datetime | None:
    text = str(spec.raw(key, "")).strip()
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is not None or not 2000 <= parsed.year <= _LAST_YEAR:
        spec.add_error(key, _INVALID_MOMENT())
        return None
    return parsed.replace(second=0, microsecond=0)


def _read_days(spec: ObjectReader, repeat: Repeat) -> dict[str, list[str]]:
    if repeat is Repeat.DAILY:
        if spec.has("days"):
            spec.add_error("days", _DAYS_NOT_SUPPORTED())
        return {}
    raw_days = spec.raw("days", [])
    day_texts = [str(day_text) for day_text in raw_days] if isinstance(raw_days, list | tuple) else [str(raw_days)]
    days = []
    for day_text in day_texts:
        try:
            days.append(parse_weekday(day_text).short if repeat is Repeat.WEEKLY else str(month_day(day_text)))
        except ValueError:
            weekdays = ", ".join(weekday.short for weekday in Weekday)
            is_weekly = repeat is Repeat.WEEKLY
            spec.add_error(
                "days",
                NOT_A_DAY(value=day_text, choices=weekdays) if is_weekly else _INVALID_MONTH_DAY(day=day_text),
            )
    if not day_texts:
        spec.add_error("days", _DAYS_REQUIRED(), "missing")
    return {"days": list(dict.fromkeys(days))}


def _read_hours(spec: ObjectReader) -> dict[str, str]:
    hours: dict[str, str] = {}
    for key in ("from", "to"):
        text = spec.text(key, required=key == "from" or spec.has(key))
        if text:
            try:
                hours[key] = format_time(parse_time(text) % (24 * 60) if key == "from" else parse_time(text))
            except ValueError:
                spec.add_error(key, NOT_A_TIME(value=text))
    if spec.has("to") == spec.has("lasts"):
        spec.add_error("to", _TO_OR_LASTS(), "missing")
    elif spec.has("lasts"):
        span = spec.duration("lasts", timedelta(hours=1), maximum=MAX_RECURRING_WINDOW)
        if span < timedelta(minutes=1):
            spec.add_error("lasts", _TOO_SHORT())
        hours["lasts"] = durations.write(span)
    return hours


def _read_date(spec: ObjectReader, key: str) -> str:
    text = str(spec.raw(key, "")).strip()
    try:
        parsed = date.fromisoformat(text) if text else None
    except ValueError:
        spec.add_error(key, _INVALID_DAY())
        return ""
    if key == "first_day" and parsed is not None and parsed.year > _LAST_YEAR:
        spec.add_error(key, _DAY_TOO_LATE(year=str(_LAST_YEAR + 1)))
    return parsed.isoformat() if parsed else ""
