"""Processes one batch of messages in one transaction: locks keys, decides in arrival order, writes all changes.

Locks are taken in the same order everywhere in Tocsin: keys, then alerts by key, then what belongs to them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

import psycopg
from msgspec.structs import replace
from psycopg import Cursor

from tocsin.alerts import service, store
from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.new_alert import AlertCreation, RepeatedMessages
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json, bytes_in_json
from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import echo_suppression, fail_open
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.decide import decide, decide_disabled, decide_failed, decide_without_ticket
from tocsin.inbound.deciding.echo_suppression import RecentWrites
from tocsin.inbound.deciding.preprocessing import DeliveryKey, prepare
from tocsin.inbound.deciding.state import (
    ALONE,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    DuplicateDelivery,
    GroupJoin,
    LockScopes,
    MessageContext,
    WaitOutcome,
)
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.storage import dedup_key_store, messages
from tocsin.inbound.storage import noise_store as shaped_rows
from tocsin.inbound.storage.dedup_key_store import LoadedKeys
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult, MessageRow

log = logging.getLogger(__name__)

#: Reasons of pending messages.
PENDING = "decided in order within seconds"
ASKING = "it does not say how the ticket stands: its system is asked first"


class AlertIdAllocator:
    """Ids for new alerts, fetched from the sequence as needed; the next batch uses what one leaves over."""

    def __init__(self) -> None:
        self._spare: list[int] = []
        self._used = 0
        #: A query for ids whose result has not been read yet.
        self._asked: Cursor[tuple[int]] | None = None

    def provide(self, connection: Connection, number: int) -> None:
        """Requests the ids missing for `number` alerts. In a pipeline, this costs no round trip."""
        try:
            self._collect()
        except psycopg.Error:
            # An earlier batch requested them, and its transaction or connection failed: those ids are lost.
            log.info("The numbers that a failed batch asked for are skipped.")
        self._used = 0
        if (lacking := number - len(self._spare)) > 0:
            self._asked = store.ask_for_ids(connection, lacking)

    def take(self) -> int:
        """Returns the next id."""
        self._collect()
        self._used += 1
        return self._spare[self._used - 1]

    def _collect(self) -> None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._spare.extend([row[0] for row in asked])

    def committed(self) -> None:
        """Marks the batch's ids as used. Without this call (the batch was rolled back), they are handed out again."""
        del self._spare[: self._used]
        self._used = 0

    def discard(self) -> None:
        """Drops all ids, because it is unknown whether the last batch was committed."""
        self._spare.clear()
        self._asked = None
        self._used = 0


_NEW = DedupKeyState()


@dataclass(slots=True)
class _BatchItem:
    """A message as normalized, with its integration and key."""

    incoming: IncomingMessage
    door: CompiledIntegration
    reading: NormalizedEvent | None = None
    rejected: Rejected | None = None
    key: bytes | None = None
    delivery: DeliveryKey | None = None
    decision: Decision | None = None
    is_pending: bool = False
    #: Whether its ticket is fetched before it is decided.
    must_ask: bool = False
    scopes: LockScopes | None = None


@dataclass(slots=True)
class _BatchState:
    """The changes that the batch will write, collected in arrival order."""

    board: BatchView
    seen: dict[DeliveryKey, DuplicateDelivery]
    held: set[bytes]
    clocked: frozenset[bytes]
    new_seen: dict[DeliveryKey, DuplicateDelivery] = field(default_factory=dict)
    moved: set[bytes] = field(default_factory=set)
    openings: list[AlertCreation] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    counted: dict[int, RepeatedMessages] = field(default_factory=dict)
    own: Mapping[tuple[int, str], RecentWrites] = field(default_factory=dict)
    came_back: list[int] = field(default_factory=list)
    #: Due alerts, with the state of their delay.
    waited: dict[bytes, DelayedAlertState] = field(default_factory=dict)
    #: Alerts that are delayed, or are no longer (None), with their integration.
    delayed: dict[bytes, tuple[int, DelayedAlertState | None]] = field(default_factory=dict)
    #: This batch's delayed messages by key.
    waiting: dict[bytes, list[_BatchItem]] = field(default_factory=dict)
    settled: dict[bytes, WaitOutcome] = field(default_factory=dict)
    joins: dict[bytes, GroupJoin] = field(default_factory=dict)
    counted_in: set[bytes] = field(default_factory=set)
    released: set[bytes] = field(default_factory=set)


