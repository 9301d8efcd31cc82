"""Inbound messages as rows: inserts them, decided or not, and finds those stored by a lost commit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tocsin.core.db.database import Connection, GuardedConnection, as_json, as_storable_json, bytes_in_json
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, Text, reason_as_json, reason_from_json
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding import state
from tocsin.inbound.deciding.decide import PreprocessedMessage
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.fields import clean_line
from tocsin.inbound.models import compress, decompress
from tocsin.inbound.parsing.decode import Element, decode

#: The error code of a message that cannot be decided.
UNDECIDABLE = "cannot_be_decided"


class IncomingMessage(msgspec.Struct, frozen=True):
    """One element to store and decide: a single message, or one of an array."""

    id: UUID
    integration_id: int
    received_at: datetime
    #: The bytes of this element.
    raw: bytes
    #: The parsed element, or why it could not be parsed.
    element: Element | Rejected
    content_type: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    replay_of: UUID | None = None
    may_page: bool = True
    test_user_id: int | None = None
    #: The result of preprocessing on arrival, if any.
    preprocessed: PreprocessedMessage | None = None
    #: Unique for each test: a test's alert never shares its key with a real one.
    test_id: str = ""
    #: Whether it still waits for its ticket to be fetched.
    is_awaiting_ticket: bool = False
    #: Why it is decided although its ticket was not fetched.
    fetch_skipped_reason: Reason = NO_REASON
    #: Whether its alert was delayed and is due.
    is_due: bool = False

    @property
    def pending_context(self) -> Mapping[str, object]:
        """What an undecided message must remember; stored in its verdict's column until there is a verdict."""
        if self.test_user_id is not None:
            return {"test": [self.test_user_id, self.test_id]}
        return {} if self.may_page else {"record": True}


def mark_undecidable(incoming: IncomingMessage, error: Exception) -> IncomingMessage:
    """Returns the message in the form that is stored as Mapping Failed, because deciding it failed."""
    reason = state.UNDECIDABLE_BECAUSE(error=type(error).__name__)
    return replace(incoming, element=Rejected(UNDECIDABLE, reason), preprocessed=None)


class MessageResult(msgspec.Struct, frozen=True):
    """The result for an incoming message, for the response to its sender and for its row."""

    status: MessageStatus
    reason: Reason
    alert_id: int | None = None
    error: str | None = None


class MessageRow(msgspec.Struct, frozen=True):
    incoming: IncomingMessage
    result: MessageResult
    source_id: str = ""
    source_status: str = ""
    subject: str = ""
    version_id: int | None = None
    verdict: Mapping[str, object] = msgspec.field(default_factory=dict)
    #: For pending and delayed messages.
    key_hash: bytes | None = None


#: Statuses of messages that are decided later.
UNDECIDED = (MessageStatus.PENDING, MessageStatus.DELAYED)

#: Bodies are sent as one byte string, of which each row takes its part.
_INSERT = """
INSERT INTO inbound_inboundmessage (id, integration_id, received_at, status, reason, source_id,
       source_status, subject, alert_id, raw, content_type, headers, version_id, verdict, replay_of, key_hash, test,
       failures)
SELECT id, integration_id, received_at, status, reason, source_id, source_status, subject, alert_id,
       substring(%(bodies)b::bytea FROM starts FOR size), content_type, headers, version_id, verdict, replay_of,
       key_hash, test, 0
FROM json_to_recordset(%(rows)s) AS n(id uuid, integration_id bigint, received_at timestamptz, status text,
     reason jsonb, source_id text, source_status text, subject text, alert_id bigint, starts int,
     size int, content_type text, headers jsonb, version_id bigint, verdict jsonb, replay_of uuid, key_hash bytea,
     test boolean)
"""


#: How long to wait for a locked key or alert before its messages become Pending.
LOCK_TIMEOUT = "50ms"


