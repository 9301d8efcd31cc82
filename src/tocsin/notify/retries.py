"""What follows a try that failed: another try, another provider, or the end. Pure.

The next provider takes over at once. When all have failed, those whose trouble may pass are tried again, in their
order, 5, 30, 120 and 300 seconds apart: five tries of each within about ten minutes. An outcome that is unknown counts
as failed, so that it is sent again: two are better than none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

MOST_TRIES = 5
DELAYS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(seconds=120), timedelta(seconds=300))
#: Each delay is up to so much longer, so that what failed together does not come back together.
JITTER = 0.2
#: A provider that asks for more patience is not asked again at all before this.
LONGEST_DELAY = timedelta(minutes=10)


class Failure(StrEnum):
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


#: It may have left all the same.
UNCERTAIN = frozenset({Failure.UNKNOWN, Failure.LOST})
#: Not tried again by the same provider.
FINAL = frozenset({Failure.PERMANENT, Failure.REFUSED})
#: What counts against a provider's health.
FAULTS = frozenset({Failure.TEMPORARY, Failure.UNKNOWN, Failure.PERMANENT})


@dataclass(frozen=True, slots=True)
class Tried:
    """What one provider has been asked so far about one notification."""

    tries: int
    is_permanent: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Try `provider`, after `delay`."""

    provider: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No provider is left."""


type Next = Again | GiveUp


def after(
    failure: Failure,
    current: str,
    tried: Mapping[str, Tried],
    providers: Sequence[str],
    *,
    jitter: float,
    retry_after: timedelta | None = None,
) -> Next:
    """What to do after `current` failed. `tried` counts that try too; `jitter` is between 0 and 1."""
    if failure is Failure.LOST:
        # The node's fault, not the provider's; and the lease has taken its ten seconds already.
        return Again(current, timedelta()) if tried[current].tries < MOST_TRIES else GiveUp()
    for name in providers:
        if name not in tried:
            return Again(name, timedelta())
    open_ones = [name for name in providers if name in tried and not tried[name].is_permanent]
    left = [name for name in open_ones if tried[name].tries < MOST_TRIES]
    if not left:
        return GiveUp()
    chosen = min(left, key=lambda name: (tried[name].tries, left.index(name)))
    if tried[chosen].tries < max(tried[name].tries for name in open_ones):
        # This round began with another provider: its wait is over.
        return Again(chosen, timedelta())
    delay = DELAYS[tried[chosen].tries - 1] * (1 + JITTER * jitter)
    if retry_after is not None and chosen == current:
        delay = max(delay, min(retry_after, LONGEST_DELAY))
    return Again(chosen, delay)
