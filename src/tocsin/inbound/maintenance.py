"""Maintenance windows: their recurrence, the alerts they hold back, and changing them."""

from __future__ import annotations

import calendar
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from tocsin.core.reasons import Reason, Term, Text, joined, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import REQUIRED, format_time, parse_time
from tocsin.core.validation.spec import (
    Duration,
    InForm,
    InvalidValue,
    OneOf,
    Parsed,
    Spec,
    SpecErrors,
    TimeOfDay,
    TimeZone,
    at_most,
)
from tocsin.inbound.conditions import CompiledCondition, compile_condition
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.fields import MappedFields
from tocsin.oncall.calculation.weekly_windows import (
    NOT_A_DAY,
    Weekday,
    instant,
    parse_weekday,
)

# ---------- recurrence
# Recurrence of maintenance windows: once, daily, weekly or monthly, in wall-clock time of a time zone. Pure.
# Daylight saving: a window lasts as long as the wall clock says, so a night may be an hour shorter or longer. A time
# that clocks skip is that much after the change, and a repeated time is the first of the two; a window is never empty.

#: The maximum length of a recurring window, in wall-clock time.
MAX_RECURRING_WINDOW = timedelta(days=7)

#: A window is long if it covers more than MAX_USUAL_COVER of the coming COVER_PERIOD: alerts are not missed for so long
#: by intention only.
MAX_USUAL_COVER = timedelta(days=7)
COVER_PERIOD = timedelta(days=28)

#: How far ahead occurrences are searched: far enough for a window that occurs once in four years.
_HORIZON = timedelta(days=366 * 9)

type TimeSpan = tuple[datetime, datetime]


class Repeat(StrEnum):
    ONCE = "once"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class MonthDay:
    """A day of each month: `number` from 1, or -1 for the last; with `weekday`, the n-th such weekday."""

    number: int
    weekday: int | None = None

    def is_on(self, day_date: date) -> bool:
        last = calendar.monthrange(day_date.year, day_date.month)[1]
        if self.weekday is None:
            return day_date.day == (last if self.number < 0 else self.number)
        if day_date.weekday() != self.weekday:
            return False
        return day_date.day > last - 7 if self.number < 0 else (day_date.day - 1) // 7 == self.number - 1

    def __str__(self) -> str:
        if self.weekday is None:
            return "last day" if self.number < 0 else str(self.number)
        return f"{'last' if self.number < 0 else _ORDINALS[self.number - 1]} {list(Weekday)[self.weekday].short}"


_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th")


