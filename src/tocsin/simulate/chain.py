"""Simulates the whole chain for a payload: mapping, rule, route, alert, and the resulting pages.

Uses the same compiled and pure code as the live path, with the current alerts, users and schedules. Sends and stores
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from itertools import islice
from typing import Any

from msgspec.structs import replace as replace_context

from tocsin.alerts.commands import AlertCreation, AlertState, NewAlert, PagingMode
from tocsin.alerts.states import AlertStatus
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.reasons import (
    NO_REASON,
    AlertRef,
    Reason,
    Term,
    Text,
    as_reason,
    reason_from_json,
    sentence,
    show_fields,
    show_reason,
)
from tocsin.core.validation import inputs
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import RunState, apply_transition
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding.decide import decide, prepare
from tocsin.inbound.deciding.state import (
    EMPTY_NOISE_STATE,
    NO_LOCK_SCOPES,
    BatchView,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    LockScopes,
    MessageContext,
)
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect import Trace, explain, with_noise_trace
from tocsin.inbound.models import Integration
from tocsin.inbound.parsing.decode import Element, elements_of
from tocsin.inbound.storage import dedup_key_store
from tocsin.inbound.storage.messages import MessageBudget
from tocsin.simulate.escalation import NEW_ALERT, SimulatedPage, SimulatedRun, SimulatedStep, play

NOT_COMPILED = Text("The configuration of {integration} cannot be compiled; save it again.")
OPENS_WITH_OTHERS = Text("It opens when others arrive: the Overview shows how many are delayed already.")
DELAYED = Text("It is delayed for {duration}. The following is as of then, if it does not close before.")
ALERT_OPEN = Text(
    "Alert {alert} is already open, so no one would be paged again. The steps below assume that it is closed."
)
ALERT_STARTS_PAGING = Text("Alert {alert} is open, but no one has been paged about it yet. Its escalation would start.")


@dataclass(frozen=True, slots=True)
class SimulatedOutcome:
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
    timeline: tuple[SimulatedStep, ...] = ()
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a request body would do: one outcome per message in it."""

    integration: str
    at: datetime
    outcomes: tuple[SimulatedOutcome, ...]
    #: Why some have none; `NO_REASON` if all have one.
    partial: Reason = NO_REASON


def simulate(
    integration: Integration, body: bytes, content_type: str, at: datetime, registry: IntegrationRegistry | None = None
) -> Simulation:
    """Simulates posting `body` to the integration at `at`. `registry` is an already loaded registry.

    Raises UnknownIntegration if the integration is deleted or its configuration cannot be compiled.
    """
    loaded_registry = registry or IntegrationRegistry()
    loaded_registry.refresh()
    compiled = loaded_registry.get(integration.pk)
    if compiled.problem is not None:
        raise UnknownIntegration(integration.pk)
    return simulate_integration(compiled, body, content_type, at)


def simulate_integration(
    integration: CompiledIntegration, body: bytes, content_type: str, at: datetime, *, limit: int | None = None
) -> Simulation:
    """Simulates `body` with a compiled integration, possibly an unsaved one. At most `limit` messages are simulated."""
    budget = MessageBudget()
    outcomes = tuple(islice(_outcomes(integration, body, content_type, at, budget), limit))
    return Simulation(integration.name, at, outcomes, budget.reason)


def _outcomes(
    integration: CompiledIntegration, body: bytes, content_type: str, at: datetime, budget: MessageBudget
) -> Iterable[SimulatedOutcome]:
    try:
        elements: Iterable[Element | Rejected] = elements_of(integration.normalizer.kind, body, content_type).elements
    except Rejected as problem:
        elements = (problem,)
    batch_view = BatchView()
    for element in elements:
        if budget.admits(element):
            yield _decide(integration, element, body, batch_view, at)