def process(
    connection: Connection,
    registry: IntegrationRegistry,
    numbers: AlertIdAllocator,
    incoming: Sequence[IncomingMessage],
    now: datetime,
    *,
    wait: bool = True,
    draining: bool = False,
) -> list[MessageResult]:
    """Stores and decides messages in one transaction; returns their results in order, after the commit.

    With `wait`, raises psycopg's LockNotAvailable if a key or alert stays locked for longer than the connection's
    `lock_timeout`; without, such messages become Pending. `draining` decides messages that are stored as Pending or
    delayed, and skips those that another node has decided meanwhile.
    """
    is_due = bool(incoming) and incoming[0].is_due
    # A due message comes after pending messages of its key; pending messages do not wait for themselves.
    stands = partial(dedup_key_store.load_states, connection, now=now, replaying=draining and not is_due)
    with database.pipelined_transaction(connection):
        with connection.pipeline():
            connection.execute("BEGIN")
            read, asked = _ask(connection, registry, numbers, incoming, wait=wait)
        standing = stands(asked)
        if registry.is_older_than(standing.config_version):
            registry.load(connection)
            with connection.pipeline():
                read, asked = _ask(connection, registry, numbers, incoming, wait=wait)
            standing = stands(asked)
        if draining:
            read = _still_waiting(connection, read)
        fold = _folded(connection, read, standing, numbers, now, draining=draining)
        # All writes are sent in one pipeline: the database executes the first while the next is still being sent.
        with connection.pipeline():
            _write(connection, fold, now)
            if draining:
                _settle(connection, read)
            else:
                messages.insert(connection, [_row(one) for one in read])
            database.notify(connection, *_topics(read, fold))
            committed = connection.execute("COMMIT")
        if committed.statusmessage != "COMMIT":
            raise RuntimeError(f"The database answered COMMIT by {committed.statusmessage}.")
    numbers.committed()
    return [_stored(one) for one in read]


def _folded(
    connection: Connection,
    read: Sequence[_BatchItem],
    standing: LoadedKeys,
    numbers: AlertIdAllocator,
    now: datetime,
    *,
    draining: bool,
) -> _BatchState:
    """Decides each message in order, on the state left by the previous ones, and returns the changes."""
    board = BatchView(standing.states, standing.rate_windows, standing.lives)
    fold = _BatchState(board, standing.seen, set(standing.held), standing.clocked)
    if draining:
        _begin_due(read, fold, now)
    fold.own = echo_suppression.load_recent_writes(
        connection, ((one.door.outbound_id, _ticket(one)) for one in read), now
    )
    for one in read:
        one.must_ask = _must_ask(one, draining=draining)
    for one in read:
        _decide(one, fold, numbers, now)
    return fold


def _topics(read: Sequence[_BatchItem], fold: _BatchState) -> list[str]:
    """Returns the topics to notify listening nodes about."""
    topics = ["messages"]
    if any(one.is_pending for one in read):
        topics.append("pending")
    if any(one.must_ask for one in read):
        topics.append(echo_suppression.REREAD)
    if fold.openings or fold.changes or fold.counted:
        topics.append("alerts")
        topics += [f"alert:{number}" for number in list(fold.counted)[:20]]
        topics += [f"alert:{change.alert_id}" for change in fold.changes[:20]]
    return topics


