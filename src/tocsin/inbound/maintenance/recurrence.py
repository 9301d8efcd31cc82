"""Recurrence of maintenance windows: once, daily, weekly or monthly, in wall-clock time of a time zone. Pure.

Daylight saving: a window lasts as long as the wall clock says, so a night may be an hour shorter or longer. A time that
clocks skip is that much after the change, and a repeated time is the first of the two; a window is never empty.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice
from zoneinfo import ZoneInfo

from tocsin.oncall.calculation.weekly_windows import Weekday, instant, parse_weekday

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
        """Returns the occurrence that starts on that day."""
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
