"""Handles sends that are stuck past their deadline: their result, and which new sends are refused so that one provider
cannot occupy every thread. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from tocsin.core.delivery.failure import AttemptFailed, FailureKind
from tocsin.notify.dispatch.claim import DeliveryJob
from tocsin.notify.rules.delivery_reasons import ADDRESS_STUCK, PROVIDER_STUCK, TIMED_OUT

#: In seconds. A longer send counts as failed with an unknown outcome. Each provider has shorter timeouts of its own;
#: this one applies even if a provider, a library or the resolver hangs. A mail server may take a minute after the last
#: line of a mail.
SEND_DEADLINE = 90.0

#: In seconds: the same, if another provider can take over. It does so within ten seconds.
FAILOVER_DEADLINE = 8.0

#: A provider with this many stuck senders is not used until one of them ends.
MAX_STUCK = 4


def deadline(job: DeliveryJob) -> float:
    """Returns how many seconds a send may take."""
    return FAILOVER_DEADLINE if job.has_substitute else SEND_DEADLINE


def timed_out_result(job: DeliveryJob) -> AttemptFailed:
    """Returns the result of a send that is past its deadline."""
    return AttemptFailed(FailureKind.OUTCOME_UNKNOWN, TIMED_OUT(duration=timedelta(seconds=deadline(job))))


def refusal(job: DeliveryJob, stuck: Sequence[DeliveryJob]) -> AttemptFailed | None:
    """Returns why `job` must not start while the jobs in `stuck` hang; None if it may.

    A provider that was saved again has a new sender without stuck sends.
    """
    if job.active_provider is None:
        return None
    same_sender_jobs = [
        other_job
        for other_job in stuck
        if other_job.active_provider is not None and other_job.active_provider.sender is job.active_provider.sender
    ]
    if not job.active_provider.kind.has_many_servers:
        if len(same_sender_jobs) < MAX_STUCK:
            return None
        return AttemptFailed(FailureKind.TEMPORARY, PROVIDER_STUCK(count=len(same_sender_jobs)))
    # Each address has its own server, which says nothing about the others.
    if any(other_job.bundle.lead.address == job.bundle.lead.address for other_job in same_sender_jobs):
        return AttemptFailed(FailureKind.TEMPORARY, ADDRESS_STUCK())
    if len(same_sender_jobs) < job.active_provider.kind.max_concurrent_sends:
        return None
    return AttemptFailed(FailureKind.TEMPORARY, PROVIDER_STUCK(count=len(same_sender_jobs)))


def by_provider(stuck: Iterable[DeliveryJob]) -> Mapping[str, int]:
    """Returns the number of stuck sends of each provider."""
    return Counter(job.provider for job in stuck)
