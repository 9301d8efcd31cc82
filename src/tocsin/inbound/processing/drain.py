"""Decides pending messages in order, on a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from msgspec.structs import replace
from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Batch, BatchRunner, Connection, GuardedConnection
from tocsin.core.ids import advisory_lock_key
from tocsin.inbound.config import registry
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding import state
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult, incoming_of

log = logging.getLogger(__name__)

#: Another transaction holds a lock, or has decided the same.
CONFLICTS = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.UniqueViolation,
)

# ---------- delayed alerts
# Decides the messages of due alerts again, in order and under their keys' locks. Nothing is kept in memory: due alerts
# are indexed rows, and any node may process them. Undecidable ones are kept.

#: The maximum number of alerts per run, and of newest messages per alert in addition to its first one. The messages in
#: between get the outcome `Mapped Ignored`.
MAX_ALERTS_PER_RUN = 100
_MAX_MESSAGES = 200

#: Delay before an undecidable alert is retried.
_RETRY_AFTER = timedelta(seconds=30)

_DUE = """
SELECT key_hash, integration_id FROM inbound_delayedalert WHERE due_at <= %s ORDER BY due_at, key_hash LIMIT %s
"""

_MESSAGES_OF = """
SELECT m.id, m.integration_id, m.received_at, m.raw, m.content_type, m.headers, m.replay_of, m.verdict
FROM unnest(%s::bytea[]) AS k(key_hash) CROSS JOIN LATERAL (
    (SELECT w.id FROM inbound_inboundmessage w WHERE w.status = 'Mapped Delayed' AND w.key_hash = k.key_hash
     ORDER BY w.id LIMIT 1)
    UNION
    (SELECT w.id FROM inbound_inboundmessage w WHERE w.status = 'Mapped Delayed' AND w.key_hash = k.key_hash
     ORDER BY w.id DESC LIMIT %s)) AS w JOIN inbound_inboundmessage m ON m.id = w.id
ORDER BY m.id
"""

#: Rows whose messages are decided or gone: under another configuration, they may have got another key.
_DELETE_FINISHED = """
DELETE FROM inbound_delayedalert d WHERE d.key_hash = ANY(%s) AND d.due_at <= %s AND NOT EXISTS (
    SELECT 1 FROM inbound_inboundmessage m WHERE m.status = 'Mapped Delayed' AND m.key_hash = d.key_hash)
"""

_IGNORE_REST = """
UPDATE inbound_inboundmessage m SET status = 'Mapped Ignored', key_hash = NULL, reason = %s
WHERE m.status = 'Mapped Delayed' AND m.key_hash = ANY(%s)
      AND NOT EXISTS (SELECT 1 FROM inbound_delayedalert d WHERE d.key_hash = m.key_hash)
