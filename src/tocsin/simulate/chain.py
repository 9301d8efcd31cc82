"""Simulates the whole chain for a payload: mapping, rule, route, alert, and the resulting pages.

Uses the same compiled and pure code as the live path, with the current alerts, users and schedules. Sends and stores
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from msgspec.structs import replace as replace_arrival

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.new_alert import AlertCreation, NewAlert
from tocsin.alerts.states import AlertStatus
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash, uuid7
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, Term, as_reason, reason_from_json
from tocsin.escalation.policy import policy_cache
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.escalation.run import target_loader
from tocsin.escalation.run.alert_transitions import apply_transition
from tocsin.escalation.run.run_state import RunState
from tocsin.escalation.run.run_status import begin_run
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import fail_open, noise_reduction
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.decide import decide, decide_disabled, decide_failed
from tocsin.inbound.deciding.state import Decision, DedupKeyState, LockScopes, MessageContext
from tocsin.inbound.enums import IntegrationMode, MessageStatus
from tocsin.inbound.inspect.trace import Trace, explain, with_noise_trace
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.payload_splitting import elements_of
from tocsin.inbound.storage import dedup_key_store
from tocsin.simulate import reasons
from tocsin.simulate.escalation import NEW_ALERT, SimulatedEvent, SimulatedPage, SimulatedRun, play


@dataclass(frozen=True, slots=True)
class SimulatedOutcome:
    """What one message would do."""

    status: MessageStatus
    reason: Reason
    trace: Trace | None
    #: The active alert it would be appended to.
    alert_id: int | None = None
    #: The alert it would open.
    alert: NewAlert | None = None
    mode: PagingMode | None = None
    route: Reason = NO_REASON
    #: Why it pages these users, or nobody.
    why: Reason = NO_REASON
    pages: tuple[SimulatedPage, ...] = ()
    timeline: tuple[SimulatedEvent, ...] = ()
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a request body would do: one outcome per message in it."""

    integration: str
    at: datetime
    outcomes: tuple[SimulatedOutcome, ...]


def simulate(
    integration_id: int, body: bytes, content_type: str, at: datetime, registry: IntegrationRegistry | None = None
) -> Simulation:
    """Simulates posting `body` to the integration at `at`. `registry` is an already loaded registry.

    Raises UnknownIntegration if the integration is deleted or its configuration cannot be compiled.
    """
    loaded_registry = registry or IntegrationRegistry()
    loaded_registry.refresh()
    integration = loaded_registry.get(integration_id)
    if integration.problem is not None:
        raise UnknownIntegration(integration_id)
    return simulate_integration(integration, body, content_type, at)


def simulate_integration(
    integration: CompiledIntegration, body: bytes, content_type: str, at: datetime, *, limit: int | None = None
) -> Simulation:
    """Simulates `body` with a compiled integration, possibly an unsaved one. At most `limit` messages are simulated."""
    return Simulation(integration.name, at, tuple(islice(_outcomes(integration, body, content_type, at), limit)))


def _outcomes(
    integration: CompiledIntegration, body: bytes, content_type: str, at: datetime
) -> Iterable[SimulatedOutcome]:
    disabled_decision = decide_disabled() if integration.mode is IntegrationMode.DISABLED else None
    try:
        elements = elements_of(integration.normalizer.kind, body, content_type).elements
    except Rejected as problem:
        yield (
            _disabled_outcome(disabled_decision, None)
            if disabled_decision
            else _unreadable(integration, problem, body, at)
        )
        return
    batch_view = BatchView()
    for element in elements:
        trace = explain(integration.normalizer, element, lambda hours: integration.in_hours(hours, at))
        if disabled_decision:
            yield _disabled_outcome(disabled_decision, trace)
            continue
        event = integration.normalizer.normalize(element)
        if isinstance(event, Rejected):
            yield replace(_unreadable(integration, event, element.raw, at), trace=trace)
        else:
            yield _decide(integration, event, element, trace, batch_view, at)


def _disabled_outcome(decision: Decision, trace: Trace | None) -> SimulatedOutcome:
    return SimulatedOutcome(decision.status, decision.reason, trace)


def _unreadable(integration: CompiledIntegration, rejected: Rejected, raw: bytes, at: datetime) -> SimulatedOutcome:
    dedup_hash = fail_open.key_of(integration)
    batch_view = BatchView()
    _load(batch_view, dedup_hash, None, at)
    key = batch_view.get_state(dedup_hash)
    decision = fail_open.fail_open(
        integration,
        _message_context(at),
        decide_failed(rejected),
        rejected,
        raw,
        key,
        dedup_hash,
        lambda: NEW_ALERT,
        at,
    )
    return _outcome(decision, None, at)


