"""Circuit breakers: how a provider is used after it has failed several times in a row. Pure.

An open circuit breaker of a provider moves it to the end of the order. It does not exclude the provider: if no other is
left, the provider is still used. A system that is the only one of its kind is not called while its circuit is open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tocsin.core.delivery.backoff import Backoff


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a circuit breaker opens, and for how long."""

    #: The circuit breaker opens after this many consecutive failures.
    max_failures: int
    #: The time until the next probe. It grows with each consecutive opening.
    open_periods: Backoff

    def open_period(self, failures: int) -> timedelta | None:
        """Returns how long the circuit stays open after this number of consecutive failures; None: it stays closed."""
        if failures < self.max_failures:
            return None
        return self.open_periods.delay(failures - self.max_failures + 1)


#: Failures of different messages.
PROVIDER_POLICY = CircuitPolicy(
    3, Backoff((timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=5)))
)
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
    #: The last failed probe since the circuit opened had an error that may pass by itself.
    is_unresponsive: bool = False


#: The state after the provider accepted a message or reported one as delivered.
CLOSED = CircuitBreaker()


def on_failure(circuit: CircuitBreaker, now: datetime, *, is_awaited: bool = False) -> CircuitBreaker:
    """Returns the state after a message failed because of the provider. `is_awaited`: messages wait for the provider to
    recover.

    A provider that passes probes but fails to send is probed less and less often, even while messages wait.
    """
    updated = replace(circuit, failures=circuit.failures + 1)
    if circuit.is_open and circuit.is_unresponsive and is_awaited:
        return replace(updated, retry_at=min(circuit.retry_at or now, now + AWAITED_PROBE_INTERVAL))
    if circuit.is_open or updated.failures < PROVIDER_POLICY.max_failures:
        return updated
    wait = AWAITED_PROBE_INTERVAL if is_awaited and not circuit.openings else _open_period(circuit)
    return replace(
        updated,
        is_open=True,
        is_unresponsive=False,
        opened_at=now,
        retry_at=now + wait,
        openings=circuit.openings + 1,
    )


def on_probe_ok(circuit: CircuitBreaker) -> CircuitBreaker:
    """Returns the state after a successful probe: half-open. The provider returns to its place in the order, and one
    more failure opens the circuit breaker again.
    """
    return replace(circuit, is_open=False, opened_at=None, retry_at=None, failures=PROVIDER_POLICY.max_failures - 1)


def on_probe_failed(
    circuit: CircuitBreaker, now: datetime, *, is_transient: bool = True, is_awaited: bool = False
) -> CircuitBreaker:
    """Returns the state after a failed probe. `is_transient`: the error may pass by itself. `is_awaited`:
    messages wait.
    """
    if is_transient and is_awaited:
        return replace(circuit, is_unresponsive=True, retry_at=now + AWAITED_PROBE_INTERVAL)
    return replace(
        circuit, is_unresponsive=is_transient, retry_at=now + _open_period(circuit), openings=circuit.openings + 1
    )


def _open_period(circuit: CircuitBreaker) -> timedelta:
    return PROVIDER_POLICY.open_periods.delay(circuit.openings + 1)
