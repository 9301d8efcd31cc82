"""A rate limit: bursts, and an even rate on average (generic cell rate algorithm, ITU-T I.371). Pure.

One timestamp holds the whole state, so that all nodes can share it in one column.
"""

from __future__ import annotations

import threading
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


# ---------- concurrency
# How many sends one provider may have in progress at a time, so that a slow one leaves senders for the others.


#: In seconds. A provider that takes longer for a message is slow.
MAX_LATENCY = 2.0

#: A slow provider keeps this number of concurrent sends, which show when it is fast again.
MIN_CONCURRENT_SENDS = 4

#: The weight of the newest send in the average.
_WEIGHT = 0.3


class Latencies:
    """The exponentially weighted average duration of sends, by provider. One per process; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def record(self, provider: str, seconds: float) -> None:
        """Records the duration of one send."""
        with self._lock:
            average = self._seconds.get(provider, seconds)
            self._seconds[provider] = average + _WEIGHT * (seconds - average)

    def averages(self) -> dict[str, float]:
        """Returns the averages in seconds, by provider. A provider without sends is absent."""
        with self._lock:
            return dict(self._seconds)


def fair_concurrency(maximum: int, latency: float) -> int:
    """Returns how many concurrent sends a provider may have while another one can take the rest. A slow provider holds
    fewer senders, in proportion to its latency in seconds.
    """
    if latency <= MAX_LATENCY:
        return maximum
    return min(maximum, max(MIN_CONCURRENT_SENDS, int(maximum * MAX_LATENCY / latency)))


def count_allowed(held: int, free_slots: int) -> int:
    """Returns how many more sends may go to a provider that has `held` in progress: as long as it holds fewer than four
    times the free slots. One alone gets four fifths of all slots; the more providers are slow, the less each gets
    (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).
    """
    return max(0, -(-(4 * free_slots - held) // 5))
