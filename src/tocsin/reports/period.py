"""The stretch of time that a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.core.errors import Rejected

#: The longest stretch: whoever wants more reads year by year.
MAX_PERIOD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on, until before `until`. Days and hours in it are those of `zone`."""

    since: datetime
    until: datetime
    zone: ZoneInfo

    @classmethod
    def between(cls, since: datetime, until: datetime, zone: ZoneInfo) -> Period:
        """Raises Rejected that names the place: one that ends before it begins, or is longer than a year."""
        if until <= since:
            raise Rejected("invalid", "to: it is not after from.", "to")
        if until - since > MAX_PERIOD:
            raise Rejected("invalid", f"to: a report is about {MAX_PERIOD.days} days at most.", "to")
        return cls(since, until, zone)

    @classmethod
    def last_days(cls, days: int, now: datetime, zone: ZoneInfo) -> Period:
        """So many whole days in `zone`, today among them as far as it has come."""
        today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(today - timedelta(days=days - 1), now, zone)
