"""Weekly windows in a time zone: which one is open at a moment, from when until when. Pure.

A local time that a clock change skips means the same number of minutes after the change; one that occurs twice means
the first (PEP 495, fold=0). So a window is always one continuous period.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.validation.inputs import InvalidTime, format_time, parse_time, rejected_at
from tocsin.core.validation.spec import list_of

NOT_A_DAY = Text('"{value}" is not a day; write {choices}.')
_NO_COUNTRY = Text('"{country}" is not a country with known holidays; write two letters, such as CH, or list days.')
_NO_REGIONS = Text('"{region}" is not a region of {country} with its own holidays; the country has none.')
_NO_REGION = Text('"{region}" is not a region of {country} with its own holidays; known: {regions}.')

MINUTES_A_DAY = 24 * 60
MINUTES_A_WEEK = 7 * MINUTES_A_DAY
#: No time zone ever jumped by more than a day. In minutes, with an hour's margin.
_MAX_ZONE_JUMP_MINUTES = 25 * 60
_MIDNIGHT = time()
#: Days that can be shown, with a margin to the limits of date arithmetic on both sides.
FIRST_DAY, LAST_DAY = date(1970, 2, 1), date(2190, 1, 1)


class Weekday(StrEnum):
    """A day of the week, in the order of `date.weekday()`."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"

    @property
    def short(self) -> str:
        """The abbreviation: mon, tue, …"""
        return self.value[:3]

    @property
    def number(self) -> int:
        """0 for Monday, as `date.weekday()` counts."""
        return list(Weekday).index(self)


