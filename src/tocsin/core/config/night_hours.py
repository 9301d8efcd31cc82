"""The night hours, by local time: what counts as a page at night, in reports, backtests and on Home. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

_FORMAT = re.compile(r"(([01]\d|2[0-3]):[0-5]\d)-(([01]\d|2[0-3]):[0-5]\d)")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NightHours:
    """From `start` to `end`, which is on the next day unless it is later. Written 22:00-07:00."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> NightHours:
        """Parses `HH:MM-HH:MM`. Raises ValueError for another format, and for hours without a length."""
        match = _FORMAT.fullmatch(text)
        if match is None or match[1] == match[3]:
            raise ValueError(text)
        return cls(time.fromisoformat(match[1]), time.fromisoformat(match[3]))

    def last_night(self, now: datetime) -> tuple[datetime, datetime]:
        """Start and end, by local time in the zone of `now`, of the night that ends on its day."""
        ends_at = datetime.combine(now, self.end, now.tzinfo)
        starts_at = datetime.combine(now, self.start, now.tzinfo)
        return (starts_at if starts_at < ends_at else starts_at - _DAY), ends_at

    def includes(self, at: datetime, zone: tzinfo) -> bool:
        """Whether it is night at that moment in that time zone."""
        return self.includes_time(at.astimezone(zone).time())

    def includes_time(self, local: time) -> bool:
        """Whether it is night at that time of day."""
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end
