"""Whether a provider is used in its turn: after failures on end it is passed over, until it works again. Pure.

Passed over means last in order, not left out: where no other is left, it is still asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: So many failures on end, of different messages, and others take its turn.
MAX_FAILURES = 3
#: So long until it is asked again whether it works; the more often it was found failing, the longer.
OPEN_PERIODS = (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=5))
#: A provider that does not answer is probed this often while messages wait for it.
AWAITED_WAIT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """How a provider has done lately."""

    failures: int = 0
    is_open: bool = False
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    openings: int = 0
    #: The last probe failed, and may succeed later.
    is_silent: bool = False


CLOSED = CircuitBreaker()


def worked(circuit: CircuitBreaker) -> CircuitBreaker:
    """After a message that it accepted, or a receipt that one has arrived."""
    return CLOSED


def failed(circuit: CircuitBreaker, now: datetime, *, is_awaited: bool = False) -> CircuitBreaker:
    """After a message that failed by its fault. `is_awaited`: messages wait for the provider's return.

    A provider that succeeds in probes and fails to send is probed less and less often, even while messages wait.
    """
    counted = replace(circuit, failures=circuit.failures + 1)
    if circuit.is_open and circuit.is_silent and is_awaited:
        return replace(counted, retry_at=min(circuit.retry_at or now, now + AWAITED_WAIT))
    if circuit.is_open or counted.failures < MAX_FAILURES:
        return counted
    wait = AWAITED_WAIT if is_awaited and not circuit.openings else _wait(circuit.openings)
    return replace(counted, is_open=True, opened_at=now, retry_at=now + wait, openings=circuit.openings + 1)


def answered(circuit: CircuitBreaker) -> CircuitBreaker:
    """After it was asked whether it works, and said so: it is used in its turn, and one failure ends that."""
    return replace(circuit, is_open=False, is_silent=False, opened_at=None, retry_at=None, failures=MAX_FAILURES - 1)


def silent(
    circuit: CircuitBreaker, now: datetime, *, is_passing: bool = True, is_awaited: bool = False
) -> CircuitBreaker:
    """After it was asked whether it works, and did not. `is_passing`: the trouble may pass by itself."""
    if is_passing and is_awaited:
        return replace(circuit, is_silent=True, retry_at=now + AWAITED_WAIT)
    wait = _wait(circuit.openings)
    return replace(circuit, is_silent=is_passing, retry_at=now + wait, openings=circuit.openings + 1)


def _wait(openings: int) -> timedelta:
    return OPEN_PERIODS[min(openings, len(OPEN_PERIODS) - 1)]


@dataclass(frozen=True, slots=True)
class RateAllowance:
    """How many messages a provider may be given now, where it has a limit a minute: at most ten seconds' worth at once,
    then evenly (the generic cell rate algorithm, ITU-T I.371)."""

    per_minute: int
    #: The moment to which what was given so far is used up.
    free_at: datetime | None

    @property
    def _interval(self) -> timedelta:
        return timedelta(minutes=1) / self.per_minute

    @property
    def _burst(self) -> int:
        return max(1, self.per_minute // 6)

    def room(self, now: datetime) -> int:
        """So many may leave at `now`."""
        ahead = max(self.free_at or now, now) - now
        return max(0, self._burst - -(-ahead // self._interval))

    def next_room(self, now: datetime) -> datetime:
        """From when on one may leave, `now` at the earliest."""
        return max(now, (self.free_at or now) - (self._burst - 1) * self._interval)

    def after(self, given: int, now: datetime) -> datetime:
        """`free_at` after so many more."""
        return max(self.free_at or now, now) + given * self._interval
