"""The worker's loops of this room; the one that decides undecided messages, in order, is here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import Loop
from tocsin.inbound.body_compression import body_of
from tocsin.inbound.config.registry import Registry, UnknownDoor
from tocsin.inbound.deciding import echo_suppression
from tocsin.inbound.email import imap_poller
from tocsin.inbound.heartbeats import monitor
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.inbound.processing import batch, delayed_alerts_task
from tocsin.inbound.storage import messages, retention, search_index
from tocsin.inbound.storage.messages import Incoming

log = logging.getLogger(__name__)

#: So many undecided messages are looked at in one turn, oldest first.
DRAIN = 200

#: A message that failed so often is decided as Mapping Failed, and waits for a person.
MAX_FAILURES = 5


def loops(registry: Registry) -> tuple[Loop, ...]:
    """The loops of a worker."""

    def drain_turn() -> bool:
        return drain(registry, batch.Numbers(), clock.now())

    return (
        Loop("inbound drain", drain_turn, timedelta(seconds=1), frozenset({"pending"})),
        delayed_alerts_task.loop(registry),
        monitor.loop(registry),
        imap_poller.loop(registry),
        retention.loop(),
        search_index.loop(),
    )


def door_loops(registry: Registry) -> tuple[Loop, ...]:
    """The loops of a node that takes messages."""
    return (Loop("inbound rotated tokens", lambda: write_expired(registry), timedelta(seconds=10)),)


def write_expired(registry: Registry) -> bool:
    """Adds the posts to rotated tokens to their integrations' counts. What cannot be written is counted again."""
    counted = registry.take_expired()
    if not counted:
        return False
    try:
        with database.transaction() as connection:
            connection.execute(
                "UPDATE inbound_integration i SET old_token_posts = i.old_token_posts + n.posts "
                "FROM unnest(%s::bigint[], %s::int[]) AS n(id, posts) WHERE i.id = n.id",
                (list(counted), list(counted.values())),
            )
    except errors.Error:
        for integration_id, posts in counted.items():
            registry.count_expired(integration_id, posts)
        raise
    return False


_PENDING = """
SELECT id, integration_id, received_at, raw, content_type, headers, replay_of, verdict
FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT %s
"""


def drain(registry: Registry, numbers: batch.Numbers, now: datetime) -> bool:
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
    connection: Connection, registry: Registry, numbers: batch.Numbers, waiting: list[Incoming], now: datetime
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
        if isinstance(error, UnknownDoor):
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


def _count_failure(connection: Connection, incoming: Incoming) -> int:
    """How often it has failed; beyond `MAX_FAILURES` it is Mapping Failed."""
    counted = connection.execute(
        "UPDATE inbound_inboundmessage SET failures = failures + 1, "
        "status = CASE WHEN failures + 1 > %s THEN 'Mapping Failed' ELSE status END, "
        "reason = CASE WHEN failures + 1 > %s THEN 'Tocsin could not decide it. It can be replayed.' ELSE reason END "
        "WHERE id = %s RETURNING failures",
        (MAX_FAILURES, MAX_FAILURES, incoming.id),
    ).fetchone()
    return counted[0] if counted is not None else 0


def incoming_of(row: Mapping[str, Any], registry: Registry, now: datetime) -> Incoming:
    """A stored message as it is decided again."""
    raw, content_type = body_of(row["raw"]), row["content_type"]
    reader = registry.door(row["integration_id"]).reader
    kept: Mapping[str, Any] = row["verdict"] or {}
    test_user_id, test_id = kept.get("test", (None, ""))
    element = element_of(raw, content_type, lenient=reader.kind.lenient)
    asked = kept.get(echo_suppression.REREAD)
    is_waiting = asked == echo_suppression.WANTED
    # Of a message that came by a clock which was set back since, patience is at its end too.
    is_over = is_waiting and abs(now - row["received_at"]) >= echo_suppression.PATIENCE
    if asked and isinstance(asked, Mapping) and isinstance(element, Element) and element.payload is not None:
        # Its system was asked meanwhile, and said how the ticket stands.
        element = echo_suppression.completed(reader, element, asked)
    return Incoming(
        id=row["id"],
        integration_id=row["integration_id"],
        received_at=row["received_at"],
        raw=raw,
        element=element,
        content_type=content_type,
        headers=row["headers"],
        replay_of=row["replay_of"],
        may_page=not kept.get("record", False),
        test_user_id=test_user_id,
        test_id=test_id,
        is_asked_about=is_waiting and not is_over,
        unasked=echo_suppression.NO_ANSWER if is_over else str(kept.get(echo_suppression.UNASKED) or ""),
    )


def element_of(raw: bytes, content_type: str, *, lenient: bool) -> Element | Rejected:
    """The one element that a stored message's bytes are."""
    try:
        decoded = decode(raw, content_type, lenient=lenient)
    except Rejected as rejected:
        return rejected
    if len(decoded.elements) != 1:
        return Rejected("invalid_json", "a stored message is one object")
    return decoded.elements[0]
