"""Leases of deliveries that are being sent: renewed during the send, taken over when expired. By the
database's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core.db.database import Connection
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.dispatch.delivery_queries import LEASE_SECONDS
from tocsin.notify.dispatch.results import DeliveryFailure, record_failures
from tocsin.notify.dispatch.send import SendFailed
from tocsin.notify.providers.pool import ProviderPool
from tocsin.notify.rules.delivery_reasons import WORKER_LOST
from tocsin.notify.rules.retry_policy import FailureKind

#: The maximum number of expired leases in one run.
MAX_LEASES_PER_RUN = 500

#: Bundling needs the last sending time of an address for seconds only; rows are deleted after this.
LAST_SENT_RETENTION = timedelta(hours=1)


def renew(connection: Connection, ids: Sequence[UUID], node: str) -> None:
    """Extends the leases that `node` still holds on these rows."""
    if ids:
        connection.execute(
            "UPDATE notify_delivery SET lease_until = clock_timestamp() + make_interval(secs => %s) "
            "WHERE id IN (SELECT id FROM notify_delivery WHERE id = ANY(%s) AND status = 'sending' AND leased_by = %s "
            "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)",
            (LEASE_SECONDS, list(ids), node),
        )
    # Deletes, a few at a time, rows that are too old to matter for bundling.
    connection.execute(
        "DELETE FROM notify_lastsent WHERE (recipient, channel, address, purpose) IN ("
        "SELECT recipient, channel, address, purpose FROM notify_lastsent "
        "WHERE last_sent_at < statement_timestamp() - %s LIMIT 500 FOR UPDATE SKIP LOCKED)",
        (LAST_SENT_RETENTION,),
    )


# A lease that expires more than a minute from now was granted before a clock rollback. If its holder is alive, it
# renews the lease at once.
_RECLAIM = """
UPDATE notify_delivery SET leased_by = %(node)s, lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id IN (SELECT id FROM notify_delivery WHERE status = 'sending'
             AND (lease_until < clock_timestamp() OR lease_until > clock_timestamp() + interval '1 minute')
             AND id <> ALL(%(ours)s::uuid[]) ORDER BY id LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id
"""


def reclaim_expired(
    connection: Connection,
    pool: ProviderPool,
    in_progress_ids: Sequence[UUID],
    node: str,
    now: datetime,
    jitter: Callable[[], float],
) -> int:
    """Records deliveries whose sender stopped in the middle as failed with an unknown outcome. Returns how many.

    They are sent again, unless someone has responded in the meantime or five senders have stopped during the send.
    """
    rows = connection.execute(
        _RECLAIM, {"node": node, "seconds": LEASE_SECONDS, "ours": list(in_progress_ids), "most": MAX_LEASES_PER_RUN}
    ).fetchall()
    if not rows:
        return 0
    failure = SendFailed(FailureKind.WORKER_LOST, WORKER_LOST())
    deliveries = delivery_queries.facts(connection, [row[0] for row in rows])
    record_failures(
        connection, pool, [DeliveryFailure(due, due.provider_name, failure, now) for due in deliveries], node, jitter
    )
    return len(rows)
