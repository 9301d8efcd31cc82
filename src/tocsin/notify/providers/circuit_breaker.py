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
AWAITED_WAIT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """The circuit breaker's state for one provider."""

    failures: int = 0
    is_open: bool = False
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    openings: int = 0
    #: The last probe failed with an error that may pass by itself.
    is_silent: bool = False


CLOSED = CircuitBreaker()


def on_success(circuit: CircuitBreaker) -> CircuitBreaker:
    """Returns the state after the provider accepted a message or reported one as delivered."""
    return CLOSED


def on_failure(circuit: CircuitBreaker, now: datetime, *, is_awaited: bool = False) -> CircuitBreaker:
    """Returns the state after a message failed because of the provider. `is_awaited`: messages wait for the provider to
    recover.

    A provider that passes probes but fails to send is probed less and less often, even while messages wait.
    """
    counted = replace(circuit, failures=circuit.failures + 1)
    if circuit.is_open and circuit.is_silent and is_awaited:
        return replace(counted, retry_at=min(circuit.retry_at or now, now + AWAITED_WAIT))
    if circuit.is_open or counted.failures < MAX_FAILURES:
        return counted
    wait = AWAITED_WAIT if is_awaited and not circuit.openings else _wait(circuit.openings)
    return replace(counted, is_open=True, opened_at=now, retry_at=now + wait, openings=circuit.openings + 1)


def on_probe_ok(circuit: CircuitBreaker) -> CircuitBreaker:
    """Returns the state after a successful probe: half-open. The provider returns to its place in the order, and one
    more failure opens the circuit breaker again.
    """
    return replace(circuit, is_open=False, is_silent=False, opened_at=None, retry_at=None, failures=MAX_FAILURES - 1)


def on_probe_failed(
    circuit: CircuitBreaker, now: datetime, *, is_passing: bool = True, is_awaited: bool = False
) -> CircuitBreaker:
    """Returns the state after a failed probe. `is_passing`: the error may pass by itself. `is_awaited`:
    messages wait.
    """
    if is_passing and is_awaited:
        return replace(circuit, is_silent=True, retry_at=now + AWAITED_WAIT)
    wait = _wait(circuit.openings)
    return replace(circuit, is_silent=is_passing, retry_at=now + wait, openings=circuit.openings + 1)


def _wait(openings: int) -> timedelta:
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

    def room(self, now: datetime) -> int:
        """Returns how many messages may be sent at `now`."""
        ahead = max(self.free_at or now, now) - now
        return max(0, self._burst - -(-ahead // self._interval))

    def next_room(self, now: datetime) -> datetime:
        """Returns the earliest time at which one message may be sent, not before `now`."""
        return max(now, (self.free_at or now) - (self._burst - 1) * self._interval)

    def after(self, given: int, now: datetime) -> datetime:
        """Returns `free_at` after `given` more messages."""
        return max(self.free_at or now, now) + given * self._interval
