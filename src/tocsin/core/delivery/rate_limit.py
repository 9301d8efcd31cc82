"""A rate limit: bursts, and an even rate on average (generic cell rate algorithm, ITU-T I.371). Pure.

One timestamp holds the whole state, so that all nodes can share it in one column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

#: What may be charged beyond the burst, by something that cannot be stopped halfway.
_MAX_OVERDRAFT = 1000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A sustained rate, the burst that it allows, and how far it is used up."""

    interval: timedelta
    burst: int
    #: The theoretical arrival time: the time up to which what was sent so far uses up the limit.
    free_at: datetime | None = None

    @classmethod
    def per_minute(cls, count: int) -> Self:
        """Returns a limit of messages per minute, with a burst of ten seconds' worth."""
        return cls(timedelta(minutes=1) / count, max(1, count // 6))

    @classmethod
    def per_second(cls, rate: float, burst: int) -> Self:
        """Returns a limit of requests per second."""
        return cls(timedelta(seconds=1) / rate, burst)

    def used_until(self, free_at: datetime | None) -> Self:
        """Returns this limit, used up as far as `free_at`."""
        return replace(self, free_at=free_at)

    def count_available(self, now: datetime) -> int:
        """Returns how many may be sent at `now`."""
        return max(0, self.burst - -(-(self._start(now) - now) // self.interval))

    def next_available_at(self, now: datetime) -> datetime:
        """Returns the earliest time at which one may be sent, not before `now`."""
        return max(now, self._start(now) - (self.burst - 1) * self.interval)

    def charge(self, count: int, now: datetime) -> Self:
        """Returns the limit after `count` more."""
        return replace(self, free_at=self._start(now) + count * self.interval)

    def _start(self, now: datetime) -> datetime:
        """A time further ahead than any burst could move it was set before a clock rollback and is ignored."""
        if self.free_at is None or self.free_at - now > (self.burst + _MAX_OVERDRAFT) * self.interval:
            return now
        return max(self.free_at, now)
