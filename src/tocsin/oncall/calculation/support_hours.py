"""Support hours: whether a moment is within them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.holiday_calendars import HolidayDays
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow

#: How many days ahead an opening is searched.
_MAX_DAYS_AHEAD = 183


@dataclass(frozen=True, slots=True)
class CompiledSupportHours:
    """A named set of weekly windows in a time zone, closed on the days of its holiday calendars."""

    name: str
    zone: ZoneInfo
    windows: tuple[WeeklyWindow, ...]
    calendars: tuple[HolidayDays, ...] = ()

    def is_open(self, now: datetime) -> bool:
        """Returns whether `now` is within the support hours, and no holiday."""
        return is_open(self.windows, self.zone, now) and self.holiday(now) is None

    def opens_at(self, now: datetime) -> datetime | None:
        """Returns the first moment from `now` on within the support hours; None if there is none for half a year."""
        if self.is_open(now):
            return now
        today = now.astimezone(self.zone).date()
        for days_ahead in range(-1, _MAX_DAYS_AHEAD):
            day = today + timedelta(days=days_ahead)
            # They open at the start of a window, or at midnight after a holiday.
            moments = [weekly_windows.midnight(day, self.zone)]
            moments += [span[0] for one in self.windows if (span := one.on(day, self.zone)) is not None]
            opening = min((one for one in moments if one > now and self.is_open(one)), default=None)
            if opening is not None:
                return opening
        return None

    def holiday(self, now: datetime) -> str | None:
        """Returns the name of the holiday at `now`, or None."""
        if not self.calendars:
            return None
        today = weekly_windows.day_of(now, self.zone)
        return next((name for days in self.calendars if (name := days.holiday_on(today)) is not None), None)


def is_open(windows: Iterable[WeeklyWindow], zone: ZoneInfo, now: datetime) -> bool:
    """Returns whether any of the windows, in local time of `zone`, is open at `now`. Their ends are exclusive."""
    return weekly_windows.current(windows, zone, now) is not None
