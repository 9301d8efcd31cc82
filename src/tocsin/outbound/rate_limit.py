"""How fast another system is called, how long is waited after a failure, and when its circuit opens. Pure.

The rate is a generic cell rate algorithm (ITU-T I.371): one moment says up to when requests have been granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: A call that could not be made for so long is a dead letter.
GIVE_UP_AFTER = timedelta(days=1)

_FIRST_WAIT = timedelta(seconds=5)
_MAX_WAIT = timedelta(minutes=30)
#: Each wait is up to so much longer, so that what failed together does not come back together.
_JITTER = 0.2

#: More requests than one look or one turn of the outbox makes.
_MAX_BURST = 1000

#: After so many failures in a row the circuit opens: one call at a time tries whether the other side is back.
OPENS_AFTER = 5
_FIRST_PAUSE = timedelta(seconds=15)
_MAX_PAUSE = timedelta(minutes=5)

#: Without a `Retry-After`, a rate limit is waited out so long, twice as long each time.
_THROTTLE = timedelta(seconds=5)
_MAX_THROTTLE = timedelta(seconds=60)

#: What a person must mend is tried by itself only so often.
BLOCKED_INTERVAL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RequestRate:
    """So many requests a second on average, and so many at once."""

    per_second: float
    burst: int

    @property
    def apart(self) -> timedelta:
        """What lies between two requests at that rate."""
        return timedelta(seconds=1 / self.per_second)


def allowance(rate: RequestRate, granted_to: datetime | None, now: datetime) -> int:
    """How many requests may leave now; 0 or less: none."""
    return int(rate.burst - (_from(rate, granted_to, now) - now) / rate.apart)


def charged(rate: RequestRate, granted_to: datetime | None, requests: int, now: datetime) -> datetime:
    """The moment up to which requests have been granted, after `requests` more."""
    return _from(rate, granted_to, now) + requests * rate.apart


def _from(rate: RequestRate, granted_to: datetime | None, now: datetime) -> datetime:
    """Up to when requests have been granted. So many never were at once that it is far ahead: then the clock has gone
    back since."""
    if granted_to is None or granted_to - now > (rate.burst + _MAX_BURST) * rate.apart:
        return now
    return max(granted_to, now)


def retry_in(attempts: int, jitter: float, asked: timedelta | None = None) -> timedelta:
    """How long to wait after the `attempts`th failure; `jitter` is from 0 to 1, `asked` what the other side wants."""
    wait: timedelta = min(_FIRST_WAIT * 2 ** min(max(attempts, 1) - 1, 20), _MAX_WAIT) * (1 + _JITTER * jitter)
    return max(wait, asked) if asked is not None else wait


def pause_of(failures: int) -> timedelta | None:
    """How long the circuit stays open after so many failures in a row; None: it stays closed."""
    if failures < OPENS_AFTER:
        return None
    pause: timedelta = _FIRST_PAUSE * 2 ** min(failures - OPENS_AFTER, 20)
    return min(pause, _MAX_PAUSE)


def throttle(times: int, asked: timedelta | None) -> timedelta:
    """How long to be patient when the other side says for the `times`th time in a row that it is too much."""
    patience: timedelta = _THROTTLE * 2 ** min(max(times, 1) - 1, 20)
    return asked if asked is not None else min(patience, _MAX_THROTTLE)
