"""Takes a few messages in outside the committer, such as a replay: decided as a batch of their own, in one transaction
on a connection of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.inbound.config import registry
from tocsin.inbound.processing import batch
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

CONFLICTS = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.UniqueViolation,
)


def take_in(incoming: Sequence[IncomingMessage], now: datetime) -> list[MessageResult]:
    """What became of the messages, in their order, once it is committed. One whose alert somebody holds is Pending.

    Raises UnknownDoor when the integration is gone.
    """
    with database.pool().connection() as connection, messages.ready(connection):
        try:
            return _process(connection, incoming, now, wait=True)
        except CONFLICTS:
            # Somebody else was in between: once more, and without waiting for anybody.
            return _process(connection, incoming, now, wait=False)


def _process(
    connection: Connection, incoming: Sequence[IncomingMessage], now: datetime, *, wait: bool
) -> list[MessageResult]:
    doors = registry.shared()
    if not all(one.integration_id in doors.doors() for one in incoming):
        doors.refresh()
    return batch.process(connection, doors, batch.AlertIdAllocator(), incoming, now, wait=wait)
