"""Processes one batch of messages in one transaction: loads, decides in arrival order, applies, stores.

Locks are taken in the same order everywhere in Tocsin: keys, then alerts by key, then what belongs to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace
from psycopg import Cursor
from psycopg.rows import TupleRow

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.guarded_connection import GuardedConnection
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock, tracing
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import echo_suppression, reasons
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.decide import decide
from tocsin.inbound.deciding.echo_suppression import RecentWrites
from tocsin.inbound.deciding.preprocessing import DeliveryKey
from tocsin.inbound.deciding.state import (
    NO_LOCK_SCOPES,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    DuplicateDelivery,
    MessageContext,
)
from tocsin.inbound.mapping.aliases import Identity, identity_of, is_about_same
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing.alert_ids import AlertIdAllocator
from tocsin.inbound.processing.batch_changes import BatchChanges
from tocsin.inbound.processing.batch_item import BatchItem, needs_ticket_fetch, normalize, result_of, row_of
from tocsin.inbound.processing.message_spans import export_spans
from tocsin.inbound.storage import dedup_key_store, messages
from tocsin.inbound.storage.dedup_key_store import LoadedKeys
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult
from tocsin.inbound.storage.stored_messages import element_of

#: The recoveries of a batch that are compared with live alerts.
MAX_COMPARED_RECOVERIES = 50


@dataclass(slots=True)
class _Batch:
    """The messages of a batch, what was loaded for them, and what their decisions change."""

    items: list[BatchItem]
    changes: BatchChanges
    deliveries: dict[DeliveryKey, DuplicateDelivery]
    #: Keys that cannot be decided now.
    blocked_keys: set[bytes]
    #: Tocsin's own writes, by outbound integration and ticket.
    recent_writes: Mapping[tuple[int, str], RecentWrites] = field(default_factory=dict)
    #: Due alerts, with the state of their delay.
    due_delays: dict[bytes, DelayedAlertState] = field(default_factory=dict)


def process(
    connection: GuardedConnection,
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
    with database.pipelined_transaction(connection):
        with connection.pipeline():
            connection.begin()
            items, query = _query_state(connection, registry, alert_ids, incoming, wait=wait)
        # A due message comes after pending messages of its key; pending messages do not wait for themselves.
        ignores_pending = is_draining and not any(message.is_due for message in incoming[:1])
        loaded_keys = dedup_key_store.load_states(connection, query, now=now, is_draining=ignores_pending)
        if registry.is_older_than(loaded_keys.config_version):
            registry.load(connection)
            with connection.pipeline():
                items, query = _query_state(connection, registry, alert_ids, incoming, wait=wait)
            loaded_keys = dedup_key_store.load_states(connection, query, now=now, is_draining=ignores_pending)
        if is_draining:
            undecided_ids = messages.lock_undecided(connection, [item.incoming.id for item in items])
            items = [item for item in items if item.incoming.id in undecided_ids]
        batch = _load(connection, items, loaded_keys, now, is_draining=is_draining)
        for item in items:
            _decide(batch, item, alert_ids, now)
        results = [result_of(item) for item in items]
        rows = [row_of(item, result) for item, result in zip(items, results, strict=True)]
        # All writes are sent in one pipeline: the database executes the first while the next is still being sent.
        with connection.pipeline():
            batch.changes.write(connection, now)
            if is_draining:
                messages.update(connection, rows)
            else:
                messages.insert(connection, rows)
            database.notify(connection, *_topics(batch))
            commit_result = connection.execute("COMMIT")
        _check_commit(commit_result)
    alert_ids.mark_committed()
    if tracing.exporter is not None:
        export_spans(tracing.exporter, zip(items, results, strict=True), clock.now())
    return results


def postpone(
    connection: GuardedConnection, registry: IntegrationRegistry, incoming: Sequence[IncomingMessage]
) -> list[MessageResult]:
    """Stores messages as Pending in one transaction, which needs no table but that of messages: another one is locked.
    Returns their results in order, after the commit."""
    items = [normalize(registry, message) for message in incoming]
    for item in items:
        item.needs_ticket_fetch = needs_ticket_fetch(item, is_draining=False)
    results = [result_of(item) for item in items]
    with database.pipelined_transaction(connection):
        with connection.pipeline():
            connection.begin()
            messages.insert(connection, [row_of(item, result) for item, result in zip(items, results, strict=True)])
            database.notify(connection, "messages", "pending", echo_suppression.TICKET_FETCH)
            commit_result = connection.execute("COMMIT")
        _check_commit(commit_result)
    return results


def _check_commit(result: Cursor[TupleRow]) -> None:
    if result.statusmessage != "COMMIT":
        raise RuntimeError(f"The database answered COMMIT by {result.statusmessage}.")


def _query_state(
    connection: Connection,
    registry: IntegrationRegistry,
    alert_ids: AlertIdAllocator,
    incoming: Sequence[IncomingMessage],
    *,
    wait: bool,
) -> tuple[list[BatchItem], dedup_key_store.PendingKeyQuery]:
    """Normalizes the messages, and queries the state they depend on, inside a pipeline."""
    items = [normalize(registry, item) for item in incoming]
    _find_ended_alerts(connection, items)
    alert_ids.reserve(connection, sum(1 for item in items if item.may_open))
    return items, dedup_key_store.query_keys(
        connection,
        {item.key_hash for item in items if item.key_hash is not None},
        list({item.delivery for item in items if item.delivery is not None}),
        wait=wait,
        scopes={item.key_hash: item.scopes for item in items if item.scopes is not None and item.key_hash is not None},
    )


def _find_ended_alerts(connection: Connection, items: list[BatchItem]) -> None:
    """Gives a recovery whose id no alert has or had the key of the only live alert of its integration that is about the
    same: many senders write another id, or none, when it is over."""
    ending = [(item, key) for item in items if (key := item.key_hash) is not None and item.may_end_another]
    if not ending:
        return
    unknown = dedup_key_store.find_unknown(connection, [key for _, key in ending])
    unmatched = {id(ending[position][0]) for position in unknown[:MAX_COMPARED_RECOVERIES]}
    if not unmatched:
        return
    integration_ids = {item.integration.id for item, _ in ending if id(item) in unmatched}
    openings: dict[int, dict[bytes, Identity]] = {one: {} for one in integration_ids}
    for integration_id, key, raw, content_type in dedup_key_store.load_opening_messages(connection, integration_ids):
        element = element_of(raw, content_type, lenient=True)
        openings[integration_id][key] = identity_of(element.payload if isinstance(element, Element) else None)
    for item in items:
        event, key_hash, opened = item.event, item.key_hash, openings.get(item.integration.id)
        if opened is None or key_hash is None or not isinstance(event, NormalizedEvent):
            continue
        if event.action is EventAction.OPEN:
            opened.setdefault(key_hash, identity_of(event.payload))
        elif id(item) in unmatched and key_hash not in opened:
            over = identity_of(event.payload)
            ended = [key for key, identity in opened.items() if is_about_same(identity, over)]
            if len(ended) == 1:
                item.key_hash = ended[0]
                why = reasons.ABOUT_THE_SAME(why=event.rule_match.reason)
                item.event = replace(event, rule_match=replace(event.rule_match, reason=why))


def _load(
    connection: Connection, items: list[BatchItem], loaded_keys: LoadedKeys, now: datetime, *, is_draining: bool
) -> _Batch:
    view = BatchView(loaded_keys.states, loaded_keys.rate_windows, loaded_keys.active_alerts)
    changes = BatchChanges(view, loaded_keys.stored_keys)
    batch = _Batch(items, changes, loaded_keys.deliveries, set(loaded_keys.blocked_keys))
    if is_draining:
        _prepare_due(batch, now)
    tickets = {ticket for item in items if (ticket := item.ticket) is not None}
    batch.recent_writes = echo_suppression.load_recent_writes(connection, tickets, now)
    for item in items:
        item.needs_ticket_fetch = needs_ticket_fetch(item, is_draining=is_draining)
    return batch


def _prepare_due(batch: _Batch, now: datetime) -> None:
    """Prepares due alerts as if none of their messages had come; those that are not due after all stay delayed."""
    states = batch.changes.view.states
    for item in batch.items:
        key_hash = item.key_hash
        if not item.incoming.is_due or key_hash is None or key_hash in batch.due_delays:
            continue
        state = states.get(key_hash, DedupKeyState())
        delay = state.delayed
        if delay is not None and (delay.due_at is None or delay.due_at > now):
            batch.blocked_keys.add(key_hash)
        elif key_hash not in batch.blocked_keys:
            # The key may differ from the stored one under a new configuration: nothing is known about it then.
            batch.due_delays[key_hash] = delay or DelayedAlertState(
                DelayReason.WAIT, item.incoming.received_at, now, reasons.AFTER_ITS_DELAY()
            )
            if delay is not None:
                states[key_hash] = replace(state, delayed=None)
                batch.changes.delayed[key_hash] = (item.integration.id, None)


def _decide(batch: _Batch, item: BatchItem, alert_ids: AlertIdAllocator, now: datetime) -> None:
    """Decides one message on the state that the previous ones left; it stays Pending if its key cannot be decided."""
    key_hash = item.key_hash
    is_blocked = key_hash in batch.blocked_keys
    if key_hash is not None and (item.needs_ticket_fetch or (is_blocked and not isinstance(item.event, Rejected))):
        batch.blocked_keys.add(key_hash)
        return
    context = _context_of(batch, item, alert_ids.next_id(), now, is_blocked=is_blocked)
    decision = decide(context)
    if decision.creation is not None:
        alert_ids.use()
    if item.delivery is not None and context.duplicate is None and not decision.should_redecide_repeats:
        processed_delivery = DuplicateDelivery(item.incoming.id, decision.alert_id)
        batch.deliveries[item.delivery] = batch.changes.new_deliveries[item.delivery] = processed_delivery
    batch.changes.apply(item, context.key_state, decision)


def _context_of(
    batch: _Batch, item: BatchItem, new_alert_id: int, now: datetime, *, is_blocked: bool
) -> MessageContext:
    incoming, key_hash, view = item.incoming, item.key_hash, batch.changes.view
    return MessageContext(
        item.integration,
        incoming.id,
        incoming.received_at,
        now,
        item.event,
        key_hash or b"",
        view.get_state(key_hash) if key_hash is not None else DedupKeyState(),
        new_alert_id,
        batch.deliveries.get(item.delivery) if item.delivery is not None else None,
        item.scopes or NO_LOCK_SCOPES,
        view.get_noise_state(item.scopes),
        incoming.element,
        incoming.raw,
        is_blocked,
        incoming.replay_of,
        incoming.may_page,
        incoming.test_user_id,
        batch.recent_writes.get(item.ticket) if batch.recent_writes and item.ticket else None,
        batch.due_delays.get(key_hash) if incoming.is_due and key_hash is not None else None,
        incoming.fetch_skipped_reason,
    )


def _topics(batch: _Batch) -> list[str]:
    """Returns the topics to notify listening nodes about."""
    items, changes = batch.items, batch.changes
    topics = ["messages"]
    if any(item.decision is None for item in items):
        topics.append("pending")
    if any(item.needs_ticket_fetch for item in items):
        topics.append(echo_suppression.TICKET_FETCH)
    if changes.creations or changes.changes or changes.repeated_messages:
        topics.append("alerts")
        topics += [f"alert:{alert_id}" for alert_id in list(changes.repeated_messages)[:20]]
        topics += [f"alert:{change.alert_id}" for change in changes.changes[:20]]
    return topics


def find_results(
    results_by_id: Mapping[UUID, MessageResult], incoming: Sequence[IncomingMessage]
) -> list[MessageResult] | None:
    """Returns a committed batch's results; None if it is not stored: a batch is stored completely or not at all."""
    if not all(message.id in results_by_id for message in incoming):
        return None
    return [results_by_id[message.id] for message in incoming]
