"""What follows a try that failed: another try, another provider, or the end. Pure.

The next provider takes over at once. When all have failed, those whose trouble may pass are tried again, in their
order, 5, 30, 120 and 300 seconds apart: five tries of each within about ten minutes. After those a message that lasts,
such as a page about an alert that nobody has answered, is retried every five minutes, by one provider after the other;
any other is given up. An outcome that is unknown counts as failed, so that it is sent again: two are better than none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

MAX_TRIES = 5
DELAYS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(seconds=120), timedelta(seconds=300))
#: Each delay is up to so much longer, so that what failed together does not come back together.
JITTER = 0.2
#: A provider that asks for more patience is not asked again at all before this.
MAX_RETRY_DELAY = timedelta(minutes=10)


class FailureKind(StrEnum):
    """Why a try failed."""

    #: Nothing was accepted; it may work later.
    TEMPORARY = "temporary"
    #: It may have been accepted.
    UNKNOWN = "unknown"
    #: A person must act.
    PERMANENT = "permanent"
    #: The provider does not carry to this address. Says nothing against the provider.
    REFUSED = "refused"
    #: Tocsin itself failed.
    BROKEN = "broken"
    #: The node that was sending it stopped.
    LOST = "lost"


#: Tocsin's own faults. Five of them end a message: it may be what breaks the process.
OWN = frozenset({FailureKind.BROKEN, FailureKind.LOST})
#: It may have left all the same.
UNCERTAIN = frozenset({FailureKind.UNKNOWN, FailureKind.LOST})
#: Not tried again by the same provider.
FINAL = frozenset({FailureKind.PERMANENT, FailureKind.REFUSED})
#: What counts against a provider's health.
FAULTS = frozenset({FailureKind.TEMPORARY, FailureKind.UNKNOWN, FailureKind.PERMANENT})


@dataclass(frozen=True, slots=True)
class ProviderAttempts:
    """What one provider has been asked so far about one notification."""

    tries: int
    is_permanent: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try `provider`, after `delay`."""

    provider: str
    delay: timedelta
    #: The quick retries are used up.
    is_exhausted: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No provider is left."""


type RetryDecision = Retry | GiveUp


def after(
    failure: FailureKind,
    current: str,
    tried: Mapping[str, ProviderAttempts],
    providers: Sequence[str],
    *,
    jitter: float,
    retry_after: timedelta | None = None,
    is_lasting: bool = False,
    is_exhausted: bool = False,
    own_failures: int = 0,
) -> RetryDecision:
    """What to do after `current` failed. `tried` counts that try too; `jitter` is between 0 and 1.

    `is_lasting`: the message is retried for as long as it matters; `is_exhausted`: its quick retries are used up.
    `own_failures` counts the failures of Tocsin's own, this one included.
    """
    goes_on = is_lasting and own_failures < MAX_TRIES
    if failure is FailureKind.LOST and (goes_on or tried[current].tries < MAX_TRIES):
        # The node's fault, not the provider's; and the lease has taken its ten seconds already.
        return Retry(current, timedelta(), is_exhausted)
    if failure is FailureKind.LOST:
        return GiveUp()
    for name in providers:
        if name not in tried:
            return Retry(name, timedelta(), is_exhausted)
    open_ones = [name for name in providers if name in tried and not tried[name].is_permanent]
    left = [name for name in open_ones if tried[name].tries < MAX_TRIES] if not is_exhausted else []
    if not left:
        return _much_later(current, open_ones, jitter, retry_after) if goes_on and open_ones else GiveUp()
    chosen = min(left, key=lambda name: (tried[name].tries, left.index(name)))
    if tried[chosen].tries < max(tried[name].tries for name in open_ones):
        # This round began with another provider: its wait is over.
        return Retry(chosen, timedelta())
    delay = _delay(DELAYS[tried[chosen].tries - 1], jitter, retry_after if chosen == current else None)
    return Retry(chosen, delay)


def _much_later(current: str, providers: Sequence[str], jitter: float, retry_after: timedelta | None) -> Retry:
    """The provider after `current`, round robin."""
    place = providers.index(current) + 1 if current in providers else 0
    chosen = providers[place % len(providers)]
    return Retry(chosen, _delay(DELAYS[-1], jitter, retry_after if chosen == current else None), is_exhausted=True)


def _delay(least: timedelta, jitter: float, retry_after: timedelta | None) -> timedelta:
    delay = least * (1 + JITTER * jitter)
    return delay if retry_after is None else max(delay, min(retry_after, MAX_RETRY_DELAY))
