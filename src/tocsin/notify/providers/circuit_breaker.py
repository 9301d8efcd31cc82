"""The circuit breaker and the rate limit of a provider. Pure.

An open circuit breaker moves a provider to the end of the order. It does not exclude the provider: if no other is left,
the provider is still used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: The circuit breaker opens after this many consecutive failures of different messages.
MAX_FAILURES = 3
#: The time until the next probe. It grows with each consecutive opening.
OPEN_PERIODS = (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=5))
#: The interval between probes of an unresponsive provider while messages wait for it.
AWAITED_PROBE_INTERVAL = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """The circuit breaker's state for one provider."""

    failures: int = 0
    is_open: bool = False
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    openings: int = 0
    #: The last probe failed with an error that may pass by itself.
    is_unresponsive: bool = False


CLOSED = CircuitBreaker()


def on_success(circuit: CircuitBreaker) -> CircuitBreaker:
    """Returns the state after the provider accepted a message or reported one as delivered."""
    return CLOSED


def on_failure(circuit: CircuitBreaker, now: datetime, *, is_awaited: bool = False) -> CircuitBreaker:
    """Returns the state after a message failed because of the provider. `is_awaited`: messages wait for the provider to
    recover.

    A provider that passes probes but fails to send is probed less and less often, even while messages wait.
    """
    updated = replace(circuit, failures=circuit.failures + 1)
    if circuit.is_open and circuit.is_unresponsive and is_awaited:
        return replace(updated, retry_at=min(circuit.retry_at or now, now + AWAITED_PROBE_INTERVAL))
    if circuit.is_open or updated.failures < MAX_FAILURES:
        return updated
    wait = AWAITED_PROBE_INTERVAL if is_awaited and not circuit.openings else _open_period(circuit.openings)
    return replace(updated, is_open=True, opened_at=now, retry_at=now + wait, openings=circuit.openings + 1)


def on_probe_ok(circuit: CircuitBreaker) -> CircuitBreaker:
    """Returns the state after a successful probe: half-open. The provider returns to its place in the order, and one
    more failure opens the circuit breaker again.
    """
    return replace(
        circuit, is_open=False, is_unresponsive=False, opened_at=None, retry_at=None, failures=MAX_FAILURES - 1
    )


def on_probe_failed(
    circuit: CircuitBreaker, now: datetime, *, is_transient: bool = True, is_awaited: bool = False
) -> CircuitBreaker:
    """Returns the state after a failed probe. `is_transient`: the error may pass by itself. `is_awaited`:
    messages wait.
    """
    if is_transient and is_awaited:
        return replace(circuit, is_unresponsive=True, retry_at=now + AWAITED_PROBE_INTERVAL)
    wait = _open_period(circuit.openings)
    return replace(circuit, is_unresponsive=is_transient, retry_at=now + wait, openings=circuit.openings + 1)


def _open_period(openings: int) -> timedelta:
    return OPEN_PERIODS[min(openings, len(OPEN_PERIODS) - 1)]


@dataclass(frozen=True, slots=True)
class RateAllowance:
    """The rate limit of a provider with a maximum number of messages per minute. Allows a burst of ten seconds' worth,
    then an even rate (generic cell rate algorithm, ITU-T I.371).
    """

    per_minute: int
    #: The theoretical arrival time: the time up to which messages sent so far use up the limit.
    free_at: datetime | None

    @property
    def _interval(self) -> timedelta:
        return timedelta(minutes=1) / self.per_minute

    @property
    def _burst(self) -> int:
        return max(1, self.per_minute // 6)

    def count_available(self, now: datetime) -> int:
        """Returns how many messages may be sent at `now`."""
        ahead = max(self.free_at or now, now) - now
        return max(0, self._burst - -(-ahead // self._interval))

    def next_available_at(self, now: datetime) -> datetime:
        """Returns the earliest time at which one message may be sent, not before `now`."""
        return max(now, (self.free_at or now) - (self._burst - 1) * self._interval)

    def free_at_after(self, count: int, now: datetime) -> datetime:
        """Returns `free_at` after `count` more messages."""
        return max(self.free_at or now, now) + count * self._interval
