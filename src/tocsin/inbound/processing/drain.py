"""Decides pending messages in order, on a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.split_batch import Batch, BatchRunner
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

_BATCHES = BatchRunner[IncomingMessage]("A batch of pending messages", MAX_MESSAGES_PER_RUN, MAX_MESSAGES_PER_RUN)


def drain(registry: IntegrationRegistry, alert_ids: AlertIdAllocator, now: datetime) -> bool:
    """Decides pending messages in arrival order. Returns True if there may be more."""
    registry.refresh()
    work = partial(_decide, registry, alert_ids, now)
    return _BATCHES.run(work, partial(_fail_alone, work))


def _decide(
    registry: IntegrationRegistry, alert_ids: AlertIdAllocator, now: datetime, part: Batch[IncomingMessage]
) -> bool:
    with database.connection() as connection:
        incoming = part.keys
        if not incoming:
            rows = database.rows(connection, _PENDING, (part.limit,))
            integrations = registry.get_all()
            # Sorted by the database's clock: ids are made with a node's clock, which may be ahead of another's.
            rows.sort(key=lambda row: (row["received_at"], row["id"]))
            incoming = [incoming_of(row, registry, now) for row in rows if row["integration_id"] in integrations]
            part.keys = incoming
        if not incoming:
            return False
        with messages.short_lock_timeout(connection):
            try:
                results = batch.process(connection, registry, alert_ids, incoming, now, wait=False, is_draining=True)
            except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure):
                return False
    decided_count = sum(result.status.value != "Pending" for result in results)
    return decided_count >= part.limit


def _fail_alone(work: Callable[[Batch[IncomingMessage]], bool], incoming: IncomingMessage, error: Exception) -> None:
    if isinstance(error, UnknownIntegration):
        raise error
    log.error(
        "The undecided message %s cannot be decided.", incoming.id, exc_info=error, extra={"message_id": incoming.id}
    )
    with database.transaction() as connection:
        failures = _count_failure(connection, incoming)
    if failures == MAX_FAILURES:
        # Fail open, as on arrival; if that fails too, the next run stores it as Mapping Failed.
        _BATCHES.run(work, partial(_fail_alone, work), [messages.mark_undecidable(incoming, error)])


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
