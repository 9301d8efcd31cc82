"""Rate limit, retry back-off and circuit breaker for calls to other systems. Pure.

The rate limit is a generic cell rate algorithm (ITU-T I.371): one timestamp says until when requests are granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: A call that cannot be made for this long becomes a dead letter.
GIVE_UP_AFTER = timedelta(days=1)

_FIRST_WAIT = timedelta(seconds=5)
_MAX_WAIT = timedelta(minutes=30)
#: Random extra delay, as a fraction, so that calls that failed together are not retried together.
_JITTER = 0.2

#: More requests than one poll or one outbox run makes.
_MAX_BURST = 1000

#: Consecutive failures that open the circuit breaker; then single calls probe the remote system.
OPENS_AFTER = 5
_FIRST_PAUSE = timedelta(seconds=15)
_MAX_PAUSE = timedelta(minutes=5)

#: The wait after a rate limit without `Retry-After`; doubled each time.
_THROTTLE = timedelta(seconds=5)
_MAX_THROTTLE = timedelta(seconds=60)

#: The interval of automatic retries for problems that a person must fix.
BLOCKED_INTERVAL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RequestRate:
    """A sustained rate in requests per second, and the burst size."""

    per_second: float
    burst: int

    @property
    def interval(self) -> timedelta:
        """The interval between two requests at that rate."""
        return timedelta(seconds=1 / self.per_second)


def allowance(rate: RequestRate, granted_to: datetime | None, now: datetime) -> int:
    """The number of requests that may be sent now; none if 0 or less."""
    return int(rate.burst - (_granted_until(rate, granted_to, now) - now) / rate.interval)


def charged(rate: RequestRate, granted_to: datetime | None, requests: int, now: datetime) -> datetime:
    """Until when requests are granted, after `requests` more."""
    return _granted_until(rate, granted_to, now) + requests * rate.interval


def _granted_until(rate: RequestRate, granted_to: datetime | None, now: datetime) -> datetime:
    """The current value of the timestamp.

    A value further ahead than any burst could move it was set before a clock rollback and is ignored.
    """
    if granted_to is None or granted_to - now > (rate.burst + _MAX_BURST) * rate.interval:
        return now
    return max(granted_to, now)


def retry_in(attempts: int, jitter: float, retry_after: timedelta | None = None) -> timedelta:
    """The delay after the `attempts`th failure. `jitter` is 0 to 1; `retry_after` is the remote system's
    `Retry-After`."""
    delay: timedelta = min(_FIRST_WAIT * 2 ** min(max(attempts, 1) - 1, 20), _MAX_WAIT) * (1 + _JITTER * jitter)
    return max(delay, retry_after) if retry_after is not None else delay


def open_duration(failures: int) -> timedelta | None:
    """How long the circuit breaker stays open after consecutive failures; None: it stays closed."""
    if failures < OPENS_AFTER:
        return None
    duration: timedelta = _FIRST_PAUSE * 2 ** min(failures - OPENS_AFTER, 20)
    return min(duration, _MAX_PAUSE)


def throttle(times: int, retry_after: timedelta | None) -> timedelta:
    """How long to wait after the `times`th consecutive rate-limit response."""
    backoff: timedelta = _THROTTLE * 2 ** min(max(times, 1) - 1, 20)
    return retry_after if retry_after is not None else min(backoff, _MAX_THROTTLE)
