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
from tocsin.core.validation.durations import describe
from tocsin.escalation.policy import policy_cache
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.escalation.run import target_loader
from tocsin.escalation.run.alert_transitions import follow
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
from tocsin.inbound.inspect.trace import Trace, explain, with_gate
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.payload_splitting import elements_of
from tocsin.inbound.storage import dedup_key_store
from tocsin.simulate.escalation import NEW_ALERT, SimulatedEvent, SimulatedPage, SimulatedRun, play


@dataclass(frozen=True, slots=True)
class SimulatedOutcome:
    """What one message would do."""

    status: MessageStatus
    reason: str
    trace: Trace | None
    #: The active alert it would be appended to.
    alert_id: int | None = None
    #: The alert it would open.
    alert: NewAlert | None = None
    mode: PagingMode | None = None
    route: str = ""
    why: str = ""
    pages: tuple[SimulatedPage, ...] = ()
    timeline: tuple[SimulatedEvent, ...] = ()
    notes: tuple[str, ...] = ()


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
    known = registry or IntegrationRegistry()
    known.refresh()
    door = known.door(integration_id)
    if door.problem is not None:
        raise UnknownIntegration(integration_id)
    return simulate_door(door, body, content_type, at)


def simulate_door(
    door: CompiledIntegration, body: bytes, content_type: str, at: datetime, *, most: int | None = None
) -> Simulation:
    """Simulates `body` with a compiled integration, possibly an unsaved one. At most `most` messages are simulated."""
    return Simulation(door.name, at, tuple(islice(_outcomes(door, body, content_type, at), most)))


def _outcomes(door: CompiledIntegration, body: bytes, content_type: str, at: datetime) -> Iterable[SimulatedOutcome]:
    off = decide_disabled() if door.mode is IntegrationMode.DISABLED else None
    try:
        elements = elements_of(door.reader.kind, body, content_type).elements
    except Rejected as problem:
        yield _off(off, None) if off else _unreadable(door, problem, body, at)
        return
    board = BatchView()
    for element in elements:
        trace = explain(door.reader, element, lambda hours: door.in_hours(hours, at))
        if off:
            yield _off(off, trace)
            continue
        reading = door.reader.read(element)
        if isinstance(reading, Rejected):
            yield replace(_unreadable(door, reading, element.raw, at), trace=trace)
        else:
            yield _decided(door, reading, element, trace, board, at)


def _off(decision: Decision, trace: Trace | None) -> SimulatedOutcome:
    return SimulatedOutcome(decision.status, decision.reason, trace)


def _unreadable(door: CompiledIntegration, rejected: Rejected, raw: bytes, at: datetime) -> SimulatedOutcome:
    hashed = fail_open.key_of(door)
    board = BatchView()
    _load(board, hashed, None, at)
    key = board.key(hashed)
    decision = fail_open.fail_open(
        door, _arrival(at), decide_failed(rejected), rejected, raw, key, hashed, lambda: NEW_ALERT, at
    )
    return _outcome(decision, None, at)


def _decided(
    door: CompiledIntegration, reading: NormalizedEvent, element: Element, trace: Trace, board: BatchView, at: datetime
) -> SimulatedOutcome:
    text = door.dedup_key(reading)
    arrival = _arrival(at)
    hashed = key_hash(text if text is not None else f"{door.source}\x1f\x1f{arrival.message_id}")
    scopes = noise_reduction.scopes_of(door, reading, hashed) if reading.intent is EventAction.OPEN else None
    _load(board, hashed, scopes, at)
    key, standing = board.key(hashed), board.standing(scopes)
    decision = decide(door, arrival, reading, key, None, hashed, lambda: NEW_ALERT, at, scopes, standing)
    board.put(hashed, key, decision)
    trace = with_gate(trace, decision.verdict)
    outcome = _outcome(decision, trace, at)
    if decision.status is MessageStatus.DELAYED and (waited := decision.key.delayed) is not None:
        return _when_due(door, replace_arrival(arrival, waited=waited), reading, outcome, hashed, scopes, board)
    if decision.status is not MessageStatus.APPENDED:
        return outcome
    # Users who try a payload want to see whom it would page even while its alert is active, so simulate it on its own.
    fresh = decide(door, arrival, reading, DedupKeyState(), None, hashed, lambda: NEW_ALERT, at, scopes)
    if fresh.opening is None:
        return outcome
    note = f"Alert {decision.alert_id} is live, so nobody would be paged again. What follows is as if it were not."
    if any(change.waking is not None for change in decision.changes):
        note = f"Alert {decision.alert_id} is live, but so far nobody was paged about it: its escalation would start."
    return replace(
        _outcome(fresh, trace, at),
        status=decision.status,
        reason=decision.reason,
        alert_id=decision.alert_id,
        notes=(note, *reading.notes),
    )


