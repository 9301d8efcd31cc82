"""The delayed alerts task: decides the messages of due alerts again, in order and under their keys' locks.

Nothing is kept in memory: due alerts are indexed rows, and any node may process them. Undecidable ones are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.split_batch import Batch, BatchRunner
from tocsin.core.ids import advisory_lock_key
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding import reasons
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.alert_ids import AlertIdAllocator
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.inbound.storage.stored_messages import incoming_of

log = logging.getLogger(__name__)

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
UPDATE inbound_inboundmessage m SET status = 'Mapped Ignored', key_hash = NULL, reason_code = %s, reason_data = '{}'
WHERE m.status = 'Mapped Delayed' AND m.key_hash = ANY(%s)
      AND NOT EXISTS (SELECT 1 FROM inbound_delayedalert d WHERE d.key_hash = m.key_hash)
"""


def due_alerts_task(registry: IntegrationRegistry) -> PeriodicTask:
    """Returns the periodic task that opens due alerts."""
    return PeriodicTask(
        "inbound delayed openings",
        # A new allocator for each run: spare ids of an earlier run could be lower than ids that the search index
        # passed.
        lambda: open_due(registry, AlertIdAllocator(), clock.now()),
        timedelta(seconds=1),
        frozenset({"delayed"}),
    )


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
                incoming = _incoming(connection, registry, part.keys, now)
                if incoming:
                    batch.process(connection, registry, alert_ids, incoming, now, wait=False, is_draining=True)
                _delete_finished(connection, part.keys, now)
            except (
                errors.LockNotAvailable,
                errors.DeadlockDetected,
                errors.SerializationFailure,
                errors.UniqueViolation,
            ):
                # Another transaction holds one of them: the next run is in a second.
                return False
    return is_full


def _fail_alone(now: datetime, key: bytes, error: Exception) -> None:
    if isinstance(error, UnknownIntegration):
        raise error
    log.error("A delayed opening cannot be decided; it is tried again in %s.", _RETRY_AFTER, exc_info=error)
    with database.connection() as connection:
        connection.execute("UPDATE inbound_delayedalert SET due_at = %s WHERE key_hash = %s", (now + _RETRY_AFTER, key))


def _incoming(
    connection: Connection, registry: IntegrationRegistry, keys: Sequence[bytes], now: datetime
) -> list[IncomingMessage]:
    rows = database.rows(connection, _MESSAGES_OF, (list(keys), _MAX_MESSAGES))
    integrations = registry.get_all()
    incoming = (incoming_of(row, registry, now) for row in rows if row["integration_id"] in integrations)
    return [messages.mark_due(message) for message in incoming]


def _delete_finished(connection: Connection, keys: Collection[bytes], now: datetime) -> None:
    with connection.transaction():
        locked = connection.execute(
            "SELECT k FROM unnest(%s::bytea[], %s::bigint[]) AS w(k, n) WHERE pg_try_advisory_xact_lock(n)",
            (list(keys), [advisory_lock_key(key) for key in keys]),
        ).fetchall()
        locked_keys = [bytes(row[0]) for row in locked]
        connection.execute(_IGNORE_REST, (reasons.ONE_OF_MANY.code, locked_keys))
        connection.execute(_DELETE_FINISHED, (locked_keys, now))
