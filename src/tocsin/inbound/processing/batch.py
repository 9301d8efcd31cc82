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
from tocsin.inbound.deciding import echo_suppression, fail_open, reasons
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.decide import decide, decide_disabled, decide_failed, decide_without_ticket
from tocsin.inbound.deciding.echo_suppression import RecentWrites
from tocsin.inbound.deciding.preprocessing import DeliveryKey, prepare
from tocsin.inbound.deciding.state import (
    EMPTY_NOISE_STATE,
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
from tocsin.inbound.storage import dedup_key_store, messages, noise_store
from tocsin.inbound.storage.dedup_key_store import LoadedKeys
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult, MessageRow

log = logging.getLogger(__name__)


class AlertIdAllocator:
    """Ids for new alerts, fetched from the sequence as needed; the next batch uses what one leaves over."""

    def __init__(self) -> None:
        self._free_ids: list[int] = []
        self._used_count = 0
        #: A query for ids whose result has not been read yet.
        self._id_query: Cursor[tuple[int]] | None = None

    def reserve(self, connection: Connection, count: int) -> None:
        """Requests the ids missing for `count` alerts. In a pipeline, this costs no round trip."""
        try:
            self._collect()
        except psycopg.Error:
            # An earlier batch requested them, and its transaction or connection failed: those ids are lost.
            log.info("The numbers that a failed batch asked for are skipped.")
        self._used_count = 0
        if (missing := count - len(self._free_ids)) > 0:
            self._id_query = store.request_ids(connection, missing)

    def next_id(self) -> int:
        """Returns the next id."""
        self._collect()
        self._used_count += 1
        return self._free_ids[self._used_count - 1]

    def _collect(self) -> None:
        if self._id_query is not None:
            cursor, self._id_query = self._id_query, None
            self._free_ids.extend([row[0] for row in cursor])

    def mark_committed(self) -> None:
        """Marks the batch's ids as used. Without this call (the batch was rolled back), they are handed out again."""
        del self._free_ids[: self._used_count]
        self._used_count = 0

    def discard(self) -> None:
        """Drops all ids, because it is unknown whether the last batch was committed."""
        self._free_ids.clear()
        self._id_query = None
        self._used_count = 0


_NEW = DedupKeyState()


@dataclass(slots=True)
class _BatchItem:
    """A message as normalized, with its integration and key."""

    incoming: IncomingMessage
    integration: CompiledIntegration
    event: NormalizedEvent | None = None
    rejected: Rejected | None = None
    key_hash: bytes | None = None
    delivery: DeliveryKey | None = None
    decision: Decision | None = None
    is_pending: bool = False
    #: Whether its ticket is fetched before it is decided.
    needs_ticket_fetch: bool = False
    scopes: LockScopes | None = None


@dataclass(slots=True)
class _BatchState:
    """The changes that the batch will write, collected in arrival order."""

    view: BatchView
    deliveries: dict[DeliveryKey, DuplicateDelivery]
    blocked_keys: set[bytes]
    stored_keys: frozenset[bytes]
    new_deliveries: dict[DeliveryKey, DuplicateDelivery] = field(default_factory=dict)
    updated_keys: set[bytes] = field(default_factory=set)
    creations: list[AlertCreation] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    repeated_messages: dict[int, RepeatedMessages] = field(default_factory=dict)
    recent_writes: Mapping[tuple[int, str], RecentWrites] = field(default_factory=dict)
    echoed_write_ids: list[int] = field(default_factory=list)
    #: Due alerts, with the state of their delay.
    due_delays: dict[bytes, DelayedAlertState] = field(default_factory=dict)
    #: Alerts that are delayed, or are no longer (None), with their integration.
    delayed: dict[bytes, tuple[int, DelayedAlertState | None]] = field(default_factory=dict)
    #: This batch's delayed messages by key.
    delayed_items: dict[bytes, list[_BatchItem]] = field(default_factory=dict)
    wait_outcomes: dict[bytes, WaitOutcome] = field(default_factory=dict)
    group_joins: dict[bytes, GroupJoin] = field(default_factory=dict)
    changed_rate_windows: set[bytes] = field(default_factory=set)
    released_scopes: set[bytes] = field(default_factory=set)


def process(
    connection: Connection,
    registry: IntegrationRegistry,
    alert_ids: AlertIdAllocator,
    incoming: Sequence[IncomingMessage],
    now: datetime,
    *,
    wait: bool = True,
    is_draining: bool = False,
) -> list[MessageResult]:
    """Stores and decides messages in one transaction; returns their results in order, after the commit.

    With `wait`, raises psycopg's LockNotAvailable if a key or alert stays locked for longer than the connection's
    `lock_timeout`; without, such messages become Pending. `is_draining` decides messages that are stored as Pending or
    delayed, and skips those that another node has decided meanwhile.
    """
    is_due = bool(incoming) and incoming[0].is_due
    # A due message comes after pending messages of its key; pending messages do not wait for themselves.
    load_states = partial(dedup_key_store.load_states, connection, now=now, is_draining=is_draining and not is_due)
    with database.pipelined_transaction(connection):
        with connection.pipeline():
            connection.execute("BEGIN")
            items, query = _query_state(connection, registry, alert_ids, incoming, wait=wait)
        loaded_keys = load_states(query)
        if registry.is_older_than(loaded_keys.config_version):
            registry.load(connection)
            with connection.pipeline():
                items, query = _query_state(connection, registry, alert_ids, incoming, wait=wait)
            loaded_keys = load_states(query)
        if is_draining:
            items = _select_undecided(connection, items)
        batch_state = _decide_batch(connection, items, loaded_keys, alert_ids, now, is_draining=is_draining)
        # All writes are sent in one pipeline: the database executes the first while the next is still being sent.
        with connection.pipeline():
            _write(connection, batch_state, now)
            if is_draining:
                _update_stored(connection, items)
            else:
                messages.insert(connection, [_row(item) for item in items])
            database.notify(connection, *_topics(items, batch_state))
            commit_result = connection.execute("COMMIT")
        if commit_result.statusmessage != "COMMIT":
            raise RuntimeError(f"The database answered COMMIT by {commit_result.statusmessage}.")
    alert_ids.mark_committed()
    return [_result(item) for item in items]


def _decide_batch(
    connection: Connection,
    items: Sequence[_BatchItem],
    loaded_keys: LoadedKeys,
    alert_ids: AlertIdAllocator,
    now: datetime,
    *,
    is_draining: bool,
) -> _BatchState:
    """Decides each message in order, on the state left by the previous ones, and returns the changes."""
    view = BatchView(loaded_keys.states, loaded_keys.rate_windows, loaded_keys.active_alerts)
    batch_state = _BatchState(view, loaded_keys.deliveries, set(loaded_keys.blocked_keys), loaded_keys.stored_keys)
    if is_draining:
        _prepare_due(items, batch_state, now)
    batch_state.recent_writes = echo_suppression.load_recent_writes(
        connection, ((item.integration.outbound_id, _ticket_id(item)) for item in items), now
    )
    for item in items:
        item.needs_ticket_fetch = _needs_ticket_fetch(item, is_draining=is_draining)
    for item in items:
        _decide(item, batch_state, alert_ids, now)
    return batch_state


def _topics(items: Sequence[_BatchItem], batch_state: _BatchState) -> list[str]:
    """Returns the topics to notify listening nodes about."""
    topics = ["messages"]
    if any(item.is_pending for item in items):
        topics.append("pending")
    if any(item.needs_ticket_fetch for item in items):
        topics.append(echo_suppression.TICKET_FETCH)
    if batch_state.creations or batch_state.changes or batch_state.repeated_messages:
        topics.append("alerts")
        topics += [f"alert:{alert_id}" for alert_id in list(batch_state.repeated_messages)[:20]]
        topics += [f"alert:{change.alert_id}" for change in batch_state.changes[:20]]
    return topics


def _normalize(registry: IntegrationRegistry, incoming: IncomingMessage) -> _BatchItem:
    integration = registry.get(incoming.integration_id)
    preprocessed = incoming.preprocessed
    if preprocessed is None or preprocessed.integration is not integration:
        is_replay = incoming.replay_of is not None
        preprocessed = prepare(
            integration, incoming.element, incoming.id, test_id=incoming.test_id, is_replay=is_replay
        )
    outcome = preprocessed.outcome
    if outcome is None:
        return _BatchItem(incoming, integration, decision=decide_disabled())
    if isinstance(outcome, Rejected):
        return _BatchItem(incoming, integration, rejected=outcome, key_hash=preprocessed.key_hash)
    return _BatchItem(
        incoming,
        integration,
        outcome,
        key_hash=preprocessed.key_hash,
        delivery=preprocessed.delivery,
        scopes=preprocessed.scopes,
    )


def _query_state(
    connection: Connection,
    registry: IntegrationRegistry,
    alert_ids: AlertIdAllocator,
    incoming: Sequence[IncomingMessage],
    *,
    wait: bool,
) -> tuple[list[_BatchItem], dedup_key_store.PendingKeyQuery]:
    """Normalizes the messages, and queries the state they depend on, inside a pipeline."""
    items = [_normalize(registry, item) for item in incoming]
    alert_ids.reserve(connection, sum(1 for item in items if _may_open(item)))
    return items, dedup_key_store.query_keys(
        connection,
        {item.key_hash for item in items if item.key_hash is not None},
        list({item.delivery for item in items if item.delivery is not None}),
        wait=wait,
        scopes={item.key_hash: item.scopes for item in items if item.scopes is not None and item.key_hash is not None},
    )


def _select_undecided(connection: Connection, items: Sequence[_BatchItem]) -> list[_BatchItem]:
    """Returns the stored messages that are still undecided. Their keys are locked by now."""
    rows = connection.execute(
        "SELECT id FROM inbound_inboundmessage WHERE id = ANY(%s) AND status IN ('Pending', 'Mapped Delayed') "
        "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
        ([item.incoming.id for item in items],),
    )
    undecided_ids = {row[0] for row in rows}
    return [item for item in items if item.incoming.id in undecided_ids]


def _prepare_due(items: Sequence[_BatchItem], batch_state: _BatchState, now: datetime) -> None:
    """Prepares due alerts as if none of their messages had come; those that are not due after all stay delayed."""
    for item in items:
        if not item.incoming.is_due or item.key_hash is None or item.key_hash in batch_state.due_delays:
            continue
        state = batch_state.view.states.get(item.key_hash, DedupKeyState())
        delay = state.delayed
        if delay is not None and (delay.due_at is None or delay.due_at > now):
            batch_state.blocked_keys.add(item.key_hash)
        elif item.key_hash not in batch_state.blocked_keys:
            # The key may differ from the stored one under a new configuration: nothing is known about it then.
            batch_state.due_delays[item.key_hash] = delay or DelayedAlertState(
                DelayReason.WAIT, item.incoming.received_at, now, reasons.AFTER_ITS_DELAY()
            )
            if delay is not None:
                batch_state.view.states[item.key_hash] = replace(state, delayed=None)
                batch_state.delayed[item.key_hash] = (item.integration.id, None)


def _may_open(item: _BatchItem) -> bool:
    """Returns whether deciding the message may need the id of a new alert."""
    return item.rejected is not None or (item.event is not None and item.event.action is EventAction.OPEN)


def _ticket_id(item: _BatchItem) -> str | None:
    return item.event.source_id if item.event is not None else None


def _needs_ticket_fetch(item: _BatchItem, *, is_draining: bool) -> bool:
    """Returns whether the message waits for its ticket to be fetched: at most once, and never for a replay."""
    if item.event is None or item.incoming.replay_of is not None or item.incoming.test_user_id is not None:
        return False
    return (
        item.incoming.is_awaiting_ticket
        if is_draining
        else echo_suppression.needs_ticket_fetch(item.integration, item.event)
    )


def _decide(item: _BatchItem, batch_state: _BatchState, alert_ids: AlertIdAllocator, now: datetime) -> None:
    if item.decision is not None:
        return
    assert item.key_hash is not None
    if item.key_hash in batch_state.blocked_keys and item.rejected is None:
        item.is_pending = True
        return
    if item.needs_ticket_fetch:
        item.is_pending = True
        batch_state.blocked_keys.add(item.key_hash)
        return
    key_state = batch_state.view.states.get(item.key_hash, _NEW)
    if key_state.shared_alert_id is not None or (
        key_state.active_alert is not None and key_state.active_alert.parent_id is not None
    ):
        key_state = batch_state.view.get_state(item.key_hash)
    incoming = item.incoming
    recent_writes = batch_state.recent_writes.get((item.integration.outbound_id or 0, _ticket_id(item) or ""))
    context = MessageContext(
        incoming.id, incoming.received_at, incoming.replay_of, incoming.may_page, incoming.test_user_id, recent_writes
    )
    if incoming.fetch_skipped_reason:
        context = replace(context, fetch_skipped_reason=incoming.fetch_skipped_reason)
    if incoming.is_due:
        context = replace(context, due_delay=batch_state.due_delays.get(item.key_hash))
    if item.rejected is not None and echo_suppression.has_no_ticket(item.integration, incoming.element):
        decision = decide_without_ticket()
    elif item.rejected is not None:
        decision = decide_failed(item.rejected)
        if item.key_hash not in batch_state.blocked_keys:
            decision = fail_open.fail_open(
                item.integration,
                context,
                decision,
                item.rejected,
                incoming.raw,
                key_state,
                item.key_hash,
                alert_ids.next_id,
                now,
            )
    else:
        assert item.event is not None
        duplicate = batch_state.deliveries.get(item.delivery) if item.delivery is not None else None
        scopes = item.scopes
        noise_state = EMPTY_NOISE_STATE if scopes is None else batch_state.view.get_noise_state(scopes)
        decision = decide(
            item.integration,
            context,
            item.event,
            key_state,
            duplicate,
            item.key_hash,
            alert_ids.next_id,
            now,
            scopes,
            noise_state,
        )
        if item.delivery is not None and duplicate is None and not decision.should_redecide_repeats:
            processed_delivery = DuplicateDelivery(incoming.id, decision.alert_id)
            batch_state.deliveries[item.delivery] = batch_state.new_deliveries[item.delivery] = processed_delivery
    item.decision = decision
    if (
        decision.noise_changes is None
        and key_state.delayed is None
        and key_state.shared_alert_id is None
        and decision.key_state.delayed is None
    ):
        # Most messages do not involve noise reduction.
        batch_state.view.states[item.key_hash] = decision.key_state
    else:
        _collect_noise_changes(item, item.key_hash, key_state, decision, batch_state)
    _collect_changes(item.key_hash, decision, batch_state)


def _collect_noise_changes(
    item: _BatchItem, key_hash: bytes, previous_state: DedupKeyState, decision: Decision, batch_state: _BatchState
) -> None:
    batch_state.view.apply_decision(key_hash, previous_state, decision)
    if decision.key_state.delayed is not previous_state.delayed:
        batch_state.delayed[key_hash] = (item.integration.id, decision.key_state.delayed)
    if decision.status is MessageStatus.DELAYED:
        batch_state.delayed_items.setdefault(key_hash, []).append(item)
    noise_changes = decision.noise_changes
    if noise_changes is None:
        return
    batch_state.changed_rate_windows.update(noise_changes.rate_windows)
    batch_state.released_scopes.update(noise_changes.released_scopes)
    if noise_changes.group_join is not None:
        batch_state.group_joins[key_hash] = noise_changes.group_join
    if (wait_outcome := noise_changes.wait_outcome) is not None:
        batch_state.wait_outcomes[key_hash] = wait_outcome
        for delayed_item in batch_state.delayed_items.pop(key_hash, ()):
            assert delayed_item.decision is not None
            delayed_item.decision = replace(
                delayed_item.decision,
                status=wait_outcome.status,
                reason=wait_outcome.reason,
                alert_id=wait_outcome.alert_id,
            )


def _collect_changes(key_hash: bytes, decision: Decision, batch_state: _BatchState) -> None:
    if decision.updates_key:
        batch_state.updated_keys.add(key_hash)
    if decision.creation is not None:
        batch_state.creations.append(decision.creation)
    batch_state.changes.extend(decision.changes)
    batch_state.view.freed_alert_ids.update(
        change.alert_id
        for change in decision.changes
        if change.before is not None and change.before.holds_key and not change.after.holds_key
    )
    batch_state.echoed_write_ids.extend(decision.echoed_write_ids)
    repeated_messages = decision.repeated_messages
    if repeated_messages is not None:
        previous = batch_state.repeated_messages.get(repeated_messages.alert_id)
        if previous is not None:
            changes = {**(previous.changes or {}), **(repeated_messages.changes or {})}
            repeated_messages = replace(
                repeated_messages,
                count=previous.count + repeated_messages.count,
                last_message_at=max(previous.last_message_at, repeated_messages.last_message_at),
                changes=changes or None,
            )
        batch_state.repeated_messages[repeated_messages.alert_id] = repeated_messages


def _write(connection: Connection, batch_state: _BatchState, now: datetime) -> None:
    new_alert_ids = {opening.alert.id for opening in batch_state.creations}
    # Existing alerts free their keys before new alerts of this batch take them.
    service.write(connection, [change for change in batch_state.changes if change.alert_id not in new_alert_ids], now)
    if batch_state.creations:
        ended_alert_ids = frozenset(change.alert_id for change in batch_state.changes if not change.after.holds_key)
        service.create_alerts(connection, batch_state.creations, now, ended_ids=ended_alert_ids)
        service.write(connection, [change for change in batch_state.changes if change.alert_id in new_alert_ids], now)
    store.count_messages(connection, list(batch_state.repeated_messages.values()))
    dedup_key_store.write_keys(
        connection,
        {key: batch_state.view.states[key] for key in batch_state.updated_keys},
        batch_state.stored_keys,
        now,
    )
    dedup_key_store.write_deliveries(connection, batch_state.new_deliveries)
    echo_suppression.record_echoes(connection, batch_state.echoed_write_ids)
    if batch_state.delayed or batch_state.group_joins or batch_state.changed_rate_windows:
        _write_noise_changes(connection, batch_state, now)


def _write_noise_changes(connection: Connection, batch_state: _BatchState, now: datetime) -> None:
    noise_store.write_wait_outcomes(connection, batch_state.wait_outcomes)
    noise_store.write_delayed(connection, batch_state.delayed)
    noise_store.write_joins(connection, batch_state.group_joins, now)
    noise_store.write_rate_windows(
        connection, {scope: batch_state.view.rate_windows[scope] for scope in batch_state.changed_rate_windows}, now
    )
    noise_store.release(connection, sorted(batch_state.released_scopes), now)


def _result(item: _BatchItem) -> MessageResult:
    if item.is_pending:
        reason = reasons.FETCHING_TICKET() if item.needs_ticket_fetch else reasons.PENDING()
        return MessageResult(MessageStatus.PENDING, reason)
    assert item.decision is not None
    is_failed = item.decision.status is MessageStatus.FAILED
    code = item.rejected.code if item.rejected is not None and is_failed else None
    return MessageResult(item.decision.status, item.decision.reason, item.decision.alert_id, code)


def _row(item: _BatchItem) -> MessageRow:
    result = _result(item)
    verdict: Mapping[str, object] = (
        item.decision.verdict if item.decision is not None else item.incoming.pending_context
    )
    if item.needs_ticket_fetch:
        verdict = {**verdict, echo_suppression.TICKET_FETCH: echo_suppression.FETCH_REQUESTED}
    if result.status is MessageStatus.DELAYED and item.incoming.pending_context:
        verdict = {**verdict, **item.incoming.pending_context}
    key_hash = item.key_hash if item.is_pending or result.status is MessageStatus.DELAYED else None
    version_id = item.integration.version_id
    if item.event is None:
        return MessageRow(item.incoming, result, version_id=version_id, verdict=verdict, key_hash=key_hash)
    text = item.event.mapped.text
    return MessageRow(
        item.incoming,
        result,
        item.event.source_id or "",
        text("source_status") or "",
        text("subject") or "",
        version_id,
        verdict,
        key_hash,
    )


_UPDATE_STORED = """
UPDATE inbound_inboundmessage m SET status = n.status, reason_code = n.reason_code, reason_data = n.reason_data,
       alert_id = n.alert_id, verdict = n.verdict, key_hash = n.key_hash,
       source_status = coalesce(nullif(n.source_status, ''), m.source_status),
       subject = coalesce(nullif(n.subject, ''), m.subject)
FROM jsonb_to_recordset(%s) AS n(id uuid, status text, reason_code text, reason_data jsonb, alert_id bigint,
                                 verdict jsonb, source_status text, subject text, key_hash bytea)
WHERE m.id = n.id
"""


def _update_stored(connection: Connection, items: Sequence[_BatchItem]) -> None:
    """Writes the outcome of stored messages. Those that stay pending are left unchanged."""
    rows = [
        {
            "id": item.incoming.id,
            "status": row.result.status,
            "reason_code": row.result.reason.code,
            "reason_data": row.result.reason.data,
            "alert_id": row.result.alert_id,
            "verdict": row.verdict,
            "source_status": row.source_status,
            "subject": row.subject,
            "key_hash": bytes_in_json(row.key_hash),
        }
        for item in items
        if not item.is_pending
        for row in (_row(item),)
    ]
    if rows:
        connection.execute(_UPDATE_STORED, (as_json(rows),))


def find_results(
    results_by_id: Mapping[UUID, MessageResult], incoming: Sequence[IncomingMessage]
) -> list[MessageResult] | None:
    """Returns a committed batch's results; None if it is not stored: a batch is stored completely or not at all."""
    if not all(message.id in results_by_id for message in incoming):
        return None
    return [results_by_id[message.id] for message in incoming]
