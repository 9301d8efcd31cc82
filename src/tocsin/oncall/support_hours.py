"""Support hours: whether an instant is within them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.oncall import windows
from tocsin.oncall.holiday_days import HolidayDays
from tocsin.oncall.windows import Window


@dataclass(frozen=True, slots=True)
class SupportHours:
    """A named set of weekly windows in its time zone, closed on the days of its holiday calendars."""

    name: str
    zone: ZoneInfo
    windows: tuple[Window, ...]
    calendars: tuple[HolidayDays, ...] = ()

    def is_open(self, now: datetime) -> bool:
        """Whether `now` is within them, and no holiday."""
        return is_open(self.windows, self.zone, now) and self.holiday(now) is None

    def holiday(self, now: datetime) -> str | None:
        """The name of the holiday that `now` falls on, or None."""
        if not self.calendars:
            return None
        today = windows.day_of(now, self.zone)
        return next((name for days in self.calendars if (name := days.on(today)) is not None), None)


def is_open(among: Iterable[Window], zone: ZoneInfo, now: datetime) -> bool:
    """Whether any of the windows, in local time of `zone`, is open at `now`; its end is no longer in it."""
    return windows.current(among, zone, now) is not None