@contextmanager
def short_lock_timeout(connection: GuardedConnection) -> Iterator[None]:
    """Prepares a pooled connection for `batch.process`."""
    connection.set_settings(lock_timeout=LOCK_TIMEOUT)
    try:
        yield
    finally:
        if not connection.closed:
            connection.reset_settings("lock_timeout")


def insert(connection: Connection, rows: Sequence[MessageRow]) -> None:
    values = []
    bodies = []
    start = 1
    for row in rows:
        incoming, result = row.incoming, row.result
        body = compress(incoming.raw, is_pending=result.status in UNDECIDED)
        size = len(body)
        bodies.append(body)
        values.append(
            {
                "id": incoming.id,
                "integration_id": incoming.integration_id,
                "received_at": incoming.received_at,
                "status": result.status,
                "reason": reason_as_json(result.reason),
                "source_id": row.source_id,
                "source_status": row.source_status,
                "subject": row.subject,
                "alert_id": result.alert_id,
                "starts": start,
                "size": size,
                "content_type": clean_line(incoming.content_type, 200) or "",
                "headers": incoming.headers,
                "version_id": row.version_id,
                "verdict": row.verdict,
                "replay_of": incoming.replay_of,
                "key_hash": bytes_in_json(row.key_hash),
                "test": incoming.test_user_id is not None,
            }
        )
        start += size
    connection.execute(_INSERT, {"bodies": b"".join(bodies), "rows": as_json(values)})


def find_stored(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, MessageResult]:
    """Returns the results of those messages that are stored, after a COMMIT whose response was lost."""
    rows = connection.execute(
        "SELECT id, status, reason, alert_id, verdict ->> 'error' FROM inbound_inboundmessage WHERE id = ANY(%s)",
        (list(ids),),
    )
    return {
        message_id: MessageResult(MessageStatus(status), reason_from_json(reason), alert_id, error)
        for message_id, status, reason, alert_id, error in rows
    }


_UPDATE_STORED = """
UPDATE inbound_inboundmessage m SET status = n.status, reason = n.reason,
       alert_id = n.alert_id, verdict = n.verdict, key_hash = n.key_hash,
       source_status = coalesce(nullif(n.source_status, ''), m.source_status),
       subject = coalesce(nullif(n.subject, ''), m.subject)
FROM jsonb_to_recordset(%s) AS n(id uuid, status text, reason jsonb, alert_id bigint,
                                 verdict jsonb, source_status text, subject text, key_hash bytea)
WHERE m.id = n.id
"""


