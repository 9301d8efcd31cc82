"""Circuit breakers: how a provider is used after it has failed several times in a row. Pure.

An open circuit breaker of a provider moves it to the end of the order. It does not exclude the provider: if no other is
left, the provider is still used. A system that is the only one of its kind is not called while its circuit is open.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import Reason, ReasonType

# ---------- failure
# Why an attempt to deliver something failed, and the errors that say so.


WORKER_LOST = ReasonType("delivery.worker_lost", "The process that was sending it stopped.")
ENTER_CREDENTIALS = ReasonType("delivery.enter_credentials", "Enter them again.")


class Throttled(Temporary):
    """The remote system rate-limits Tocsin: everything for it waits, and the attempt does not count."""


class NeedsAttention(Permanent):
    """Nothing can be sent until a person acts: rejected secret, missing permission, or wrong address."""


class AddressRejected(Permanent):
    """The provider works but does not deliver to this address for now: the recipient opted out, or the country is
    disabled. Does not count against the provider's health; another provider may deliver.
    """


class NoSuchAddress(AddressRejected):
    """The address does not exist: no mailbox, number or member. The only refusal that ends a page."""


class FailureKind(StrEnum):
    """Why an attempt failed."""

    #: Nothing was done; a retry may succeed.
    TEMPORARY = "temporary"
    #: It may have been done.
    OUTCOME_UNKNOWN = "outcome_unknown"
    #: The remote system rate-limits Tocsin.
    THROTTLED = "throttled"
    #: The remote system refused this message or call. A retry succeeds once a person has acted.
    PERMANENT = "permanent"
    #: Nothing succeeds until a person acts.
    BLOCKED = "blocked"
    #: The provider does not deliver to this address for now. Does not count against the provider's health.
    ADDRESS_REJECTED = "address_rejected"
    #: The address does not exist.
    NO_SUCH_ADDRESS = "no_such_address"
    #: An internal error of Tocsin.
    INTERNAL_ERROR = "internal_error"
    #: The sending process stopped.
    WORKER_LOST = "worker_lost"


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A failed attempt. `error` is for users and contains no secret; `retry_after` is the delay that the server
    requested.
    """

    kind: FailureKind
    error: Reason
    retry_after: timedelta | None = None


#: The first that matches counts.
_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (Throttled, FailureKind.THROTTLED),
    (OutcomeUnknown, FailureKind.OUTCOME_UNKNOWN),
    (Temporary, FailureKind.TEMPORARY),
    (NoSuchAddress, FailureKind.NO_SUCH_ADDRESS),
    (AddressRejected, FailureKind.ADDRESS_REJECTED),
    (NeedsAttention, FailureKind.BLOCKED),
)


def failure_of(error: Temporary | Permanent | Rejected) -> AttemptFailed:
    """Returns the failure that an error of a sender means."""
    kind = next((kind for error_type, kind in _KINDS if isinstance(error, error_type)), FailureKind.PERMANENT)
    return AttemptFailed(kind, error.full_reason, error.retry_after if isinstance(error, Temporary) else None)


# ---------- backoff
# Delays between attempts that grow with each failure, up to a limit. Pure.


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


# ---------- local failures
# Which providers fail from this process only, because its network does not reach them, while other nodes send through
# them. A message that this process claims again and again would use up its quick retries.


#: From this many failures in a row on, this process leaves the provider's messages to others.
MIN_FAILURES = 3

#: In seconds: how soon after a failure this process tries one message.
TRIAL_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class _Streak:
    """Failures in a row; `last` by the monotonic clock."""

    count: int
    first_at: datetime
    last: float


class LocalFailures:
    """Counts failures in a row by provider. One per process; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streaks: dict[str, _Streak] = {}

    def record(self, provider: str, at: datetime, elapsed: float, *, is_failure: bool) -> None:
        """Records the outcome of one send. `elapsed` is the monotonic clock's time in seconds."""
        with self._lock:
            streak = self._streaks.pop(provider, None)
            if is_failure:
                count, first_at = (streak.count, streak.first_at) if streak else (0, at)
                self._streaks[provider] = _Streak(count + 1, first_at, elapsed)

    def suspects(self) -> list[str]:
        """Returns the providers that may fail from this process only."""
        with self._lock:
            return [name for name, streak in self._streaks.items() if streak.count >= MIN_FAILURES]

    def max_sends(self, worked_at: Mapping[str, datetime], elapsed: float) -> dict[str, int]:
        """Returns how many concurrent sends this process may have with each provider that worked elsewhere since it
        began to fail here: none for a while, then one. `worked_at` is when a provider last accepted a message."""
        with self._lock:
            return {
                name: int(elapsed >= streak.last + TRIAL_AFTER)
                for name, streak in self._streaks.items()
                if streak.count >= MIN_FAILURES and name in worked_at and worked_at[name] > streak.first_at
            }


# ---------- rate limit
# A rate limit: bursts, and an even rate on average (generic cell rate algorithm, ITU-T I.371). Pure.
#
# One timestamp holds the whole state, so that all nodes can share it in one column.


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