def month_day(text: str) -> MonthDay:
    """Parses `15`, `last day`, `2nd tue` or `last sun`. Raises ValueError."""
    words = text.strip().lower().split()
    if len(words) == 1 and words[0].isascii() and words[0].isdigit() and 1 <= int(words[0]) <= 31:
        return MonthDay(int(words[0]))
    if words == ["last", "day"]:
        return MonthDay(-1)
    if len(words) == 2 and words[0] in (*_ORDINALS, "last"):
        number = -1 if words[0] == "last" else _ORDINALS.index(words[0]) + 1
        return MonthDay(number, parse_weekday(words[1]).number)
    raise ValueError(f'"{text}" is not a day of a month; write it like 15, last day, 2nd tue or last sun.')


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When a window occurs. `begin` (first start) and `length` are naive wall-clock values; `until` is the last start
    day. `days` are weekdays (0 is Monday), `month_days` days of a month."""

    repeat: Repeat
    zone: ZoneInfo
    begin: datetime
    length: timedelta
    days: frozenset[int] = frozenset()
    month_days: tuple[MonthDay, ...] = ()
    until: date | None = None

    def occurrence_at(self, now: datetime) -> TimeSpan | None:
        """Returns the occurrence that contains `now`, in UTC, end exclusive; of several, the one that ends last."""
        today = now.astimezone(self.zone).date()
        days_back = self.length.days + 2
        spans = (self._occurrence_on(today - timedelta(days=offset)) for offset in range(-1, days_back + 1))
        return max((span for span in spans if span and span[0] <= now < span[1]), key=lambda s: s[1], default=None)

    def occurrences_after(self, now: datetime) -> Iterator[TimeSpan]:
        """Yields the occurrences that start after `now`, in order."""
        first = max(now.astimezone(self.zone).date() - timedelta(days=1), self.begin.date())
        end = date.max - MAX_RECURRING_WINDOW - timedelta(days=2)
        last = min(self.until or end, end, first + _HORIZON if first < end - _HORIZON else end)
        if self.repeat is Repeat.ONCE:
            first = last = self.begin.date()
        start_day = first
        while start_day <= last:
            span = self._occurrence_on(start_day)
            if span is not None and span[0] > now:
                yield span
            start_day += timedelta(days=1)

    def next_occurrences(self, now: datetime, limit: int) -> list[TimeSpan]:
        """Returns the current occurrence, if any, and the following ones: at most `limit`."""
        current = self.occurrence_at(now)
        return ([current] if current else []) + list(islice(self.occurrences_after(now), limit - (current is not None)))

    def cover(self, now: datetime) -> timedelta:
        """Returns how much of COVER_PERIOD it covers: from `now`, or from its next occurrence."""
        total, covered_until, period_end = timedelta(), now, None
        current = self.occurrence_at(now)
        for begin, end in chain([current] if current else [], self.occurrences_after(now)):
            period_end = period_end or max(begin, now) + COVER_PERIOD
            if begin >= period_end:
                break
            total += max(min(end, period_end) - max(begin, covered_until), timedelta())
            covered_until = max(covered_until, end)
        return total

    def has_ended(self, now: datetime) -> bool:
        """Returns whether it never occurs again."""
        return self.occurrence_at(now) is None and next(self.occurrences_after(now), None) is None

    def _occurrence_on(self, start_day: date) -> TimeSpan | None:
        if (
            start_day < self.begin.date()
            or (self.until is not None and start_day > self.until)
            or not self._occurs_on(start_day)
        ):
            return None
        local = datetime.combine(start_day, self.begin.time())
        begin, end = instant(local, self.zone), instant(local + self.length, self.zone)
        if end <= begin:
            # It starts at a time that clocks skip, and ends right after the change.
            begin = local.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return begin, end

    def _occurs_on(self, start_day: date) -> bool:
        match self.repeat:
            case Repeat.ONCE:
                return start_day == self.begin.date()
            case Repeat.DAILY:
                return True
            case Repeat.WEEKLY:
                return start_day.weekday() in self.days
            case Repeat.MONTHLY:
                return any(candidate.is_on(start_day) for candidate in self.month_days)


# ---------- windows
# Compiled maintenance windows for the hot path: whether one prevents an alert from opening now. Pure.


class WindowClock:
    """Returns whether a window is active, recomputed only when that changes."""

    __slots__ = ("_cached", "recurrence")

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        #: The interval for which the cached answer is valid, and the answer. Replaced as a whole.
        self._cached: tuple[datetime, datetime | None, TimeSpan | None] | None = None

    def occurrence_at(self, now: datetime) -> TimeSpan | None:
        cached = self._cached
        if cached is not None and cached[0] <= now and (cached[1] is None or now < cached[1]):
            return cached[2]
        span = self.recurrence.occurrence_at(now)
        next_span = next(self.recurrence.occurrences_after(now), None)
        boundaries = [*([span[1]] if span else ()), *([next_span[0]] if next_span else ())]
        self._cached = (now, min(boundaries, default=None), span)
        return span


_ALWAYS = compile_condition(None)


@dataclass(frozen=True, slots=True)
class CompiledWindow:
    """One compiled maintenance window. Empty `integrations`, `groups` or `tags` match all."""

    id: int
    name: str
    action: WindowAction
    clock: WindowClock
    integrations: frozenset[int] = frozenset()
    #: Matches alerts with one of these recipient groups.
    groups: frozenset[int] = frozenset()
    #: Matches alerts with all of these tag values; names and values ignore case.
    tags: Mapping[str, str] = field(default_factory=dict)
    condition: object = None
    #: Matches only alerts of this group, which owns the window while boundaries are on; None: alerts of all.
    owner: int | None = None
    #: The condition, compiled for one integration.
    when: CompiledCondition = _ALWAYS

    def for_integration(
        self, integration_id: int, group_id: int | None, fields: Iterable[str]
    ) -> CompiledWindow | None:
        """Returns the window for one integration, whose fields its condition may use; None if it excludes it. Of an
        integration that its owner owns too, it matches all alerts."""
        if self.integrations and integration_id not in self.integrations:
            return None
        owner = None if self.owner == group_id else self.owner
        return replace(self, when=compile_condition(self.condition, "when", fields), owner=owner)

    def applies_to(self, payload: object, mapped: MappedFields, groups: Iterable[int]) -> bool:
        """Returns whether the window applies to such an alert, regardless of the time."""
        groups = frozenset(groups)
        if self.owner is not None and self.owner not in groups:
            return False
        if self.groups and self.groups.isdisjoint(groups):
            return False
        if self.tags:
            tags = {name.casefold(): value.casefold() for name, value in mapped.tags.items()}
            if any(tags.get(name.casefold()) != value.casefold() for name, value in self.tags.items()):
                return False
        return self.when.matches(payload, mapped)


def matching_window(
    windows: Iterable[CompiledWindow], payload: object, mapped: MappedFields, groups: Iterable[int], now: datetime
) -> tuple[CompiledWindow, datetime] | None:
    """Returns the active window that applies to the alert, and its end: one that suppresses, else the holding one that
    ends last."""
    longest: tuple[CompiledWindow, datetime] | None = None
    for window in windows:
        span = window.clock.occurrence_at(now)
        if span is None or not window.applies_to(payload, mapped, groups):
            continue
        if window.action is WindowAction.SUPPRESS:
            return window, span[1]
        if longest is None or span[1] > longest[1]:
            longest = window, span[1]
    return longest


# ---------- times
# Times of maintenance windows in specs: parses and validates them, and describes them. Pure.
# `{starts: 2026-12-01 22:00, ends: 2026-12-02 02:00}` once; `{repeat: weekly, days: [tue], from: "22:00", to:
# "02:00"}`, with `lasts: 56h` instead of `to`, and `first_day` and `last_day`.

_INVALID_MOMENT = Text('is required, in the time zone\'s local time: write it like "2026-12-01 22:00".')

_NUMBERED = {1: Text("{number}st"), 2: Text("{number}nd"), 3: Text("{number}rd")}

#: The maximum length of a one-time window.
MAX_SINGLE_WINDOW = timedelta(days=366)

_FIRST = date(2000, 1, 1)
_LAST_YEAR = 2200


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None or not 2000 <= moment.year <= _LAST_YEAR:
        raise InvalidValue(_INVALID_MOMENT())
    return moment.replace(second=0, microsecond=0)


def _date(value: object) -> date:
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError:
        raise InvalidValue(sentence('must be a day such as "2026-12-01".')) from None


def _first_day(day: date) -> date:
    if day.year > _LAST_YEAR:
        raise InvalidValue(sentence("must be a day before the year {year}.", year=str(_LAST_YEAR + 1)))
    return day


def _length(duration: timedelta) -> timedelta:
    if duration < timedelta(minutes=1):
        raise InvalidValue(sentence("must be at least one minute."))
    return duration


_DATE_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MOMENT_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"

_Moment = Annotated[datetime, Parsed(_moment, {"type": "string", "pattern": _MOMENT_PATTERN})]
_Date = Annotated[date, Parsed(_date, {"type": "string", "format": "date", "pattern": _DATE_PATTERN})]
_Days = Annotated[
    tuple[str, ...],
    Parsed(
        lambda value: tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),),
        {"type": "array", "items": {"type": ["string", "integer"]}},
    ),
]


class WindowTimesSpec(Spec):
    """The times of a maintenance window: once, or recurring."""

    repeat: Annotated[
        Repeat,
        OneOf(),
        InForm(
            _("Repeats"),
            choices={
                Repeat.ONCE: _("never"),
                Repeat.DAILY: _("daily"),
                Repeat.WEEKLY: _("weekly"),
                Repeat.MONTHLY: _("monthly"),
            },
            section="when",
        ),
    ] = Field(default=Repeat.ONCE, description="How often the window recurs.")
    time_zone: Annotated[TimeZone, InForm(_("Time zone"), widget="zone", section="when", is_required=True)] = Field(
        default="UTC", description="Time zone of all times."
    )
    starts: Annotated[_Moment | None, InForm(_("Starts"), widget="moment", section="when", is_required=True)] = Field(
        default=None, description="Start of a one-time window, in local time, such as `2026-12-01 22:00`."
    )
    ends: Annotated[_Moment | None, InForm(_("Ends"), widget="moment", section="when", is_required=True)] = Field(
        default=None, description="End of a one-time window, within a year of its start."
    )
    days: _Days = Field(
        default=(),
        description="Days of a weekly window, such as `[tue]`, or of a monthly one, such as `[15, 2nd tue, last day]`.",
    )
    start: Annotated[TimeOfDay | None, InForm(_("From"), widget="time", section="when", is_required=True)] = Field(
        default=None, alias="from", description="Local time at which a recurring window begins, such as `22:00`."
    )
    end: Annotated[
        TimeOfDay | None,
        InForm(_("To"), _("An end time before the start is on the next day."), widget="time", section="when"),
    ] = Field(
        default=None,
        alias="to",
        description="Local time at which it ends; on the next day if it is not after `from`.",
    )
    lasts: Annotated[
        Annotated[Duration, at_most(MAX_RECURRING_WINDOW), AfterValidator(_length)] | None,
        InForm(_("Or duration"), _("Instead of an end time. Example: 8h"), section="when"),
    ] = Field(default=None, description="Length of a recurring window, instead of `to`.")
    first_day: Annotated[
        Annotated[_Date, AfterValidator(_first_day)] | None, InForm(_("First day"), widget="date", section="when")
    ] = Field(default=None, description="First day on which a recurring window begins.")
    last_day: Annotated[_Date | None, InForm(_("Last day"), widget="date", section="when")] = Field(
        default=None, description="Last day on which a recurring window begins."
    )
    allow_long: Annotated[bool, InForm(_("Save anyway (alerts page no one for long)"), section="confirmation")] = Field(
        default=False,
        alias="anyway",
        description="Whether it may be saved although it covers more than 7 of 28 days.",
    )

    def check(self, errors: SpecErrors) -> None:
        given = self.given_keys
        is_once = self.repeat is Repeat.ONCE
        foreign_keys = ("days", "from", "to", "lasts", "first_day", "last_day") if is_once else ("starts", "ends")
        problem = (
            sentence("applies to recurring windows; a one-time window has starts and ends.")
            if is_once
            else sentence("applies to one-time windows; a recurring window has from and to, first_day and last_day.")
        )
        for key in foreign_keys:
            if key in given:
                errors.add(key, problem)
        if is_once:
            for key, moment in (("starts", self.starts), ("ends", self.ends)):
                if moment is None:
                    errors.add(key, _INVALID_MOMENT())
            if self.starts and self.ends and not timedelta() < self.ends - self.starts <= MAX_SINGLE_WINDOW:
                errors.add("ends", sentence("must be after starts, and within a year of it."))
            return
        self._check_days(errors, given)
        if "from" not in given:
            errors.add("from", REQUIRED(), "missing")
        if ("to" in given) == ("lasts" in given):
            errors.add("to", sentence("set either to (22:00) or lasts (8h)."), "missing")
        if self.first_day and self.last_day and self.last_day < self.first_day:
            errors.add("last_day", sentence("is before first_day."))

    def _check_days(self, errors: SpecErrors, given: Collection[str]) -> None:
        if self.repeat is Repeat.DAILY and "days" in given:
            errors.add("days", sentence("applies to weekly and monthly windows."))
        elif self.repeat is not Repeat.DAILY and not self.days:
            errors.add(
                "days", sentence("are required: [tue] of a week, or [15, 2nd tue, last day] of a month."), "missing"
            )
        for day in self.days:
            try:
                self._written_day(day)
            except ValueError:
                if self.repeat is Repeat.WEEKLY:
                    problem = NOT_A_DAY(value=day, choices=", ".join(weekday.short for weekday in Weekday))
                else:
                    problem = sentence(
                        '"{day}" is not a day of a month; write it like 15, last day, 2nd tue or last sun.', day=day
                    )
                errors.add("days", problem)

    def _written_day(self, text: str) -> str:
        return parse_weekday(text).short if self.repeat is Repeat.WEEKLY else str(month_day(text))

    def times(self) -> dict[str, Any]:
        times: dict[str, Any] = {"repeat": str(self.repeat), "time_zone": self.time_zone}
        if self.allow_long:
            times["anyway"] = True
        if self.starts and self.ends:
            return times | {"starts": f"{self.starts:%Y-%m-%d %H:%M}", "ends": f"{self.ends:%Y-%m-%d %H:%M}"}
        assert self.start is not None
        if self.repeat is not Repeat.DAILY:
            times["days"] = list(dict.fromkeys(self._written_day(day) for day in self.days))
        times["from"] = format_time(self.start % (24 * 60))
        if self.end is not None:
            times["to"] = format_time(self.end)
        if self.lasts is not None:
            times["lasts"] = inputs.write_duration(self.lasts)
        days = {"first_day": self.first_day, "last_day": self.last_day}
        return times | {key: day.isoformat() for key, day in days.items() if day}


def recurrence(times: Mapping[str, Any]) -> Recurrence:
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
        _stored_length(times, start),
        days=frozenset(parse_weekday(text).number for text in day_texts) if repeat is Repeat.WEEKLY else frozenset(),
        month_days=tuple(month_day(str(text)) for text in day_texts) if repeat is Repeat.MONTHLY else (),
        until=date.fromisoformat(times["last_day"]) if "last_day" in times else None,
    )


def describe_times(times: Mapping[str, Any]) -> Reason:
    """Describes the times in words: "Every Tuesday from 22:00 to 02:00 (Europe/Zurich)"."""
    zone = times["time_zone"]
    if times.get("repeat", "once") == "once":
        starts, ends = datetime.fromisoformat(times["starts"]), datetime.fromisoformat(times["ends"])
        return sentence(
            "Once, from {start_day}, {start} to {end_day}, {end} ({zone})",
            start_day=starts.date(),
            start=f"{starts:%H:%M}",
            end_day=ends.date(),
            end=f"{ends:%H:%M}",
            zone=zone,
        )
    days = _describe_days(times)
    start = times["from"]
    if "to" in times:
        parts = [sentence("{days} from {start} to {end} ({zone})", days=days, start=start, end=times["to"], zone=zone)]
    else:
        duration = inputs.parse_duration(times["lasts"])
        parts = [
            sentence(
                "{days} from {start} for {duration} ({zone})", days=days, start=start, duration=duration, zone=zone
            )
        ]
    if "first_day" in times:
        parts.append(sentence("from {day} on", day=date.fromisoformat(times["first_day"])))
    if "last_day" in times:
        parts.append(sentence("until {day}", day=date.fromisoformat(times["last_day"])))
    return joined(*parts, separator=", ")


def _describe_days(times: Mapping[str, Any]) -> Reason:
    match Repeat(times["repeat"]):
        case Repeat.WEEKLY:
            return sentence(
                "Every {weekdays}", weekdays=tuple(_weekday_name(parse_weekday(text)) for text in times["days"])
            )
        case Repeat.MONTHLY:
            return sentence(
                "On the {days} of each month",
                days=tuple(_describe_month_day(month_day(str(text))) for text in times["days"]),
            )
        case _:
            return sentence("Every day")


def _describe_month_day(entry: MonthDay) -> Reason:
    if entry.weekday is None:
        return sentence("last day") if entry.number < 0 else _ordinal(entry.number)
    weekday = _weekday_name(list(Weekday)[entry.weekday])
    if entry.number < 0:
        return sentence("last {weekday}", weekday=weekday)
    return sentence("{ordinal} {weekday}", ordinal=_ordinal(entry.number), weekday=weekday)


def _ordinal(number: int) -> Reason:
    if number not in (11, 12, 13) and (text := _NUMBERED.get(number % 10)) is not None:
        return text(number=number)
    return sentence("{number}th", number=number)


def _weekday_name(weekday: Weekday) -> Term:
    return Term(weekday.value.capitalize())


def _stored_length(times: Mapping[str, Any], start: int) -> timedelta:
    if "lasts" in times:
        return inputs.parse_duration(times["lasts"])
    end = parse_time(times["to"])
    return timedelta(minutes=end - start if end > start else end + 24 * 60 - start)
