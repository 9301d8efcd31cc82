"""Delays between attempts that grow with each failure, up to a limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay after the first failure, the second, and so on; the last one stays."""

    delays: tuple[timedelta, ...]
    #: Each delay is extended by up to this fraction, so that what failed together is not retried together.
    jitter: float = 0.0
    #: The longest delay that a server's Retry-After can impose; None for any.
    max_retry_after: timedelta | None = None

    def delay(self, count: int, jitter: float = 0.0, retry_after: timedelta | None = None) -> timedelta:
        """Returns the delay after the `count`th failure, at least `retry_after`. `jitter` is between 0 and 1."""
        base = self.delays[min(max(count, 1), len(self.delays)) - 1] * (1 + self.jitter * jitter)
        if retry_after is None:
            return base
        return max(base, retry_after if self.max_retry_after is None else min(retry_after, self.max_retry_after))


def doubling(first: timedelta, longest: timedelta) -> tuple[timedelta, ...]:
    """Returns delays that double from `first` up to `longest`."""
    delays = [first]
    while delays[-1] < longest:
        delays.append(min(2 * delays[-1], longest))
    return tuple(delays)