def _read(registry: IntegrationRegistry, incoming: IncomingMessage) -> _BatchItem:
    door = registry.door(incoming.integration_id)
    prepared = incoming.prepared
    if prepared is None or prepared.door is not door:
        is_replay = incoming.replay_of is not None
        prepared = prepare(door, incoming.element, incoming.id, test_id=incoming.test_id, is_replay=is_replay)
    outcome = prepared.outcome
    if outcome is None:
        return _BatchItem(incoming, door, decision=decide_disabled())
    if isinstance(outcome, Rejected):
        return _BatchItem(incoming, door, rejected=outcome, key=prepared.key)
    return _BatchItem(incoming, door, outcome, key=prepared.key, delivery=prepared.delivery, scopes=prepared.scopes)


def _ask(
    connection: Connection,
    registry: IntegrationRegistry,
    numbers: AlertIdAllocator,
    incoming: Sequence[IncomingMessage],
    *,
    wait: bool,
) -> tuple[list[_BatchItem], dedup_key_store.PendingKeyQuery]:
    """Normalizes the messages, and queries the state they depend on, inside a pipeline."""
    read = [_read(registry, one) for one in incoming]
    numbers.provide(connection, sum(1 for one in read if _may_open(one)))
    return read, dedup_key_store.ask(
        connection,
        {one.key for one in read if one.key is not None},
        list({one.delivery for one in read if one.delivery is not None}),
        wait=wait,
        scopes={one.key: one.scopes for one in read if one.scopes is not None and one.key is not None},
    )


def _still_waiting(connection: Connection, read: Sequence[_BatchItem]) -> list[_BatchItem]:
    """Returns the stored messages that are still undecided. Their keys are locked by now."""
    found = connection.execute(
        "SELECT id FROM inbound_inboundmessage WHERE id = ANY(%s) AND status IN ('Pending', 'Mapped Delayed') "
        "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
        ([one.incoming.id for one in read],),
    )
    waiting = {row[0] for row in found}
    return [one for one in read if one.incoming.id in waiting]


def _begin_due(read: Sequence[_BatchItem], fold: _BatchState, now: datetime) -> None:
    """Prepares due alerts as if none of their messages had come; those that are not due after all stay delayed."""
    for one in read:
        if not one.incoming.is_due or one.key is None or one.key in fold.waited:
            continue
        state = fold.board.states.get(one.key, DedupKeyState())
        waited = state.delayed
        if waited is not None and (waited.due_at is None or waited.due_at > now):
            fold.held.add(one.key)
        elif one.key not in fold.held:
            # The key may differ from the stored one under a new configuration: nothing is known about it then.
            fold.waited[one.key] = waited or DelayedAlertState(
                DelayReason.WAIT, one.incoming.received_at, now, "after its delay"
            )
            if waited is not None:
                fold.board.states[one.key] = replace(state, delayed=None)
                fold.delayed[one.key] = (one.door.id, None)


def _may_open(one: _BatchItem) -> bool:
    """Returns whether deciding the message may need the id of a new alert."""
    return one.rejected is not None or (one.reading is not None and one.reading.intent is EventAction.OPEN)


def _ticket(one: _BatchItem) -> str | None:
    return one.reading.source_id if one.reading is not None else None


def _must_ask(one: _BatchItem, *, draining: bool) -> bool:
    """Returns whether the message waits for its ticket to be fetched: at most once, and never for a replay."""
    if one.reading is None or one.incoming.replay_of is not None or one.incoming.test_user_id is not None:
        return False
    return one.incoming.is_asked_about if draining else echo_suppression.needs_ticket_fetch(one.door, one.reading)


