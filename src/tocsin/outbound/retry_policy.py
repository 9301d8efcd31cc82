"""When calls to other systems are retried, and when a system is left alone. Pure."""

from __future__ import annotations

from datetime import timedelta

from tocsin.core.delivery.backoff import Backoff, doubling
from tocsin.core.delivery.circuit_breaker import CircuitPolicy

#: A call that cannot be made for this long becomes a dead letter.
GIVE_UP_AFTER = timedelta(days=1)

#: The wait before a failed call is retried.
RETRIES = Backoff(doubling(timedelta(seconds=5), timedelta(minutes=30)), jitter=0.2)

#: While the circuit is open, nothing is sent; then single calls probe the remote system.
CIRCUIT = CircuitPolicy(5, Backoff(doubling(timedelta(seconds=15), timedelta(minutes=5))))

#: The interval of automatic retries for problems that a person must fix.
BLOCKED_INTERVAL = timedelta(hours=1)

_THROTTLES = Backoff(doubling(timedelta(seconds=5), timedelta(seconds=60)))


def throttle_wait(times: int, retry_after: timedelta | None) -> timedelta:
    """Returns how long to wait after the `times`th consecutive rate-limit response."""
    return _THROTTLES.delay(times) if retry_after is None else retry_after
