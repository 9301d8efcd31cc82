"""Processes one batch of messages in one transaction: loads, decides in arrival order, applies, stores.

Locks are taken in the same order everywhere in Tocsin: keys, then alerts by key, then what belongs to them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from msgspec.structs import replace
from psycopg import Cursor
from psycopg.rows import TupleRow

from tocsin.alerts import service, store
from tocsin.alerts.commands import AlertChange, AlertCreation, RepeatedMessages
from tocsin.core.db import database
from tocsin.core.db.database import Connection, GuardedConnection
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock, telemetry
from tocsin.core.runtime.telemetry import Span, SpanKind
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import state
from tocsin.inbound.deciding.decide import DeliveryKey, decide, prepare
from tocsin.inbound.deciding.state import (
    ABOUT_THE_SAME,
    AFTER_ITS_DELAY,
    NO_LOCK_SCOPES,
    BatchView,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    DuplicateDelivery,
    GroupJoin,
    LockScopes,
    MessageContext,
    RecentWrites,
    WaitOutcome,
)
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.mapping.evidence import Identity, identity_of, is_about_same
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.storage import dedup_key_store, messages
from tocsin.inbound.storage.dedup_key_store import LoadedKeys
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult, MessageRow, element_of

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
        """Returns the id of the next alert that opens; 0 if none is left of those requested."""
        self._collect()
        return self._free_ids[self._used_count] if self._used_count < len(self._free_ids) else 0

    def use(self) -> None:
        """Marks the next id as used by an alert of this batch."""
        self._used_count += 1

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


@dataclass(slots=True)
class BatchItem:
    """A message with its integration and key. Without a decision it stays Pending."""

    incoming: IncomingMessage
    integration: CompiledIntegration
    #: None: the integration is disabled.
    event: NormalizedEvent | Rejected | None
    key_hash: bytes | None
    delivery: DeliveryKey | None
    scopes: LockScopes | None
    decision: Decision | None = None
    #: Whether its ticket is fetched before it is decided.
    needs_ticket_fetch: bool = False

    @property
    def may_open(self) -> bool:
        """Whether deciding the message may need the id of a new alert."""
        event = self.event
        return event is not None and (isinstance(event, Rejected) or event.action is EventAction.OPEN)

    @property
    def may_end_another(self) -> bool:
        """Whether it ends something, and maybe an alert that has another id."""
        event, incoming = self.event, self.incoming
        is_real = incoming.test_user_id is None and incoming.replay_of is None
        return is_real and isinstance(event, NormalizedEvent) and event.is_ending_unknown

    @property
    def ticket(self) -> tuple[int, str] | None:
        """The outbound integration and ticket that own writes are known by."""
        outbound_id, event = self.integration.outbound_id, self.event
        if outbound_id is None or not isinstance(event, NormalizedEvent) or not event.source_id:
            return None
        return outbound_id, event.source_id


def normalize(registry: IntegrationRegistry, incoming: IncomingMessage) -> BatchItem:
    """Returns the message as preprocessed on arrival, or anew if its integration has changed since."""
    integration = registry.get(incoming.integration_id)
    prepared = incoming.preprocessed
    if prepared is None or prepared.integration is not integration:
        is_replay = incoming.replay_of is not None
        prepared = prepare(integration, incoming.element, incoming.id, test_id=incoming.test_id, is_replay=is_replay)
    return BatchItem(incoming, integration, prepared.outcome, prepared.key_hash, prepared.delivery, prepared.scopes)


def needs_ticket_fetch(item: BatchItem, *, is_draining: bool) -> bool:
    """Returns whether the message waits for its ticket to be fetched: at most once, and never for a replay."""
    incoming = item.incoming
    if (
        not isinstance(item.event, NormalizedEvent)
        or incoming.replay_of is not None
        or incoming.test_user_id is not None
    ):
        return False
    if is_draining:
        return incoming.is_awaiting_ticket
    return state.needs_ticket_fetch(item.integration, item.event)


def result_of(item: BatchItem) -> MessageResult:
    """Returns the message's result for its sender and its row."""
    decision = item.decision
    if decision is None:
        reason = state.FETCHING_TICKET() if item.needs_ticket_fetch else state.PENDING()
        return MessageResult(MessageStatus.PENDING, reason)
    is_failed = decision.status is MessageStatus.FAILED
    code = item.event.code if is_failed and isinstance(item.event, Rejected) else None
    return MessageResult(decision.status, decision.reason, decision.alert_id, code)