def _decide(
    integration: CompiledIntegration,
    event: NormalizedEvent,
    element: Element,
    trace: Trace,
    batch_view: BatchView,
    at: datetime,
) -> SimulatedOutcome:
    dedup_key = integration.dedup_key(event)
    context = _message_context(at)
    dedup_hash = key_hash(dedup_key if dedup_key is not None else f"{integration.source}\x1f\x1f{context.message_id}")
    scopes = noise_reduction.scopes_of(integration, event, dedup_hash) if event.action is EventAction.OPEN else None
    _load(batch_view, dedup_hash, scopes, at)
    key, noise_state = batch_view.get_state(dedup_hash), batch_view.get_noise_state(scopes)
    decision = decide(integration, context, event, key, None, dedup_hash, lambda: NEW_ALERT, at, scopes, noise_state)
    batch_view.apply_decision(dedup_hash, key, decision)
    trace = with_noise_trace(trace, decision.verdict)
    outcome = _outcome(decision, trace, at)
    if decision.status is MessageStatus.DELAYED and (delayed := decision.key_state.delayed) is not None:
        return _when_due(
            integration, replace_arrival(context, due_delay=delayed), event, outcome, dedup_hash, scopes, batch_view
        )
    if decision.status is not MessageStatus.APPENDED:
        return outcome
    # Users who try a payload want to see whom it would page even while its alert is active, so simulate it on its own.
    standalone_decision = decide(
        integration, context, event, DedupKeyState(), None, dedup_hash, lambda: NEW_ALERT, at, scopes
    )
    if standalone_decision.creation is None:
        return outcome
    is_paging_started = any(change.paging_start is not None for change in decision.changes)
    note_type = reasons.ALERT_STARTS_PAGING if is_paging_started else reasons.ALERT_OPEN
    return replace(
        _outcome(standalone_decision, trace, at),
        status=decision.status,
        reason=decision.reason,
        alert_id=decision.alert_id,
        notes=(note_type(alert=AlertRef(decision.alert_id or 0)), *event.notes),
    )


def _when_due(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    outcome: SimulatedOutcome,
    dedup_hash: bytes,
    scopes: LockScopes | None,
    batch_view: BatchView,
) -> SimulatedOutcome:
    """The outcome of a delayed alert, with what follows if no other message arrives until it is due."""
    delayed = context.due_delay
    if delayed is None or delayed.due_at is None:
        return replace(outcome, notes=(reasons.OPENS_WITH_OTHERS(),))
    at = delayed.due_at
    span = at - context.received_at
    due_decision = decide(
        integration,
        context,
        event,
        DedupKeyState(),
        None,
        dedup_hash,
        lambda: NEW_ALERT,
        at,
        scopes,
        batch_view.get_noise_state(scopes),
    )
    if due_decision.creation is None:
        status = Term(due_decision.status)
        note = reasons.IF_NOTHING_ELSE(duration=span, status=status, reason=due_decision.reason)
        return replace(outcome, notes=(note,))
    note = reasons.DELAYED(duration=span)
    due_outcome = _outcome(due_decision, outcome.trace, at)
    return replace(due_outcome, status=outcome.status, reason=outcome.reason, notes=(note, *event.notes))


def _message_context(at: datetime) -> MessageContext:
    return MessageContext(uuid7(), at)


def _load(batch_view: BatchView, dedup_hash: bytes, scopes: LockScopes | None, at: datetime) -> None:
    """Loads a dedup key's state from the database into the batch view, unless an earlier message set it."""
    if dedup_hash in batch_view.states:
        return
    scopes_by_hash = {dedup_hash: scopes} if scopes is not None else {}
    with database.transaction() as connection:
        with connection.pipeline():
            pending_queries = dedup_key_store.query_keys(connection, [dedup_hash], [], wait=True, scopes=scopes_by_hash)
        loaded_keys = dedup_key_store.load_states(connection, pending_queries, now=at, is_draining=True)
    batch_view.states = {**loaded_keys.states, **batch_view.states}
    batch_view.states.setdefault(dedup_hash, DedupKeyState())
    batch_view.rate_windows = {**loaded_keys.rate_windows, **batch_view.rate_windows}
    batch_view.active_alerts = {**loaded_keys.active_alerts, **batch_view.active_alerts}


def _outcome(decision: Decision, trace: Trace | None, at: datetime) -> SimulatedOutcome:
    active_alert_id = decision.alert_id if decision.alert_id != NEW_ALERT else None
    outcome = SimulatedOutcome(decision.status, decision.reason, trace, alert_id=active_alert_id)
    opening = decision.creation
    if opening is None:
        return outcome
    with database.transaction() as connection:
        simulated = _escalation(connection, opening, decision, at)
    return replace(
        outcome,
        alert=opening.alert,
        mode=opening.paging.mode,
        route=reason_from_json(decision.verdict.get("route")),
        why=as_reason(opening.paging.reason),
        pages=simulated.pages,
        timeline=simulated.timeline,
        notes=simulated.notes,
    )


def _escalation(connection: Connection, opening: AlertCreation, decision: Decision, at: datetime) -> SimulatedRun:
    """The pages, timeline and notes of a new alert if nobody responds."""
    run, alert = _begin(connection, opening, decision, at)
    agent = str(opening.alert.columns.get("source_agent", ""))
    facts = target_loader.build_facts(connection, opening.alert.tags, agent)
    return play(connection, run, alert, facts, as_reason(opening.event.reason))


def _begin(
    connection: Connection, opening: AlertCreation, decision: Decision, at: datetime
) -> tuple[RunState, AlertState]:
    """The new run, after the changes made by the opening message itself, such as an already assigned ticket."""
    paging = opening.paging
    plans = policy_cache.load_plans(connection, {paging.version_id})
    run = begin_run(
        NEW_ALERT,
        plans.get(paging.version_id, RECIPIENTS_ONLY),
        paging.mode,
        opening.alert.priority,
        at,
        recipient_users=paging.recipient_users,
        recipient_groups=paging.recipient_groups,
        policy_reason=as_reason(paging.reason),
    )
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, opening.alert.priority, at)
    for change in decision.changes:
        if change.before is not None:
            run = apply_transition(run, change.before, change.after, change.events, at).run
            alert = change.after
    return run, alert