def _decide(
    integration: CompiledIntegration, element: Element | Rejected, body: bytes, batch_view: BatchView, at: datetime
) -> SimulatedOutcome:
    raw = body if isinstance(element, Rejected) else element.raw
    message_id = uuid7()
    prepared = prepare(integration, element, message_id)
    event, key_hash, scopes = prepared.outcome, prepared.key_hash, prepared.scopes
    trace = None
    if isinstance(element, Element):
        trace = explain(integration.normalizer, element, lambda hours: integration.in_hours(hours, at))
    key, noise_state = DedupKeyState(), EMPTY_NOISE_STATE
    if key_hash is not None:
        _load(batch_view, key_hash, scopes, at)
        key, noise_state = batch_view.get_state(key_hash), batch_view.get_noise_state(scopes)
    context = MessageContext(
        integration,
        message_id,
        at,
        at,
        event,
        key_hash or b"",
        key,
        NEW_ALERT,
        scopes=scopes or NO_LOCK_SCOPES,
        noise_state=noise_state,
        element=element,
        raw=raw,
    )
    decision = decide(context)
    if key_hash is not None:
        batch_view.apply_decision(key_hash, key, decision)
    if trace is not None:
        trace = with_noise_trace(trace, decision.verdict)
    outcome = _outcome(decision, trace, at)
    if decision.status is MessageStatus.DELAYED and (delayed := decision.key_state.delayed) is not None:
        return _when_due(context, delayed, outcome, batch_view)
    if decision.status is not MessageStatus.APPENDED:
        return outcome
    # Users who try a payload want to see whom it would page even while its alert is active, so simulate it on its own.
    standalone_decision = decide(replace_context(context, key_state=DedupKeyState(), noise_state=EMPTY_NOISE_STATE))
    if standalone_decision.creation is None:
        return outcome
    is_paging_started = any(change.paging_start is not None for change in decision.changes)
    note_type = ALERT_STARTS_PAGING if is_paging_started else ALERT_OPEN
    return replace(
        _outcome(standalone_decision, trace, at),
        status=decision.status,
        reason=decision.reason,
        alert_id=decision.alert_id,
        notes=(note_type(alert=AlertRef(decision.alert_id or 0)), *_notes_of(context)),
    )


def _notes_of(context: MessageContext) -> tuple[Reason, ...]:
    return context.event.notes if isinstance(context.event, NormalizedEvent) else ()


def _when_due(
    context: MessageContext, delayed: DelayedAlertState, outcome: SimulatedOutcome, batch_view: BatchView
) -> SimulatedOutcome:
    """The outcome of a delayed alert, with what follows if no other message arrives until it is due."""
    if delayed.due_at is None:
        return replace(outcome, notes=(OPENS_WITH_OTHERS(),))
    at = delayed.due_at
    span = at - context.received_at
    noise_state = batch_view.get_noise_state(context.scopes)
    due_decision = decide(
        replace_context(context, now=at, key_state=DedupKeyState(), noise_state=noise_state, due_delay=delayed)
    )
    if due_decision.creation is None:
        status = Term(due_decision.status)
        note = sentence(
            "If nothing else arrives for {duration}: {status}, {reason}.",
            duration=span,
            status=status,
            reason=due_decision.reason,
        )
        return replace(outcome, notes=(note,))
    note = DELAYED(duration=span)
    due_outcome = _outcome(due_decision, outcome.trace, at)
    return replace(due_outcome, status=outcome.status, reason=outcome.reason, notes=(note, *_notes_of(context)))


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
    agent = str(opening.alert.columns.get("source_agent", ""))
    with database.transaction() as connection:
        run, alert = _begin(connection, opening, decision, at)
        facts = run_store.build_facts(connection, opening.alert.tags, agent)
        simulated = play(connection, run, alert, facts, as_reason(opening.event.reason))
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


def _begin(
    connection: Connection, opening: AlertCreation, decision: Decision, at: datetime
) -> tuple[RunState, AlertState]:
    """The new run, after the changes made by the opening message itself, such as an already assigned ticket."""
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, opening.alert.priority, at)
    plans = run_store.load_plans(connection, {opening.paging.version_id})
    run = run_store.begin(alert, opening.paging, plans, at)
    for change in decision.changes:
        if change.before is not None:
            run = apply_transition(run, change.before, change.after, change.events, at).run
            alert = change.after
    return run, alert


# ---------- report


#: Returns how an address may be displayed, given the user's id (None: a group contact), channel and address.
type AddressFormatter = Callable[[int | None, str, str], str]

_SHORT = 70


def _unmasked(_user_id: int | None, _channel: str, address: str) -> str:
    return address


def as_json(simulation: Simulation, format_address: AddressFormatter = _unmasked) -> dict[str, Any]:
    """The simulation as plain values; `format_address` masks addresses the reader may not see."""
    return {
        "integration": simulation.integration,
        "at": _iso(simulation.at),
        "messages": [_message(outcome, format_address) for outcome in simulation.outcomes],
        "partial": show_reason(simulation.partial),
    }


