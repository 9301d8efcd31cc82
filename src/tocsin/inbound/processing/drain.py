"""Decides pending messages in order, on a worker."""

from __future__ import annotations

import logging
from datetime import datetime

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.guarded_connection import GuardedConnection
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding import reasons
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.alert_ids import AlertIdAllocator
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.inbound.storage.stored_messages import incoming_of

log = logging.getLogger(__name__)

#: The maximum number of pending messages per run, oldest first.
MAX_MESSAGES_PER_RUN = 200

#: A message that failed this often is decided as Mapping Failed, and waits for a user.
MAX_FAILURES = 5


_PENDING = """
SELECT id, integration_id, received_at, raw, content_type, headers, replay_of, verdict
FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT %s
"""


def drain(registry: IntegrationRegistry, alert_ids: AlertIdAllocator, now: datetime) -> bool:
    """Decides pending messages in arrival order. Returns True if there may be more."""
    registry.refresh()
    with database.connection() as connection:
        rows = database.rows(connection, _PENDING, (MAX_MESSAGES_PER_RUN,))
        if not rows:
            return False
        integrations = registry.get_all()
        # Sorted by the database's clock: ids are made with a node's clock, which may be ahead of another's.
        rows.sort(key=lambda row: (row["received_at"], row["id"]))
        incoming = [incoming_of(row, registry, now) for row in rows if row["integration_id"] in integrations]
        with messages.short_lock_timeout(connection):
            decided_count = _drain_batch(connection, registry, alert_ids, incoming, now)
    return decided_count == MAX_MESSAGES_PER_RUN


def _drain_batch(
    connection: GuardedConnection,
    registry: IntegrationRegistry,
    alert_ids: AlertIdAllocator,
    incoming: list[IncomingMessage],
    now: datetime,
) -> int:
    if not incoming:
        return 0
    try:
        return sum(
            result.status.value != "Pending"
            for result in batch.process(connection, registry, alert_ids, incoming, now, wait=False, is_draining=True)
        )
    except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure):
        return 0
    except Exception as error:  # boundary of one message: the others are still decided
        if isinstance(error, UnknownIntegration):
            raise
        if len(incoming) == 1:
            if database.is_unavailable(error):
                raise
            ids = {"message_id": incoming[0].id}
            log.exception("The undecided message %s cannot be decided.", incoming[0].id, extra=ids)
            if _count_failure(connection, incoming[0]) == MAX_FAILURES:
                # Fail open, as on arrival; if that fails too, the next run stores it as Mapping Failed.
                undecidable_messages = [messages.mark_undecidable(incoming[0], error)]
                return _drain_batch(connection, registry, alert_ids, undecidable_messages, now)
            return 0
        half = len(incoming) // 2
        return _drain_batch(connection, registry, alert_ids, incoming[:half], now) + _drain_batch(
            connection, registry, alert_ids, incoming[half:], now
        )


def _count_failure(connection: Connection, incoming: IncomingMessage) -> int:
    """Counts a failure and returns the total; beyond `MAX_FAILURES`, the message becomes Mapping Failed."""
    row = connection.execute(
        "UPDATE inbound_inboundmessage SET failures = failures + 1, "
        "status = CASE WHEN failures + 1 > %s THEN 'Mapping Failed' ELSE status END, "
        "reason_code = CASE WHEN failures + 1 > %s THEN %s ELSE reason_code END, "
        "reason_data = CASE WHEN failures + 1 > %s THEN '{}'::jsonb ELSE reason_data END "
        "WHERE id = %s RETURNING failures",
        (MAX_FAILURES, MAX_FAILURES, reasons.UNDECIDABLE.code, MAX_FAILURES, incoming.id),
    ).fetchone()
    return row[0] if row is not None else 0