def row_of(item: BatchItem, result: MessageResult) -> MessageRow:
    incoming, event = item.incoming, item.event
    verdict: Mapping[str, object] = item.decision.verdict if item.decision is not None else incoming.pending_context
    if item.needs_ticket_fetch:
        verdict = {**verdict, state.TICKET_FETCH: state.FETCH_REQUESTED}
    if result.status is MessageStatus.DELAYED and incoming.pending_context:
        verdict = {**verdict, **incoming.pending_context}
    key_hash = item.key_hash if result.status in (MessageStatus.PENDING, MessageStatus.DELAYED) else None
    version_id = item.integration.version_id
    if not isinstance(event, NormalizedEvent):
        return MessageRow(incoming, result, version_id=version_id, verdict=verdict, key_hash=key_hash)
    text = event.mapped.text
    return MessageRow(
        incoming,
        result,
        event.source_id or "",
        text("source_status") or "",
        text("subject") or "",
        version_id,
        verdict,
        key_hash,
    )


def _span(item: BatchItem, result: MessageResult, committed_at: datetime) -> Span:
    """Returns the span of a message, from arrival to commit, by OpenTelemetry's conventions for messaging. The message
    that opened an alert begins its trace."""
    incoming, alert_id = item.incoming, result.alert_id
    attributes: dict[str, str | int] = {
        "messaging.system": "tocsin",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": item.integration.name,
        "messaging.message.id": str(incoming.id),
        "messaging.message.body.size": len(incoming.raw),
        "tocsin.inbound_outcome": result.status.value,
        "tocsin.reason_code": result.reason.code,
    }
    if alert_id is not None:
        attributes["tocsin.alert.id"] = alert_id
    return Span(
        f"process {item.integration.name}",
        SpanKind.CONSUMER,
        telemetry.trace_of_message(incoming.id) if alert_id is None else telemetry.trace_of_alert(alert_id),
        min(incoming.received_at, committed_at),
        committed_at,
        attributes,
        is_root=alert_id is None or result.status is MessageStatus.OPENED,
        error=result.error or "",
    )


