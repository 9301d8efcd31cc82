"""What follows from sends that are past their deadline and still hang: their result, and which sends do not begin at
all, so that one provider cannot take every thread. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tocsin.notify.dispatch.claim import DeliveryJob
from tocsin.notify.dispatch.send import SendFailed
from tocsin.notify.rules.retry_policy import FailureKind

#: In seconds. A send that takes longer counts as lost. Each provider has shorter timeouts of its own; this one holds
#: whatever a provider, a library or the resolver does. A mail server may take a minute after the mail's last line.
SEND_DEADLINE = 90.0

#: A provider with as many hanging senders is not used until one of them ends.
MAX_STUCK = 4


def lost() -> SendFailed:
    """The result of a send that is past its deadline."""
    return SendFailed(FailureKind.UNKNOWN, f"The send did not end within {SEND_DEADLINE:.0f} seconds.")


def refusal(job: DeliveryJob, stuck: Sequence[DeliveryJob]) -> SendFailed | None:
    """Why `job` does not begin while the jobs in `stuck` hang; None: it may begin.

    A provider that was saved again has a new sender, which nothing hangs in.
    """
    if job.carrier is None:
        return None
    own = [one for one in stuck if one.carrier is not None and one.carrier.sender is job.carrier.sender]
    if not job.carrier.kind.has_many_servers:
        if len(own) < MAX_STUCK:
            return None
        return SendFailed(FailureKind.TEMPORARY, f"{len(own)} earlier sends of this provider still hang.")
    # Each address leads to another server, which says nothing about the others.
    if any(one.bundle.lead.address == job.bundle.lead.address for one in own):
        return SendFailed(FailureKind.TEMPORARY, "An earlier send to this address still hangs.")
    if len(own) < job.carrier.kind.parallel:
        return None
    return SendFailed(FailureKind.TEMPORARY, f"{len(own)} earlier sends of this provider still hang.")


def by_provider(stuck: Iterable[DeliveryJob]) -> Mapping[str, int]:
    """How many senders of each provider hang."""
    return Counter(job.provider for job in stuck)
