"""Decides pending messages in order, on a worker."""

from __future__ import annotations

import logging
from datetime import datetime

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.processing import batch
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.inbound.storage.stored_messages import incoming_of

log = logging.getLogger(__name__)

#: The maximum number of pending messages per run, oldest first.
DRAIN = 200

#: A message that failed this often is decided as Mapping Failed, and waits for a user.
MAX_FAILURES = 5


_PENDING = """
SELECT id, integration_id, received_at, raw, content_type, headers, replay_of, verdict
FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT %s
"""


def drain(registry: IntegrationRegistry, numbers: batch.AlertIdAllocator, now: datetime) -> bool:
    """Decides pending messages in arrival order. Returns True if there may be more."""
    registry.refresh()
    with database.pool().connection() as connection:
        found = database.rows(connection, _PENDING, (DRAIN,))
        if not found:
            return False
        known = registry.doors()
        # Sorted by the database's clock: ids are made with a node's clock, which may be ahead of another's.
        found.sort(key=lambda row: (row["received_at"], row["id"]))
        waiting = [incoming_of(row, registry, now) for row in found if row["integration_id"] in known]
        with messages.prepared_statements(connection):
            decided = _drain_batch(connection, registry, numbers, waiting, now)
    return decided == DRAIN


def _drain_batch(
    connection: Connection,
    registry: IntegrationRegistry,
    numbers: batch.AlertIdAllocator,
    waiting: list[IncomingMessage],
    now: datetime,
) -> int:
    if not waiting:
        return 0
    try:
        return sum(
            one.status.value != "Pending"
            for one in batch.process(connection, registry, numbers, waiting, now, wait=False, draining=True)
        )
    except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure):
        return 0
    except Exception as error:  # boundary of one message: the others are still decided
        if isinstance(error, UnknownIntegration):
            raise
        if len(waiting) == 1:
            if database.is_unavailable(error):
                raise
            log.exception("The undecided message %s cannot be decided.", waiting[0].id)
            if _count_failure(connection, waiting[0]) == MAX_FAILURES:
                # Fail open, as on arrival; if that fails too, the next run stores it as Mapping Failed.
                kept = [messages.undecidable(waiting[0], error)]
                return _drain_batch(connection, registry, numbers, kept, now)
            return 0
        half = len(waiting) // 2
        return _drain_batch(connection, registry, numbers, waiting[:half], now) + _drain_batch(
            connection, registry, numbers, waiting[half:], now
        )


def _count_failure(connection: Connection, incoming: IncomingMessage) -> int:
    """Counts a failure and returns the total; beyond `MAX_FAILURES`, the message becomes Mapping Failed."""
    counted = connection.execute(
        "UPDATE inbound_inboundmessage SET failures = failures + 1, "
        "status = CASE WHEN failures + 1 > %s THEN 'Mapping Failed' ELSE status END, "
        "reason = CASE WHEN failures + 1 > %s THEN 'Tocsin could not decide it. It can be replayed.' ELSE reason END "
        "WHERE id = %s RETURNING failures",
        (MAX_FAILURES, MAX_FAILURES, incoming.id),
    ).fetchone()
    return counted[0] if counted is not None else 0