@dataclass(slots=True)
class BatchChanges:
    """What the decisions of a batch change, beyond the state in `view`."""

    view: BatchView
    new_deliveries: dict[DeliveryKey, DuplicateDelivery] = field(default_factory=dict)
    updated_keys: set[bytes] = field(default_factory=set)
    creations: list[AlertCreation] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    repeated_messages: dict[int, RepeatedMessages] = field(default_factory=dict)
    echoed_write_ids: list[int] = field(default_factory=list)
    #: Alerts that are delayed, or are no longer (None), with their integration.
    delayed: dict[bytes, tuple[int, DelayedAlertState | None]] = field(default_factory=dict)
    #: This batch's delayed messages by key.
    delayed_items: dict[bytes, list[BatchItem]] = field(default_factory=dict)
    wait_outcomes: dict[bytes, WaitOutcome] = field(default_factory=dict)
    group_joins: dict[bytes, GroupJoin] = field(default_factory=dict)
    changed_rate_windows: set[bytes] = field(default_factory=set)
    released_scopes: set[bytes] = field(default_factory=set)

    def apply(self, item: BatchItem, previous_state: DedupKeyState, decision: Decision) -> None:
        """Stores the decision on the message, the state of its key for the next one, and what is to be written."""
        item.decision = decision
        key_hash = item.key_hash
        if key_hash is None:
            return
        if (
            decision.noise_changes is None
            and previous_state.delayed is None
            and previous_state.shared_alert_id is None
            and decision.key_state.delayed is None
        ):
            # Most messages do not involve noise reduction.
            self.view.states[key_hash] = decision.key_state
        else:
            self._apply_noise_changes(item, key_hash, previous_state, decision)
        if decision.updates_key:
            self.updated_keys.add(key_hash)
        if decision.creation is not None:
            self.creations.append(decision.creation)
        self.echoed_write_ids.extend(decision.echoed_write_ids)
        for change in decision.changes:
            self.changes.append(change)
            if change.before is not None and change.before.holds_key and not change.after.holds_key:
                self.view.freed_alert_ids.add(change.alert_id)
        if decision.repeated_messages is not None:
            self._count(decision.repeated_messages)

    def _apply_noise_changes(
        self, item: BatchItem, key_hash: bytes, previous_state: DedupKeyState, decision: Decision
    ) -> None:
        self.view.apply_decision(key_hash, previous_state, decision)
        if decision.key_state.delayed is not previous_state.delayed:
            self.delayed[key_hash] = (item.integration.id, decision.key_state.delayed)
        if decision.status is MessageStatus.DELAYED:
            self.delayed_items.setdefault(key_hash, []).append(item)
        noise_changes = decision.noise_changes
        if noise_changes is None:
            return
        self.changed_rate_windows.update(noise_changes.rate_windows)
        self.released_scopes.update(noise_changes.released_scopes)
        if noise_changes.group_join is not None:
            self.group_joins[key_hash] = noise_changes.group_join
        if (outcome := noise_changes.wait_outcome) is not None:
            self.wait_outcomes[key_hash] = outcome
            for delayed_item in self.delayed_items.pop(key_hash, ()):
                assert delayed_item.decision is not None
                delayed_item.decision = replace(
                    delayed_item.decision, status=outcome.status, reason=outcome.reason, alert_id=outcome.alert_id
                )

    def _count(self, repeated_messages: RepeatedMessages) -> None:
        previous = self.repeated_messages.get(repeated_messages.alert_id)
        if previous is not None:
            changes = {**(previous.changes or {}), **(repeated_messages.changes or {})}
            repeated_messages = replace(
                repeated_messages,
                count=previous.count + repeated_messages.count,
                last_message_at=max(previous.last_message_at, repeated_messages.last_message_at),
                changes=changes or None,
            )
        self.repeated_messages[repeated_messages.alert_id] = repeated_messages

    def write(self, connection: Connection, now: datetime) -> None:
        """Writes the changes, and calls the handlers of alert changes."""
        new_alert_ids = {creation.alert.id for creation in self.creations}
        # Existing alerts free their keys before new alerts of this batch take them.
        service.write(connection, [change for change in self.changes if change.alert_id not in new_alert_ids], now)
        if self.creations:
            ended_alert_ids = frozenset(change.alert_id for change in self.changes if not change.after.holds_key)
            service.create_alerts(connection, self.creations, now, ended_ids=ended_alert_ids)
            service.write(connection, [change for change in self.changes if change.alert_id in new_alert_ids], now)
        store.count_messages(connection, list(self.repeated_messages.values()))
        states: Mapping[bytes, DedupKeyState] = {key: self.view.states[key] for key in self.updated_keys}
        dedup_key_store.write_keys(connection, states, now)
        dedup_key_store.write_deliveries(connection, self.new_deliveries)
        state.record_echoes(connection, self.echoed_write_ids)
        if self.delayed or self.group_joins or self.changed_rate_windows:
            self._write_noise_changes(connection, now)

    def _write_noise_changes(self, connection: Connection, now: datetime) -> None:
        dedup_key_store.write_wait_outcomes(connection, self.wait_outcomes)
        dedup_key_store.write_delayed(connection, self.delayed)
        dedup_key_store.write_joins(connection, self.group_joins, now)
        windows = {scope: self.view.rate_windows[scope] for scope in self.changed_rate_windows}
        dedup_key_store.write_rate_windows(connection, windows, now)
        dedup_key_store.release(connection, sorted(self.released_scopes), now)


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
    if telemetry.exporter is not None:
        committed_at = clock.now()
        for item, result in zip(items, results, strict=True):
            telemetry.exporter.export(_span(item, result, committed_at))
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
            database.notify(connection, "messages", "pending", state.TICKET_FETCH)
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
                why = ABOUT_THE_SAME(why=event.rule_match.reason)
                item.event = replace(event, rule_match=replace(event.rule_match, reason=why))


def _load(
    connection: Connection, items: list[BatchItem], loaded_keys: LoadedKeys, now: datetime, *, is_draining: bool
) -> _Batch:
    view = BatchView(loaded_keys.states, loaded_keys.rate_windows, loaded_keys.active_alerts)
    changes = BatchChanges(view)
    batch = _Batch(items, changes, loaded_keys.deliveries, set(loaded_keys.blocked_keys))
    if is_draining:
        _prepare_due(batch, now)
    tickets = {ticket for item in items if (ticket := item.ticket) is not None}
    batch.recent_writes = state.load_recent_writes(connection, tickets, now)
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
        key_state = states.get(key_hash, DedupKeyState())
        delay = key_state.delayed
        if delay is not None and (delay.due_at is None or delay.due_at > now):
            batch.blocked_keys.add(key_hash)
        elif key_hash not in batch.blocked_keys:
            # The key may differ from the stored one under a new configuration: nothing is known about it then.
            batch.due_delays[key_hash] = delay or DelayedAlertState(
                DelayReason.WAIT, item.incoming.received_at, now, AFTER_ITS_DELAY()
            )
            if delay is not None:
                states[key_hash] = replace(key_state, delayed=None)
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
        topics.append(state.TICKET_FETCH)
    if changes.creations or changes.changes or changes.repeated_messages:
        topics.append("alerts")
        topics += [f"alert:{alert_id}" for alert_id in list(changes.repeated_messages)[:20]]
        topics += [f"alert:{change.alert_id}" for change in changes.changes[:20]]
    return topics
