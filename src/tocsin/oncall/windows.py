"""Weekly windows in a time zone: which one is open at an instant, from when until when. Pure.

A local time that a clock change skips is the instant that many minutes after the change; one that comes twice is the
first (PEP 495, fold=0). So a window is always one unbroken span.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

MINUTES_A_DAY = 24 * 60


class Day(StrEnum):
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
        """mon, tue, …"""
        return self.value[:3]

    @property
    def number(self) -> int:
        """0 for Monday, as `date.weekday()` counts."""
        return list(Day).index(self)


def day(text: str) -> Day:
    """The day that `text` names, in short or whole. Raises ValueError."""
    for known in Day:
        if text.lower() in (known.value, known.short):
            return known
    raise ValueError(f'"{text}" is not a day; write {", ".join(known.short for known in Day)}.')


def minutes(text: str) -> int:
    """The minutes since midnight of `HH:MM`, up to 24:00. Raises ValueError."""
    hour, colon, minute = text.partition(":")
    if colon and len(hour) in (1, 2) and len(minute) == 2 and (hour + minute).isascii() and (hour + minute).isdigit():
        found = int(hour) * 60 + int(minute)
        if int(minute) < 60 and found <= MINUTES_A_DAY:
            return found
    raise ValueError(f'"{text}" is not a time of day; write it like "08:00".')


def clock(number: int) -> str:
    """`HH:MM` of minutes since midnight."""
    return f"{number // 60:02}:{number % 60:02}"


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to `end`, in minutes of the day, on the given days (0 is Monday).

    An end at or before the start is on the next day: 22:00 to 06:00 begins on those days.
    """

    days: frozenset[int]
    start: int
    end: int

    def on(self, begins: date, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """The window that begins on that day, as a span in UTC, or None."""
        if begins.weekday() not in self.days:
            return None
        end = self.end if self.end > self.start else self.end + MINUTES_A_DAY
        midnight = datetime.combine(begins, time())
        return (
            instant(midnight + timedelta(minutes=self.start), zone),
            instant(midnight + timedelta(minutes=end), zone),
        )


def current(windows: Iterable[Window], zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime] | None:
    """The first of the windows that is open at `at`, as a span in UTC; its end is no longer in it."""
    today = at.astimezone(zone).date()
    for window in windows:
        for begins in (today, today - timedelta(days=1)):
            span = window.on(begins, zone)
            if span is not None and span[0] <= at < span[1]:
                return span
    return None


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment in UTC at which clocks in `zone` show the naive time `local`."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def load(stored: Sequence[Mapping[str, object]]) -> tuple[Window, ...]:
    """Windows from their stored form."""
    found = []
    for entry in stored:
        days = entry["days"]
        assert isinstance(days, list)
        found.append(
            Window(
                days=frozenset(day(text).number for text in days),
                start=minutes(str(entry["from"])),
                end=minutes(str(entry["to"])),
            )
        )
    return tuple(found)


def write(windows: Iterable[Window]) -> list[dict[str, object]]:
    """The form in which people write windows, and in which they are stored."""
    return [
        {
            "days": [known.short for known in Day if known.number in window.days],
            "from": clock(window.start),
            "to": clock(window.end),
        }
        for window in windows
    ]
