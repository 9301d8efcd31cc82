"""Inbound messages as rows: storing them, decided or not, and what a retry after a lost connection finds of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json, bytes_in_json
from tocsin.core.errors import Rejected
from tocsin.core.validation.text_sanitizing import without_unstorable
from tocsin.inbound.body_compression import kept
from tocsin.inbound.deciding.preprocessing import PreprocessedMessage
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.expressions.fields import line
from tocsin.inbound.parsing.decode import Element

#: The code of a message that cannot be decided.
UNDECIDABLE = "cannot_be_decided"


class IncomingMessage(msgspec.Struct, frozen=True):
    """One element that is to be stored and decided: a message of its own, or one of an array."""

    id: UUID
    integration_id: int
    received_at: datetime
    #: The bytes of the element itself.
    raw: bytes
    #: What was read; or why nothing could be.
    element: Element | Rejected
    content_type: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    replay_of: UUID | None = None
    may_page: bool = True
    test_user_id: int | None = None
    #: How it was read where it arrived, if it was.
    prepared: PreprocessedMessage | None = None
    #: What no other test has: the alert of a test never shares its key with a real one.
    test_id: str = ""
    #: It waits still for what its system was asked.
    is_asked_about: bool = False
    #: Why it is decided although its system was not asked, or did not say.
    unasked: str = ""
    #: It waited for its alert to open, and that is due.
    is_due: bool = False

    @property
    def keeps(self) -> Mapping[str, object]:
        """What a message that waits must not forget: kept in its verdict's place until there is one."""
        if self.test_user_id is not None:
            return {"test": [self.test_user_id, self.test_id]}
        return {} if self.may_page else {"record": True}


def due(incoming: IncomingMessage) -> IncomingMessage:
    """The message as one whose opening is due."""
    return replace(incoming, is_due=True)


def undecidable(incoming: IncomingMessage, error: Exception) -> IncomingMessage:
    """The message as one that is kept as Mapping Failed, because deciding it fails."""
    detail = f"Tocsin could not decide it: {type(error).__name__}. It can be replayed."
    return replace(incoming, element=Rejected(UNDECIDABLE, detail), prepared=None)


class MessageResult(msgspec.Struct, frozen=True):
    """What became of an incoming message: what its sender is answered, and what its row says."""

    status: MessageStatus
    reason: str
    alert_id: int | None = None
    error: str | None = None


class MessageRow(msgspec.Struct, frozen=True):
    """The columns of a message besides what came in."""

    incoming: IncomingMessage
    stored: MessageResult
    source_id: str = ""
    source_status: str = ""
    subject: str = ""
    version_id: int | None = None
    verdict: Mapping[str, object] = msgspec.field(default_factory=dict)
    #: For Pending and Delayed ones.
    key_hash: bytes | None = None


#: What is decided later.
WAITING = (MessageStatus.PENDING, MessageStatus.DELAYED)

#: Bodies travel as one string of bytes, of which each row takes its own.
_INSERT = """
INSERT INTO inbound_inboundmessage (id, integration_id, received_at, status, reason, source_id, source_status, subject,
       alert_id, raw, content_type, headers, version_id, verdict, replay_of, key_hash, test, failures)
SELECT id, integration_id, received_at, status, reason, source_id, source_status, subject, alert_id,
       substring(%(bodies)b::bytea FROM starts FOR size), content_type, headers, version_id, verdict, replay_of,
       key_hash, test, 0
FROM json_to_recordset(%(rows)s) AS n(id uuid, integration_id bigint, received_at timestamptz, status text, reason text,
     source_id text, source_status text, subject text, alert_id bigint, starts int, size int, content_type text,
     headers jsonb, version_id bigint, verdict jsonb, replay_of uuid, key_hash bytea, test boolean)
"""


#: How long a key or alert that somebody holds is waited for before its messages become Pending.
LOCK_TIMEOUT = "50ms"


@contextmanager
def ready(connection: Connection) -> Iterator[None]:
    """Lends a connection of the pool to `batch.process`."""
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'".encode())
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("RESET lock_timeout")


def insert(connection: Connection, rows: Sequence[MessageRow]) -> None:
    """Writes messages in one statement."""
    written = []
    bodies = []
    starts = 1
    for row in rows:
        incoming, stored = row.incoming, row.stored
        body = kept(incoming.raw, is_waiting=stored.status in WAITING)
        size = len(body)
        bodies.append(body)
        written.append(
            {
                "id": incoming.id,
                "integration_id": incoming.integration_id,
                "received_at": incoming.received_at,
                "status": stored.status,
                "reason": without_unstorable(stored.reason),
                "source_id": row.source_id,
                "source_status": row.source_status,
                "subject": row.subject,
                "alert_id": stored.alert_id,
                "starts": starts,
                "size": size,
                "content_type": line(incoming.content_type, 200) or "",
                "headers": incoming.headers,
                "version_id": row.version_id,
                "verdict": row.verdict,
                "replay_of": incoming.replay_of,
                "key_hash": bytes_in_json(row.key_hash),
                "test": incoming.test_user_id is not None,
            }
        )
        starts += size
    connection.execute(_INSERT, {"bodies": b"".join(bodies), "rows": as_json(written)})


def stored_already(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, MessageResult]:
    """What is known of messages whose COMMIT may have been answered to nobody."""
    rows = connection.execute(
        "SELECT id, status, reason, alert_id, verdict ->> 'error' FROM inbound_inboundmessage WHERE id = ANY(%s)",
        (list(ids),),
    )
    return {row[0]: MessageResult(MessageStatus(row[1]), row[2], row[3], row[4]) for row in rows}