def parse_weekday(text: str) -> Weekday:
    """Parses a weekday, abbreviated or in full. Raises InvalidTime."""
    for weekday in Weekday:
        if text.lower() in (weekday.value, weekday.short):
            return weekday
    raise InvalidTime(NOT_A_DAY(value=text, choices=", ".join(weekday.short for weekday in Weekday)))


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """From `start` to `end`, in minutes from midnight of the day on which it begins, on the given days (0 is Monday).

    An end at or before the start is on the next day: 22:00 to 06:00 begins on the given days. An end after 24:00 is on
    a later day: Friday 17:00 to Monday 08:00 ends 80 hours after Friday's midnight. A window lasts at most a week.
    """

    days: frozenset[int]
    start: int
    end: int

    def on(self, begins: date, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Returns the window that begins on that day, as a period in UTC, or None."""
        if begins.weekday() not in self.days:
            return None
        begin = datetime.combine(begins, _MIDNIGHT)
        return (
            instant(begin + timedelta(minutes=self.start), zone),
            instant(begin + timedelta(minutes=self.start + self.length), zone),
        )

    @property
    def length(self) -> int:
        """Its length in minutes of local time."""
        return (self.end if self.end > self.start else self.end + MINUTES_A_DAY) - self.start


def current(windows: Iterable[WeeklyWindow], zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime] | None:
    """Returns the first of the windows that is open at `at`, as a period in UTC with an exclusive end."""
    today = at.astimezone(zone).date()
    for window in windows:
        for back in range((window.start + window.length - 1) // MINUTES_A_DAY + 1):
            span = window.on(today - timedelta(days=back), zone)
            if span is not None and span[0] <= at < span[1]:
                return span
    return None


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Returns the moment in UTC at which clocks in `zone` show the naive time `local`."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def exists(local: datetime, zone: ZoneInfo) -> bool:
    """Returns False for a naive time that a clock change in `zone` skips."""
    return instant(local, zone).astimezone(zone).replace(tzinfo=None) == local


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Returns the moment in UTC at which `day` begins in `zone`."""
    return instant(datetime.combine(day, _MIDNIGHT), zone)


def day_of(at: datetime, zone: ZoneInfo) -> date:
    """Returns the last day that began in `zone`. If clocks go back across midnight, no day begins twice."""
    today = at.astimezone(zone).date()
    tomorrow = today + timedelta(days=1)
    return tomorrow if midnight(tomorrow, zone) <= at else today


def next_month(day: date) -> date:
    """Returns the first day of the month after that of `day`."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def parse_month(text: str, field: str = "month") -> date:
    """Parses a month such as 2026-12 to its first day. Raises Rejected, naming the field."""
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        month = date.min
    if len(text) != len("2026-12") or not FIRST_DAY <= month <= LAST_DAY:
        raise rejected_at(field, sentence('"{value}" is not a month; write it like 2026-12.', value=text))
    return month


def load(stored: Sequence[Mapping[str, Any]]) -> tuple[WeeklyWindow, ...]:
    return tuple(
        WeeklyWindow(
            frozenset(parse_weekday(text).number for text in entry["days"]),
            parse_time(entry["from"]),
            parse_time(entry["to"]),
        )
        if "days" in entry
        else parse_multi_day_window(entry["from"], entry["to"])
        for entry in stored
    )


def parse_multi_day_window(begins: str, ends: str) -> WeeklyWindow:
    """Returns one continuous window over several days from its two ends, such as `fri 17:00`. Raises InvalidTime."""
    (first, start), (last, end) = _day_and_time(begins), _day_and_time(ends)
    length = (last.number * MINUTES_A_DAY + end - first.number * MINUTES_A_DAY - start) % MINUTES_A_WEEK
    return WeeklyWindow(frozenset({first.number}), start, start + (length or MINUTES_A_WEEK))


def _day_and_time(text: str) -> tuple[Weekday, int]:
    name, _, clock_time = text.strip().partition(" ")
    if not clock_time:
        raise InvalidTime(
            sentence('"{value}" is not a day and a time; write it like "fri 17:00", or give days.', value=text)
        )
    return parse_weekday(name), parse_time(clock_time.strip())


def write(windows: Iterable[WeeklyWindow]) -> list[dict[str, object]]:
    """Returns the stored form of windows, which is also the form that users write."""
    return [_write(window) for window in windows]


def _write(window: WeeklyWindow) -> dict[str, object]:
    if window.end > MINUTES_A_DAY:
        first = next(weekday for weekday in Weekday if weekday.number in window.days)
        days, end = divmod(window.end, MINUTES_A_DAY)
        last = list(Weekday)[(first.number + days) % 7]
        return {"from": f"{first.short} {format_time(window.start)}", "to": f"{last.short} {format_time(end)}"}
    return {
        "days": [weekday.short for weekday in Weekday if weekday.number in window.days],
        "from": format_time(window.start),
        "to": format_time(window.end),
    }


@dataclass(frozen=True, slots=True)
class MergedWeek:
    """Windows merged into periods of the week that neither touch nor overlap, so that midnight never splits a period.

    `spans` are (start, length) in minutes from Monday's midnight. They apply every `every` weeks, counted from the week
    that begins on `anchor`, a Monday.
    """

    spans: tuple[tuple[int, int], ...]
    every: int = 1
    anchor: date = date(1970, 1, 5)

    @property
    def is_always(self) -> bool:
        return self.every == 1 and any(length >= MINUTES_A_WEEK for _, length in self.spans)

    def current(self, zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime] | None:
        """Returns the period that is open at `at`, in UTC with an exclusive end. Never called if it is always open."""
        local = at.astimezone(zone).replace(tzinfo=None)
        monday = local.date() - timedelta(days=local.weekday())
        minute = (local.weekday() * 24 + local.hour) * 60 + local.minute
        for weeks in (0, -1, 1):
            since_monday = minute - weeks * MINUTES_A_WEEK
            for start, length in self.spans:
                # Only periods close in local time are calculated exactly.
                if start - _MAX_ZONE_JUMP_MINUTES <= since_monday <= start + length + _MAX_ZONE_JUMP_MINUTES:
                    span = self._span(monday + timedelta(weeks=weeks), start, length, zone)
                    if span is not None and span[0] <= at < span[1]:
                        return span
        return None

    def transitions(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yields every moment after `since` and before `until` at which a period begins or ends."""
        if self.is_always:
            return
        today = since.astimezone(zone).date()
        monday = today - timedelta(days=today.weekday(), weeks=1)
        last = until.astimezone(zone).date() + timedelta(weeks=1)
        while monday <= last:
            for start, length in self.spans:
                span = self._span(monday, start, length, zone) or ()
                yield from (transition for transition in span if since < transition < until)
            monday += timedelta(weeks=1)

    def _span(self, monday: date, start: int, length: int, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Returns a period in the week of that Monday, in UTC; None in weeks that are skipped."""
        if self.every > 1 and (monday - self.anchor).days // 7 % self.every:
            return None
        begin = datetime.combine(monday, _MIDNIGHT)
        return instant(begin + timedelta(minutes=start), zone), instant(begin + timedelta(minutes=start + length), zone)


def merge_windows(windows: Iterable[WeeklyWindow], every: int = 1, start: date | None = None) -> MergedWeek:
    """Merges windows into periods of the week. `every` is as in `MergedWeek`, `start` a day of its first week."""
    anchor = start - timedelta(days=start.weekday()) if start else date(1970, 1, 5)
    pieces = sorted(
        (number * MINUTES_A_DAY + window.start, window.length) for window in windows for number in window.days
    )
    merged: list[tuple[int, int]] = []
    for begin, length in pieces:
        if merged and begin <= sum(merged[-1]):
            merged[-1] = (merged[-1][0], max(sum(merged[-1]), begin + length) - merged[-1][0])
        else:
            merged.append((begin, length))
    return MergedWeek(tuple(merged) if every > 1 else _join_week_ends(merged), every, anchor)


def _join_week_ends(merged: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Joins the end of the week to its beginning."""
    while len(merged) > 1 and sum(merged[-1]) >= merged[0][0] + MINUTES_A_WEEK:
        begin, length = merged.pop(0)
        last = merged[-1]
        merged[-1] = (last[0], max(last[1], begin + MINUTES_A_WEEK + length - last[0]))
    return tuple((begin, min(length, MINUTES_A_WEEK)) for begin, length in merged)


WEEKDAY_TEXTS = [text for weekday in Weekday for text in (weekday.short, weekday.value)]

#: Days of the week as numbers, in a spec; 0 is Monday.
WeekdayNumbers = Annotated[tuple[int, ...], list_of(lambda text: parse_weekday(text).number, {"enum": WEEKDAY_TEXTS})]


# ---------- holiday calendars


@dataclass(frozen=True, slots=True)
class CustomHoliday:
    """A custom day. Without a year it recurs every year."""

    month: int
    day: int
    name: str
    year: int | None = None


@dataclass(frozen=True, slots=True)
class HolidayDays:
    name: str
    country: str = ""
    region: str = ""
    custom_days: tuple[CustomHoliday, ...] = ()
    _years: dict[int, Mapping[date, str]] = field(default_factory=dict, compare=False, repr=False)

    def holiday_on(self, day: date) -> str | None:
        year = self._years.get(day.year)
        if year is None:
            year = self._years[day.year] = self._in_year(day.year)
        return year.get(day)

    def _in_year(self, year: int) -> Mapping[date, str]:
        days = dict(public_holidays(self.country, self.region, year)) if self.country else {}
        for custom in self.custom_days:
            if custom.year in (None, year):
                try:
                    days[date(year, custom.month, custom.day)] = custom.name
                except ValueError:  # 29 February, in a year without one
                    continue
        return days


def load_holiday_calendar(name: str, country: str, region: str, days: Sequence[Mapping[str, str]]) -> HolidayDays:
    return HolidayDays(name, country, region, tuple(parse_custom_day(entry["date"], entry["name"]) for entry in days))


def parse_custom_day(text: str, name: str) -> CustomHoliday:
    """Parses `2026-12-24`, or `12-24` for every year. Raises ValueError."""
    if len(text) == len("12-24"):
        parsed = date.fromisoformat(f"2000-{text}")  # a leap year
        return CustomHoliday(parsed.month, parsed.day, name)
    parsed = date.fromisoformat(text)
    return CustomHoliday(parsed.month, parsed.day, name, parsed.year)


@cache
def public_holidays(country: str, region: str, year: int) -> Mapping[date, str]:
    """Returns the public holidays of a country (ISO 3166-1) or region (ISO 3166-2) in one year, by day.

    Raises ValueError for a country or region that the `holidays` package does not know.
    """
    # Imported here, because it takes 50 MB, which installations without holidays do not need.
    import holidays

    try:
        public_days = holidays.country_holidays(country, subdiv=region or None, years=year, expand=False)
    except NotImplementedError as error:
        raise ValueError(str(error)) from None
    return dict(public_days)


@cache
def countries() -> tuple[tuple[str, str], ...]:
    """Returns every country with known holidays, as code and English name, by name."""
    from holidays.registry import COUNTRIES  # as above

    names = ((entry[1], re.sub(r"(?<=[a-z])(?=[A-Z])", " ", entry[0])) for entry in COUNTRIES.values())
    return tuple(sorted(names, key=lambda one: one[1]))


def regions(country: str) -> tuple[str, ...]:
    """Returns the regions of a country with holidays of their own; none for an unknown country."""
    import holidays  # as above

    return tuple(holidays.list_supported_countries().get(country, ()))


def find_problem(country: str, region: str) -> tuple[str, Reason] | None:
    """Returns the invalid field, `country` or `region`, with the reason; None if both are valid."""
    import holidays  # as above

    regions_by_country = holidays.list_supported_countries()
    if country not in regions_by_country:
        return "country", _NO_COUNTRY(country=country)
    known = tuple(regions_by_country[country])
    if region and region not in known:
        if not known:
            return "region", _NO_REGIONS(region=region, country=country)
        return "region", _NO_REGION(region=region, country=country, regions=known)
    return None


# ---------- support hours


_MAX_DAYS_AHEAD = 183


@dataclass(frozen=True, slots=True)
class CompiledSupportHours:
    """A named set of weekly windows in a time zone, closed on the days of its holiday calendars."""

    name: str
    zone: ZoneInfo
    windows: tuple[WeeklyWindow, ...]
    calendars: tuple[HolidayDays, ...] = ()

    def is_open(self, now: datetime) -> bool:
        return is_open(self.windows, self.zone, now) and self.holiday(now) is None

    def opens_at(self, now: datetime) -> datetime | None:
        """Returns the first moment from `now` on within the support hours; None if there is none for half a year."""
        if self.is_open(now):
            return now
        today = now.astimezone(self.zone).date()
        for days_ahead in range(-1, _MAX_DAYS_AHEAD):
            day = today + timedelta(days=days_ahead)
            # They open at the start of a window, or at midnight after a holiday.
            moments = [midnight(day, self.zone)]
            moments += [span[0] for one in self.windows if (span := one.on(day, self.zone)) is not None]
            opening = min((one for one in moments if one > now and self.is_open(one)), default=None)
            if opening is not None:
                return opening
        return None

    def holiday(self, now: datetime) -> str | None:
        if not self.calendars:
            return None
        today = day_of(now, self.zone)
        return next((name for days in self.calendars if (name := days.holiday_on(today)) is not None), None)


def is_open(windows: Iterable[WeeklyWindow], zone: ZoneInfo, now: datetime) -> bool:
    return current(windows, zone, now) is not None
