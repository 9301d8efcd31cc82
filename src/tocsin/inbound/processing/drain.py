"""The worker's loops of this room; the one that decides undecided messages, in order, is here."""

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

#: So many undecided messages are looked at in one turn, oldest first.
DRAIN = 200

#: A message that failed so often is decided as Mapping Failed, and waits for a person.
MAX_FAILURES = 5


_PENDING = """
SELECT id, integration_id, received_at, raw, content_type, headers, replay_of, verdict
FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT %s
"""


def drain(registry: IntegrationRegistry, numbers: batch.AlertIdAllocator, now: datetime) -> bool:
    """Decides messages that wait, in the order of their arrival. True when there may be more."""
    registry.refresh()
    with database.pool().connection() as connection:
        found = database.rows(connection, _PENDING, (DRAIN,))
        if not found:
            return False
        known = registry.doors()
        # By the database's clock: a node's own, by which ids are ordered, may be ahead of another's.
        found.sort(key=lambda row: (row["received_at"], row["id"]))
        waiting = [incoming_of(row, registry, now) for row in found if row["integration_id"] in known]
        with messages.ready(connection):
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
    except Exception as error:  # one message's edge: the others are decided all the same
        if isinstance(error, UnknownIntegration):
            raise
        if len(waiting) == 1:
            if database.is_unavailable(error):
                raise
            log.exception("The undecided message %s cannot be decided.", waiting[0].id)
            if _count_failure(connection, waiting[0]) == MAX_FAILURES:
                # Fail open, as where it arrives; should that fail too, it is kept at its next turn.
                kept = [messages.undecidable(waiting[0], error)]
                return _drain_batch(connection, registry, numbers, kept, now)
            return 0
        half = len(waiting) // 2
        return _drain_batch(connection, registry, numbers, waiting[:half], now) + _drain_batch(
            connection, registry, numbers, waiting[half:], now
        )


def _count_failure(connection: Connection, incoming: IncomingMessage) -> int:
    """How often it has failed; beyond `MAX_FAILURES` it is Mapping Failed."""
    counted = connection.execute(
        "UPDATE inbound_inboundmessage SET failures = failures + 1, "
        "status = CASE WHEN failures + 1 > %s THEN 'Mapping Failed' ELSE status END, "
        "reason = CASE WHEN failures + 1 > %s THEN 'Tocsin could not decide it. It can be replayed.' ELSE reason END "
        "WHERE id = %s RETURNING failures",
        (MAX_FAILURES, MAX_FAILURES, incoming.id),
    ).fetchone()
    return counted[0] if counted is not None else 0