def _decide(one: _BatchItem, fold: _BatchState, numbers: AlertIdAllocator, now: datetime) -> None:
    if one.decision is not None:
        return
    assert one.key is not None
    if one.key in fold.held and one.rejected is None:
        one.is_pending = True
        return
    if one.must_ask:
        one.is_pending = True
        fold.held.add(one.key)
        return
    key = fold.board.states.get(one.key, _NEW)
    if key.shared is not None or (key.live is not None and key.live.parent_id is not None):
        key = fold.board.key(one.key)
    incoming = one.incoming
    own = fold.own.get((one.door.outbound_id or 0, _ticket(one) or ""))
    arrival = MessageContext(
        incoming.id, incoming.received_at, incoming.replay_of, incoming.may_page, incoming.test_user_id, own
    )
    if incoming.unasked:
        arrival = replace(arrival, unasked=incoming.unasked)
    if incoming.is_due:
        arrival = replace(arrival, waited=fold.waited.get(one.key))
    if one.rejected is not None and echo_suppression.is_about_no_ticket(one.door, incoming.element):
        decision = decide_without_ticket()
    elif one.rejected is not None:
        decision = decide_failed(one.rejected)
        if one.key not in fold.held:
            decision = fail_open.fail_open(
                one.door, arrival, decision, one.rejected, incoming.raw, key, one.key, numbers.take, now
            )
    else:
        assert one.reading is not None
        seen = fold.seen.get(one.delivery) if one.delivery is not None else None
        scopes = one.scopes
        standing = ALONE if scopes is None else fold.board.standing(scopes)
        decision = decide(one.door, arrival, one.reading, key, seen, one.key, numbers.take, now, scopes, standing)
        if one.delivery is not None and seen is None and not decision.may_come_again:
            found = DuplicateDelivery(incoming.id, decision.alert_id)
            fold.seen[one.delivery] = fold.new_seen[one.delivery] = found
    one.decision = decision
    if decision.shaped is None and key.delayed is None and key.shared is None and decision.key.delayed is None:
        # Most messages do not involve noise reduction.
        fold.board.states[one.key] = decision.key
    else:
        _shape(one, one.key, key, decision, fold)
    _fold_in(one.key, decision, fold)


def _shape(one: _BatchItem, key: bytes, before: DedupKeyState, decision: Decision, fold: _BatchState) -> None:
    fold.board.put(key, before, decision)
    if decision.key.delayed is not before.delayed:
        fold.delayed[key] = (one.door.id, decision.key.delayed)
    if decision.status is MessageStatus.DELAYED:
        fold.waiting.setdefault(key, []).append(one)
    shaped = decision.shaped
    if shaped is None:
        return
    fold.counted_in.update(shaped.rate_windows)
    fold.released.update(shaped.released)
    if shaped.join is not None:
        fold.joins[key] = shaped.join
    if (settled := shaped.settled) is not None:
        fold.settled[key] = settled
        for waiting in fold.waiting.pop(key, ()):
            assert waiting.decision is not None
            waiting.decision = replace(
                waiting.decision, status=settled.status, reason=settled.reason, alert_id=settled.alert_id
            )


def _fold_in(key: bytes, decision: Decision, fold: _BatchState) -> None:
    if decision.counts:
        fold.moved.add(key)
    if decision.opening is not None:
        fold.openings.append(decision.opening)
    fold.changes.extend(decision.changes)
    fold.board.freed.update(
        change.alert_id
        for change in decision.changes
        if change.before is not None and change.before.holds_key and not change.after.holds_key
    )
    fold.came_back.extend(decision.came_back)
    counted = decision.counted
    if counted is not None:
        before = fold.counted.get(counted.alert_id)
        if before is not None:
            changes = {**(before.changes or {}), **(counted.changes or {})}
            counted = replace(
                counted,
                count=before.count + counted.count,
                last_message_at=max(before.last_message_at, counted.last_message_at),
                changes=changes or None,
            )
        fold.counted[counted.alert_id] = counted


