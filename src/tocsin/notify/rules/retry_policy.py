"""Decides what follows a failed attempt: a retry, another provider, or giving up. Pure.

The next provider takes over at once. When all have failed, the providers with a temporary error are tried again in
order, 5, 30, 120 and 300 seconds apart: five attempts each within about ten minutes. After that, or once all have
refused it, a lasting message, such as a page about an alert that nobody has answered, is retried until it is sent, one
provider after the other, soon every five minutes; any other message fails. A refusal is not final, because what it is
about (credentials, an unpaid account, a quota, a sender) is mended while the alert is open. Only an address that does
not exist is final. An unknown outcome counts as a failure, so that the message is sent again: a duplicate is better
than no page. But each repeat may be a duplicate, so it then waits longer each time, up to half an hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from tocsin.core.delivery.circuit_breaker import Backoff, FailureKind

MAX_TRIES = 5
#: The delay between rounds.
BACKOFF = Backoff(
    tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 300)),
    jitter=0.2,
    max_retry_after=timedelta(minutes=10),
)
#: The same if a repeat is worse: the outcome is unknown, or only this address is refused.
UNKNOWN_BACKOFF = replace(
    BACKOFF, delays=(*BACKOFF.delays, timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=30))
)
#: Tocsin's own failures. Five of them end a message, since the message itself may crash the process.
INTERNAL_FAILURES = frozenset({FailureKind.INTERNAL_ERROR, FailureKind.WORKER_LOST})
#: The message may have been sent.
UNCERTAIN = frozenset({FailureKind.OUTCOME_UNKNOWN, FailureKind.WORKER_LOST})
#: Never retried with the same provider.
FINAL = frozenset({FailureKind.NO_SUCH_ADDRESS})
#: A person must act: only a lasting message is retried with the same provider.
REFUSALS = frozenset({FailureKind.PERMANENT, FailureKind.ADDRESS_REJECTED}) | FINAL
#: Counts against a provider's health.
FAULTS = frozenset({FailureKind.TEMPORARY, FailureKind.OUTCOME_UNKNOWN, FailureKind.PERMANENT})


@dataclass(frozen=True, slots=True)
class ProviderAttempts:
    """The attempts of one notification with one provider so far."""

    tries: int
    is_refused: bool = False
    #: The provider knows no such address.
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try `provider` after `delay`."""

    provider: str
    delay: timedelta
    #: Whether the quick retries are used up, or all providers have refused it.
    is_exhausted: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No provider is left."""


type RetryDecision = Retry | GiveUp


def next_attempt_after(
    failure: FailureKind,
    current: str,
    attempts: Mapping[str, ProviderAttempts],
    providers: Sequence[str],
    *,
    jitter: float,
    retry_after: timedelta | None = None,
    keep_retrying: bool = False,
    is_exhausted: bool = False,
    own_failures: int = 0,
) -> RetryDecision:
    """Returns what to do after `current` failed. `attempts` includes that attempt; `jitter` is between 0 and 1.

    `keep_retrying`: the message is retried for as long as it matters. `is_exhausted`: its quick retries are used up, or
    all providers have refused it.
    `own_failures` counts Tocsin's own failures, including this one.
    """
    should_continue = keep_retrying and own_failures < MAX_TRIES
    if failure is FailureKind.WORKER_LOST and (should_continue or attempts[current].tries < MAX_TRIES):
        # The node failed, not the provider; and the expired lease has already cost ten seconds.
        return Retry(current, timedelta(), is_exhausted)
    if failure is FailureKind.WORKER_LOST:
        return GiveUp()
    for name in providers:
        if name not in attempts:
            return Retry(name, timedelta(), is_exhausted)
    usable = [name for name in providers if name in attempts and not attempts[name].is_final]
    working = [name for name in usable if not attempts[name].is_refused]
    candidates = [name for name in working if attempts[name].tries < MAX_TRIES] if not is_exhausted else []
    if not candidates:
        if not should_continue or not usable:
            return GiveUp()
        # Round robin.
        chosen = usable[(usable.index(current) + 1) % len(usable)] if current in usable else usable[0]
        is_unknown = failure is FailureKind.OUTCOME_UNKNOWN
        backoff = UNKNOWN_BACKOFF if is_unknown or failure is FailureKind.ADDRESS_REJECTED else BACKOFF
        # The tries of all providers together: a refusal begins with the short delays.
        tries = max(attempts[current].tries, MAX_TRIES) if is_unknown else sum(one.tries for one in attempts.values())
        delay = backoff.delay(tries, jitter, retry_after if chosen == current else None)
        return Retry(chosen, delay, is_exhausted=True)
    chosen = min(candidates, key=lambda name: (attempts[name].tries, candidates.index(name)))
    if attempts[chosen].tries < max(attempts[name].tries for name in working):
        # Another provider started this round, so its delay is over.
        return Retry(chosen, timedelta())
    delay = BACKOFF.delay(attempts[chosen].tries, jitter, retry_after if chosen == current else None)
    return Retry(chosen, delay)