def run_as_json(run: SimulatedRun | SimulatedOutcome, format_address: AddressFormatter = _unmasked) -> dict[str, Any]:
    """What a run does as plain values; `format_address` masks addresses."""
    return {
        "pages": [
            {
                "at": _iso(page.at),
                "minutes": _minutes(page.after),
                "to": page.name,
                **show_fields(page, "user_id", "label", "channel", "reason", "problem"),
                "address": format_address(page.user_id, page.channel, page.address),
            }
            for page in run.pages
        ],
        "timeline": [
            {"at": _iso(line.at), "minutes": _minutes(line.after), "reason": show_reason(line.reason)}
            for line in run.timeline
        ],
        "notes": [show_reason(reason) for reason in run.notes],
    }


def as_text(simulation: Simulation, zone: tzinfo) -> str:
    moment = simulation.at.astimezone(zone).strftime("%a %Y-%m-%d %H:%M %Z")
    lines = [f"{simulation.integration}, at {moment}. Nothing is sent or stored."]
    for number, outcome in enumerate(simulation.outcomes, start=1):
        heading = f"Message {number}: " if len(simulation.outcomes) > 1 else ""
        lines += ["", f"{heading}{outcome.status}: {outcome.reason}", *_describe_outcome(outcome, zone)]
    lines += ["", str(simulation.partial)] if simulation.partial else []
    return "\n".join(lines) + "\n"


def _message(outcome: SimulatedOutcome, format_address: AddressFormatter) -> dict[str, Any]:
    alert = outcome.alert
    shown_alert = alert and {
        **show_fields(alert, "subject", "source", "source_name", "source_id", "dry_run"),
        "priority": str(alert.priority),
        **alert.columns,
        "tags": dict(alert.tags),
        "custom": dict(alert.custom),
    }
    return {
        "status": str(outcome.status),
        **show_fields(outcome, "reason", "alert_id", "route", "why"),
        "alert": shown_alert,
        "mode": str(outcome.mode) if outcome.mode else None,
        **run_as_json(outcome, format_address),
        "trace": outcome.trace.to_json() if outcome.trace else None,
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _minutes(after: timedelta) -> float:
    minutes = after / timedelta(minutes=1)
    return int(minutes) if minutes.is_integer() else round(minutes, 2)


def _describe_outcome(outcome: SimulatedOutcome, zone: tzinfo) -> Iterable[str]:
    yield from (f"  note: {note}" for note in outcome.notes)
    if outcome.trace is not None:
        yield from (f"  note: {note}" for note in outcome.trace.notes)
        yield "  mapping:"
        groups = (*outcome.trace.fields, *outcome.trace.tags, *outcome.trace.custom)
        mapped_fields = [field for field in groups if field.value is not None]
        yield from (f"    {field.field} = {_truncate(field.value or '')}" for field in mapped_fields)
        rules = {"rules": outcome.trace.rules, "filters": outcome.trace.opening, "routes": outcome.trace.routes}
        for name, traces in rules.items():
            if traces:
                yield f"  {name}:"
                yield from (f"    {one.name}: {'yes' if one.is_true else 'no'}, {one.reason}" for one in traces)
    if outcome.alert is not None:
        yield from _escalation_report(outcome, zone)


def _escalation_report(outcome: SimulatedOutcome, zone: tzinfo) -> Iterable[str]:
    assert outcome.alert is not None
    client = f"{outcome.alert.columns['client']}: " if outcome.alert.columns.get("client") else ""
    yield f"  alert: [{outcome.alert.priority.capitalize()}] {client}{outcome.alert.subject}"
    yield f"  by: {outcome.why}"
    if outcome.pages:
        yield "  who is notified, if nobody acts:"
    for page in outcome.pages:
        clock = page.at.astimezone(zone).strftime("%H:%M:%S")
        to = f"{page.name} by {page.channel}, {page.address}"
        problem = f" CANNOT BE SENT: {page.problem}" if page.problem else ""
        yield f"    {_after(page.after):>8}  {clock}  {to}.{problem} {page.reason}"
    yield "  timeline:"
    yield from (f"    {_after(line.after):>8}  {line.reason}" for line in outcome.timeline)


def _after(after: timedelta) -> str:
    return f"+{inputs.write_duration(after)}" if after else "at once"


def _truncate(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"
