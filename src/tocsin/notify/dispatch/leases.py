"""Leases of rows that are being sent: renewed while that lasts, taken up when they ran out. By the database's clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core.db.database import Connection
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.dispatch.delivery_queries import LEASE_SECONDS
from tocsin.notify.dispatch.results import DeliveryFailure, record_troubles
from tocsin.notify.dispatch.send import SendFailed
from tocsin.notify.providers.pool import ProviderPool
from tocsin.notify.rules.retry_policy import FailureKind

#: So many at most in one turn.
MAX_LEASES_PER_RUN = 500

#: When something last left for an address is of interest for seconds; rows are dropped after this.
RECEIPT_RETENTION = timedelta(hours=1)


def renew(connection: Connection, ids: Sequence[UUID], node: str) -> None:
    """Lengthens the leases that `node` still has on these rows."""
    if ids:
        connection.execute(
            "UPDATE notify_delivery SET lease_until = clock_timestamp() + make_interval(secs => %s) "
            "WHERE id IN (SELECT id FROM notify_delivery WHERE id = ANY(%s) AND status = 'sending' AND leased_by = %s "
            "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)",
            (LEASE_SECONDS, list(ids), node),
        )
    # Drops, a few at a time, what is too old to matter for bundling.
    connection.execute(
        "DELETE FROM notify_lastsent WHERE (recipient, channel, address, purpose) IN ("
        "SELECT recipient, channel, address, purpose FROM notify_lastsent "
        "WHERE left_at < statement_timestamp() - %s LIMIT 500 FOR UPDATE SKIP LOCKED)",
        (RECEIPT_RETENTION,),
    )


# A lease that lasts for minutes yet was given before the clock went back: its holder, if it lives, renews it at once.
_LOST = """
UPDATE notify_delivery SET leased_by = %(node)s, lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id IN (SELECT id FROM notify_delivery WHERE status = 'sending'
             AND (lease_until < clock_timestamp() OR lease_until > clock_timestamp() + interval '1 minute')
             AND id <> ALL(%(ours)s::uuid[]) ORDER BY id LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id
"""


def take_up(
    connection: Connection,
    directory: ProviderPool,
    ours: Sequence[UUID],
    node: str,
    now: datetime,
    jitter: Callable[[], float],
) -> int:
    """Puts rows back whose sender stopped in mid-send; returns how many.

    Whether they left is not known, so they are sent again, unless somebody has acted meanwhile, or they have ended five
    senders.
    """
    found = connection.execute(
        _LOST, {"node": node, "seconds": LEASE_SECONDS, "ours": list(ours), "most": MAX_LEASES_PER_RUN}
    ).fetchall()
    if not found:
        return 0
    lost = SendFailed(FailureKind.LOST, "The process that was sending it stopped.")
    known = delivery_queries.facts(connection, [row[0] for row in found])
    record_troubles(
        connection, directory, [DeliveryFailure(due, due.provider_name, lost, now) for due in known], node, jitter
    )
    return len(found)