def lock_undecided(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Locks and returns those of the stored messages that are still undecided. Their keys are locked by now."""
    rows = connection.execute(
        "SELECT id FROM inbound_inboundmessage WHERE id = ANY(%s) AND status IN ('Pending', 'Mapped Delayed') "
        "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
        (list(ids),),
    )
    return {row[0] for row in rows}


def update(connection: Connection, rows: Sequence[MessageRow]) -> None:
    """Writes the outcome of stored messages. Those that stay pending are left unchanged."""
    values = [
        {
            "id": row.incoming.id,
            "status": row.result.status,
            "reason": reason_as_json(row.result.reason),
            "alert_id": row.result.alert_id,
            "verdict": row.verdict,
            "source_status": row.source_status,
            "subject": row.subject,
            "key_hash": bytes_in_json(row.key_hash),
        }
        for row in rows
        if row.result.status is not MessageStatus.PENDING
    ]
    if values:
        connection.execute(_UPDATE_STORED, (as_json(values),))


# ---------- stored messages
# Loads a stored message to decide it again: decodes its bytes and restores its context. Limits what is computed.

_NOT_ONE_OBJECT = Text("The message is not one object.")
_LEFT_OUT = Text(
    "{count} message was left out: computing ends after {seconds} s, and messages of more than {values} values "
    "are not computed again.",
    "{count} messages were left out: computing ends after {seconds} s, and messages of more than {values} values "
    "are not computed again.",
)
TOO_MANY_VALUES = Text(
    "This message has more than {values} values. It was decided when it arrived, and is not computed again here."
)

#: How long one request may compute over messages.
MAX_SECONDS = 2.0

#: How many values a message may have to be computed again. The path of an arriving message has no such limit.
MAX_VALUES = 5_000


@dataclass(slots=True)
class MessageBudget:
    """What one request may compute over messages, which strangers wrote: some are built to take minutes.

    Whatever decides, explains or counts messages for a reader asks it before each one, and says what it left out.
    """

    seconds: float = field(default_factory=lambda: MAX_SECONDS)
    left_out: int = 0
    _ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends_at = time.monotonic() + self.seconds

    def is_over(self) -> bool:
        return time.monotonic() >= self._ends_at

    def admits(self, element: Element | Rejected) -> bool:
        """Returns whether the message may be computed; counts it as left out otherwise."""
        if not self.is_over() and not has_too_many_values(element):
            return True
        self.left_out += 1
        return False

    @property
    def reason(self) -> Reason:
        """What was left out, for the reader."""
        if not self.left_out:
            return NO_REASON
        return _LEFT_OUT(count=self.left_out, seconds=round(self.seconds), values=MAX_VALUES)


def add_to_verdict(connection: Connection, message_id: UUID, fields: Mapping[str, object]) -> None:
    """Adds what another room found out to a message that is not decided yet."""
    connection.execute(
        "UPDATE inbound_inboundmessage SET verdict = verdict || %s WHERE id = %s AND status = 'Pending'",
        (as_storable_json(fields), message_id),
    )


def has_too_many_values(element: Element | Rejected) -> bool:
    """Returns whether the message has more values than may be computed again: texts, numbers, lists and objects."""
    count = 0
    waiting: list[object] = [] if isinstance(element, Rejected) else [element.payload]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > MAX_VALUES:
                return True
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return False


def incoming_of(row: Mapping[str, Any], registry: IntegrationRegistry, now: datetime) -> IncomingMessage:
    raw, content_type = decompress(row["raw"]), row["content_type"]
    normalizer = registry.get(row["integration_id"]).normalizer
    pending_context: Mapping[str, Any] = row["verdict"] or {}
    test_user_id, test_id = pending_context.get("test", (None, ""))
    element = element_of(raw, content_type, lenient=normalizer.kind.lenient)
    ticket_fetch = pending_context.get(state.TICKET_FETCH)
    is_awaiting_ticket = ticket_fetch == state.FETCH_REQUESTED
    # With `abs`, a message received before a clock rollback times out as well.
    is_timed_out = is_awaiting_ticket and abs(now - row["received_at"]) >= state.LOOKUP_TIMEOUT
    if (
        ticket_fetch
        and isinstance(ticket_fetch, Mapping)
        and isinstance(element, Element)
        and element.payload is not None
    ):
        # Its ticket was fetched meanwhile.
        element = state.merge_fetched_ticket(normalizer, element, ticket_fetch)
    return IncomingMessage(
        id=row["id"],
        integration_id=row["integration_id"],
        received_at=row["received_at"],
        raw=raw,
        element=element,
        content_type=content_type,
        headers=row["headers"],
        replay_of=row["replay_of"],
        may_page=not pending_context.get("record", False),
        test_user_id=test_user_id,
        test_id=test_id,
        is_awaiting_ticket=is_awaiting_ticket and not is_timed_out,
        fetch_skipped_reason=state.NO_ANSWER(timeout=state.LOOKUP_TIMEOUT)
        if is_timed_out
        else reason_from_json(pending_context.get(state.FETCH_SKIPPED)),
    )


def element_of(raw: bytes, content_type: str, *, lenient: bool) -> Element | Rejected:
    """Decodes the single element of a stored message."""
    try:
        decoded = decode(raw, content_type, lenient=lenient)
    except Rejected as rejected:
        return rejected
    if len(decoded.elements) != 1:
        return Rejected("invalid_json", _NOT_ONE_OBJECT())
    return decoded.elements[0]
