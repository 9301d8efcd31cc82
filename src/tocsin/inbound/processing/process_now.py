"""Processes a few messages outside the committer, for example a replay: one batch, on a pooled connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.guarded_connection import GuardedConnection
from tocsin.inbound.config import registry
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.alert_ids import AlertIdAllocator
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

CONFLICTS = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.UniqueViolation,
)


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