def _write(connection: Connection, fold: _BatchState, now: datetime) -> None:
    new = {opening.alert.id for opening in fold.openings}
    # Existing alerts free their keys before new alerts of this batch take them.
    service.write(connection, [change for change in fold.changes if change.alert_id not in new], now)
    if fold.openings:
        over = frozenset(change.alert_id for change in fold.changes if not change.after.holds_key)
        service.open_alerts(connection, fold.openings, now, over=over)
        service.write(connection, [change for change in fold.changes if change.alert_id in new], now)
    store.count_messages(connection, list(fold.counted.values()))
    dedup_key_store.write_clocks(connection, {key: fold.board.states[key] for key in fold.moved}, fold.clocked, now)
    dedup_key_store.write_seen(connection, fold.new_seen)
    echo_suppression.record_echoes(connection, fold.came_back)
    if fold.delayed or fold.joins or fold.counted_in:
        _write_shaped(connection, fold, now)


def _write_shaped(connection: Connection, fold: _BatchState, now: datetime) -> None:
    shaped_rows.settle(connection, fold.settled)
    shaped_rows.write_delayed(connection, fold.delayed)
    shaped_rows.write_joins(connection, fold.joins, now)
    shaped_rows.write_rate_windows(
        connection, {scope: fold.board.rate_windows[scope] for scope in fold.counted_in}, now
    )
    shaped_rows.release(connection, sorted(fold.released), now)


def _stored(one: _BatchItem) -> MessageResult:
    if one.is_pending:
        return MessageResult(MessageStatus.PENDING, ASKING if one.must_ask else PENDING)
    assert one.decision is not None
    is_failed = one.decision.status is MessageStatus.FAILED
    code = one.rejected.code if one.rejected is not None and is_failed else None
    return MessageResult(one.decision.status, one.decision.reason, one.decision.alert_id, code)


def _row(one: _BatchItem) -> MessageRow:
    stored = _stored(one)
    verdict: Mapping[str, object] = one.decision.verdict if one.decision is not None else one.incoming.keeps
    if one.must_ask:
        verdict = {**verdict, echo_suppression.REREAD: echo_suppression.WANTED}
    if stored.status is MessageStatus.DELAYED and one.incoming.keeps:
        verdict = {**verdict, **one.incoming.keeps}
    key = one.key if one.is_pending or stored.status is MessageStatus.DELAYED else None
    version = one.door.version_id
    if one.reading is None:
        return MessageRow(one.incoming, stored, version_id=version, verdict=verdict, key_hash=key)
    values = one.reading.mapped.text
    return MessageRow(
        one.incoming,
        stored,
        one.reading.source_id or "",
        values("source_status") or "",
        values("subject") or "",
        version,
        verdict,
        key,
    )


_SETTLE = """
UPDATE inbound_inboundmessage m SET status = n.status, reason = n.reason, alert_id = n.alert_id, verdict = n.verdict,
       key_hash = n.key_hash, source_status = coalesce(nullif(n.source_status, ''), m.source_status),
       subject = coalesce(nullif(n.subject, ''), m.subject)
FROM jsonb_to_recordset(%s) AS n(id uuid, status text, reason text, alert_id bigint, verdict jsonb, source_status text,
                                 subject text, key_hash bytea)
WHERE m.id = n.id
"""


def _settle(connection: Connection, read: Sequence[_BatchItem]) -> None:
    """Writes the outcome of stored messages. Those that stay pending are left unchanged."""
    settled = [
        {
            "id": one.incoming.id,
            "status": row.stored.status,
            "reason": row.stored.reason,
            "alert_id": row.stored.alert_id,
            "verdict": row.verdict,
            "source_status": row.source_status,
            "subject": row.subject,
            "key_hash": bytes_in_json(row.key_hash),
        }
        for one in read
        if not one.is_pending
        for row in (_row(one),)
    ]
    if settled:
        connection.execute(_SETTLE, (as_json(settled),))


def answer_from(
    stored: Mapping[UUID, MessageResult], incoming: Sequence[IncomingMessage]
) -> list[MessageResult] | None:
    """Returns a committed batch's results; None if it is not stored: a batch is stored completely or not at all."""
    if not all(one.id in stored for one in incoming):
        return None
    return [stored[one.id] for one in incoming]