def _when_due(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    outcome: SimulatedOutcome,
    hashed: bytes,
    scopes: LockScopes | None,
    board: BatchView,
) -> SimulatedOutcome:
    """The outcome of a delayed alert, with what follows if no other message arrives until it is due."""
    waited = arrival.waited
    if waited is None or waited.due_at is None:
        return replace(outcome, notes=("It opens when others come: how many wait already is on the Overview.",))
    at = waited.due_at
    span = describe(at - arrival.received_at)
    later = decide(
        door, arrival, reading, DedupKeyState(), None, hashed, lambda: NEW_ALERT, at, scopes, board.standing(scopes)
    )
    if later.opening is None:
        return replace(outcome, notes=(f"If nothing else comes for {span}: {later.status}, {later.reason}.",))
    note = f"It waits for {span}. What follows is as of then, if it does not close before."
    then = _outcome(later, outcome.trace, at)
    return replace(then, status=outcome.status, reason=outcome.reason, notes=(note, *reading.notes))


def _arrival(at: datetime) -> MessageContext:
    return MessageContext(uuid7(), at)


def _load(board: BatchView, hashed: bytes, scopes: LockScopes | None, at: datetime) -> None:
    """Loads a dedup key's state from the database into the batch view, unless an earlier message set it."""
    if hashed in board.states:
        return
    counted = {hashed: scopes} if scopes is not None else {}
    with database.transaction() as connection:
        with connection.pipeline():
            asked = dedup_key_store.ask(connection, [hashed], [], wait=True, scopes=counted)
        standing = dedup_key_store.load_states(connection, asked, now=at, replaying=True)
    board.states = {**standing.states, **board.states}
    board.states.setdefault(hashed, DedupKeyState())
    board.rate_windows = {**standing.rate_windows, **board.rate_windows}
    board.lives = {**standing.lives, **board.lives}


def _outcome(decision: Decision, trace: Trace | None, at: datetime) -> SimulatedOutcome:
    live = decision.alert_id if decision.alert_id != NEW_ALERT else None
    outcome = SimulatedOutcome(decision.status, decision.reason, trace, alert_id=live)
    opening = decision.opening
    if opening is None:
        return outcome
    with database.transaction() as connection:
        played = _escalation(connection, opening, decision, at)
    return replace(
        outcome,
        alert=opening.alert,
        mode=opening.paging.mode,
        route=str(decision.verdict.get("route", "")),
        why=opening.paging.reason,
        pages=played.pages,
        timeline=played.timeline,
        notes=played.notes,
    )


def _escalation(connection: Connection, opening: AlertCreation, decision: Decision, at: datetime) -> SimulatedRun:
    """The pages, timeline and notes of a new alert if nobody responds."""
    run, alert = _begin(connection, opening, decision, at)
    agent = str(opening.alert.columns.get("source_agent", ""))
    facts = target_loader.facts_of(connection, opening.alert.tags, agent)
    return play(connection, run, alert, facts, opening.event.reason)


def _begin(
    connection: Connection, opening: AlertCreation, decision: Decision, at: datetime
) -> tuple[RunState, AlertState]:
    """The new run, after the changes made by the opening message itself, such as an already assigned ticket."""
    paging = opening.paging
    known = policy_cache.load_plans(connection, {paging.version_id})
    run = begin_run(
        NEW_ALERT,
        known.get(paging.version_id, RECIPIENTS_ONLY),
        paging.mode,
        opening.alert.priority,
        at,
        recipient_users=paging.recipient_users,
        recipient_groups=paging.recipient_groups,
        why=paging.reason,
    )
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, opening.alert.priority, at)
    for change in decision.changes:
        if change.before is not None:
            run = follow(run, change.before, change.after, change.events, at).run
            alert = change.after
    return run, alert