"""


_BATCHES = BatchRunner[bytes]("A batch of delayed openings", MAX_ALERTS_PER_RUN, MAX_ALERTS_PER_RUN)


def open_due(registry: IntegrationRegistry, alert_ids: AlertIdAllocator, now: datetime) -> bool:
    """Decides the messages of due alerts. Returns True if there may be more."""
    return _BATCHES.run(partial(_open, registry, alert_ids, now), partial(_fail_alone, now))


def _open(registry: IntegrationRegistry, alert_ids: AlertIdAllocator, now: datetime, part: Batch[bytes]) -> bool:
    """Opens the alerts of one batch. Returns True if there may be more."""
    with database.connection() as connection:
        is_full = False
        if not part.keys:
            rows = connection.execute(_DUE, (now, part.limit)).fetchall()
            part.keys, is_full = [bytes(row[0]) for row in rows], len(rows) == part.limit
            if not rows:
                return False
            registry.refresh()
        with messages.short_lock_timeout(connection):
            try:
                integrations = registry.get_all()
                message_rows = database.rows(connection, _MESSAGES_OF, (list(part.keys), _MAX_MESSAGES))
                incoming = [
                    replace(incoming_of(row, registry, now), is_due=True)
                    for row in message_rows
                    if row["integration_id"] in integrations
                ]
                if incoming:
                    batch.process(connection, registry, alert_ids, incoming, now, wait=False, is_draining=True)
                _delete_finished(connection, part.keys, now)
            except CONFLICTS:
                # The next run is in a second.
                return False
    return is_full


def _fail_alone(now: datetime, key: bytes, error: Exception) -> None:
    if isinstance(error, UnknownIntegration):
        raise error
    log.error("A delayed opening cannot be decided; it is tried again in %s.", _RETRY_AFTER, exc_info=error)
    with database.connection() as connection:
        connection.execute("UPDATE inbound_delayedalert SET due_at = %s WHERE key_hash = %s", (now + _RETRY_AFTER, key))


def _delete_finished(connection: Connection, keys: Collection[bytes], now: datetime) -> None:
    with connection.transaction():
        locked = connection.execute(
            "SELECT k FROM unnest(%s::bytea[], %s::bigint[]) AS w(k, n) WHERE pg_try_advisory_xact_lock(n)",
            (list(keys), [advisory_lock_key(key) for key in keys]),
        ).fetchall()
        locked_keys = [bytes(row[0]) for row in locked]
        connection.execute(_IGNORE_REST, (state.ONE_OF_MANY(), locked_keys))
        connection.execute(_DELETE_FINISHED, (locked_keys, now))


# ---------- pending messages

#: The maximum number of pending messages per run, oldest first.
MAX_MESSAGES_PER_RUN = 200

#: A message that failed this often is decided as Mapping Failed, and waits for a user.
MAX_FAILURES = 5


_PENDING = """
SELECT id, integration_id, received_at, raw, content_type, headers, replay_of, verdict
FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT %s
"""

_DRAIN_BATCHES = BatchRunner[IncomingMessage]("A batch of pending messages", MAX_MESSAGES_PER_RUN, MAX_MESSAGES_PER_RUN)


_COUNT_FAILURE = """
UPDATE inbound_inboundmessage SET failures = failures + 1,
       status = CASE WHEN failures + 1 > %s THEN 'Mapping Failed' ELSE status END,
       reason = CASE WHEN failures + 1 > %s THEN %s ELSE reason END
WHERE id = %s RETURNING failures
"""


def drain(registry: IntegrationRegistry, alert_ids: AlertIdAllocator, now: datetime) -> bool:
    """Decides pending messages in arrival order. Returns True if there may be more."""
    registry.refresh()
    work = partial(_decide, registry, alert_ids, now)
    return _DRAIN_BATCHES.run(work, partial(_fail_alone_drain, work))


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
    return sum(result.status is not MessageStatus.PENDING for result in results) >= part.limit


def _fail_alone_drain(
    work: Callable[[Batch[IncomingMessage]], bool], incoming: IncomingMessage, error: Exception
) -> None:
    if isinstance(error, UnknownIntegration):
        raise error
    log.error(
        "The undecided message %s cannot be decided.", incoming.id, exc_info=error, extra={"message_id": incoming.id}
    )
    with database.transaction() as connection:
        # Beyond `MAX_FAILURES`, the message becomes Mapping Failed.
        row = connection.execute(
            _COUNT_FAILURE, (MAX_FAILURES, MAX_FAILURES, state.UNDECIDABLE(), incoming.id)
        ).fetchone()
        failures = row[0] if row is not None else 0
    if failures == MAX_FAILURES:
        # Fail open, as on arrival; if that fails too, the next run stores it as Mapping Failed.
        _DRAIN_BATCHES.run(work, partial(_fail_alone_drain, work), [messages.mark_undecidable(incoming, error)])


# ---------- a few messages outside the committer, for example a replay


def process_now(incoming: Sequence[IncomingMessage], now: datetime) -> list[MessageResult]:
    """Decides the messages; returns their results in order, after the commit. Pending if the alert stays locked.

    Raises UnknownIntegration if the integration was deleted.
    """
    with database.connection() as connection, messages.short_lock_timeout(connection):
        try:
            return _process(connection, incoming, now, wait=True)
        except CONFLICTS:
            # Another transaction interfered: retry once, without waiting for locks.
            return _process(connection, incoming, now, wait=False)


def _process(
    connection: GuardedConnection, incoming: Sequence[IncomingMessage], now: datetime, *, wait: bool
) -> list[MessageResult]:
    integration_registry = registry.shared_registry()
    if not all(message.integration_id in integration_registry.get_all() for message in incoming):
        integration_registry.refresh()
    return batch.process(connection, integration_registry, AlertIdAllocator(), incoming, now, wait=wait)
