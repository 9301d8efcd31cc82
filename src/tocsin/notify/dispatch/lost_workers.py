"""Takes over deliveries whose sender stopped in the middle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from tocsin.core.db.database import Connection
from tocsin.core.delivery.failure import AttemptFailed, FailureKind
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.dispatch.results import DeliveryFailure, record_failures
from tocsin.notify.providers.pool import ProviderPool
from tocsin.notify.rules.delivery_reasons import WORKER_LOST

#: The maximum number of expired leases in one run.
MAX_LEASES_PER_RUN = 500


def reclaim_expired(
    connection: Connection,
    pool: ProviderPool,
    in_progress_ids: Sequence[UUID],
    node: str,
    now: datetime,
    jitter: Callable[[], float],
) -> None:
    """Records deliveries whose lease expired as failed with an unknown outcome.

    They are sent again, unless someone has responded in the meantime or five senders have stopped during the send.
    """
    ids = delivery_queries.LEASES.take_over(connection, in_progress_ids, node, limit=MAX_LEASES_PER_RUN)
    if ids:
        failure = AttemptFailed(FailureKind.WORKER_LOST, WORKER_LOST())
        deliveries = delivery_queries.facts(connection, ids)
        failures = [DeliveryFailure(due, due.provider_name, failure, now) for due in deliveries]
        record_failures(connection, pool, failures, node, jitter)
