"""Inbound messages as rows: storing them, decided or not, and what a retry after a lost connection finds of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.types.json import set_json_dumps

from tocsin.core.database import Connection
from tocsin.core.errors import Rejected
from tocsin.inbound.decode import Element
from tocsin.inbound.fields import line, without_unstorable
from tocsin.inbound.outcomes import MessageStatus
from tocsin.inbound.prepared import Prepared


@dataclass(frozen=True, slots=True)
class Incoming:
    """One element that is to be stored and decided: a message of its own, or one of an array."""

    id: UUID
    integration_id: int
    received_at: datetime
    #: The bytes of the element itself.
    raw: bytes
    #: What was read; or why nothing could be.
    element: Element | Rejected
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    replay_of: UUID | None = None
    may_page: bool = True
    test_user_id: int | None = None
    #: How it was read where it arrived, if it was.
    prepared: Prepared | None = None
    #: What no other test has: the alert of a test never shares its key with a real one.
    test_id: str = ""

    @property
    def keeps(self) -> Mapping[str, object]:
        """What a message that waits must not forget: kept in its verdict's place until there is one."""
        if self.test_user_id is not None:
            return {"test": [self.test_user_id, self.test_id]}
        return {} if self.may_page else {"record": True}


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an incoming message: what its sender is answered, and what its row says."""

    status: MessageStatus
    reason: str
    alert_id: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """The columns of a message besides what came in."""

    incoming: Incoming
    stored: Stored
    source_id: str = ""
    source_status: str = ""
    subject: str = ""
    version_id: int | None = None
    verdict: Mapping[str, object] = field(default_factory=dict)
    #: For Pending ones.
    key_hash: bytes | None = None


#: The columns of the COPY and their types, which the binary form needs to know.
_COLUMNS = {
    "id": "uuid",
    "integration_id": "int8",
    "received_at": "timestamptz",
    "status": "text",
    "reason": "text",
    "source_id": "text",
    "source_status": "text",
    "subject": "text",
    "alert_id": "int8",
    "raw": "bytea",
    "content_type": "text",
    "headers": "jsonb",
    "version_id": "int8",
    "verdict": "jsonb",
    "replay_of": "uuid",
    "key_hash": "bytea",
    "test": "bool",
    "failures": "int2",
}


#: How long a key or alert that somebody holds is waited for before its messages become Pending.
LOCK_TIMEOUT = "50ms"


def prepare(connection: Connection) -> None:
    """Has a connection write JSON by msgspec."""
    set_json_dumps(msgspec.json.encode, connection)


@contextmanager
def ready(connection: Connection) -> Iterator[None]:
    """Lends a connection of the pool to `batch.process`."""
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'".encode())
    prepare(connection)
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("RESET lock_timeout")


def insert(connection: Connection, rows: Sequence[MessageRow]) -> None:
    """Writes messages in one COPY, bodies as they came. `prepare` the connection once before."""
    statement = f"COPY inbound_inboundmessage ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(list(_COLUMNS.values()))
        for row in rows:
            incoming, stored = row.incoming, row.stored
            copy.write_row(
                (
                    incoming.id,
                    incoming.integration_id,
                    incoming.received_at,
                    stored.status.value,
                    without_unstorable(stored.reason),
                    row.source_id,
                    row.source_status,
                    row.subject,
                    stored.alert_id,
                    incoming.raw,
                    line(incoming.content_type, 200) or "",
                    incoming.headers,
                    row.version_id,
                    row.verdict,
                    incoming.replay_of,
                    row.key_hash,
                    incoming.test_user_id is not None,
                    0,
                )
            )


def stored_already(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Stored]:
    """What is known of messages whose COMMIT may have been answered to nobody."""
    rows = connection.execute(
        "SELECT id, status, reason, alert_id, verdict ->> 'error' FROM inbound_inboundmessage WHERE id = ANY(%s)",
        (list(ids),),
    )
    return {row[0]: Stored(MessageStatus(row[1]), row[2], row[3], row[4]) for row in rows}
