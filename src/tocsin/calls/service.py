"""Takes calls: stores what providers report, has the router decide, and has the providers carry that out.

Each report is one transaction, which locks the call's row. What its answer does not carry out is done after COMMIT by
`carry_out`, in a worker, under a lease: whatever a process leaves undone when it dies, another one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

import msgspec
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.alerts import service, store
from tocsin.alerts.commands import (
    SYSTEM,
    Actor,
    AlertCreation,
    Assign,
    Close,
    Command,
    NewAlert,
    NewEvent,
    PagingConfig,
    PagingMode,
    Reply,
)
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, ActorKind, CommandChannel, EventKind, Priority
from tocsin.alerts.store import IS_ACTIVE, is_about
from tocsin.calls import router
from tocsin.calls.models import CallLeg, PhoneCall
from tocsin.calls.router import Batch, CallCommand, Callee, CallEvent, CallRing, RoutedCall
from tocsin.calls.routes import find_route, settings_of
from tocsin.calls.states import (
    LIVE,
    AnsweredAlert,
    CallerId,
    CallOutcome,
    CallPhase,
    Cause,
    LegStatus,
    RouteTarget,
    TargetKind,
)
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_storable_json
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.hooks import Expiry
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Person, Reason, ReasonType, Term, Text, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.clock import Timers
from tocsin.core.runtime.periodic_tasks import DaemonThreads, PeriodicTask, run_in_time
from tocsin.escalation import commands as policies
from tocsin.escalation.policy import unmet_condition
from tocsin.escalation.run.run_state import begin_run
from tocsin.escalation.run.run_store import load_plans, load_target_context
from tocsin.escalation.run.target_resolution import resolve_targets
from tocsin.notify.interfaces import CHANNELS, CallCarrier, CallStep, HangUp, HotlineEvent, HotlineEventKind
from tocsin.notify.pages import load_recipients
from tocsin.notify.providers.pool import ProviderPool
from tocsin.notify.rules.page_planner import Recipient
from tocsin.notify.text.formatting import localize
from tocsin.oncall import loader
from tocsin.outbound.delivery import queue as outbound
from tocsin.people.sql import load_users

log = logging.getLogger(__name__)

#: The hint that wakes the task, and the topic for browsers.
TOPIC = "calls"

SOURCE = "call"

# ---------- reasons

CAME = ReasonType("call.came", "{caller} called {route}")
_WITHHELD = Text("A withheld number")
_CAUSES: Mapping[Cause, ReasonType] = {
    Cause.CALLER_HUNG_UP: ReasonType("call.caller_hung_up", "the caller hung up"),
    Cause.NOBODY_ON_CALL: ReasonType("call.nobody_on_call", "no one was on call with a phone number"),
    Cause.NOBODY_ANSWERED: ReasonType("call.nobody_answered", "no one took the call"),
    Cause.ALL_FAILED: ReasonType("call.all_failed", "the provider could not ring anyone"),
    Cause.OUTSIDE_HOURS: ReasonType("call.outside_hours", "it was outside the support hours"),
    Cause.CHOSEN: ReasonType("call.chosen", "the caller chose it in the menu"),
    Cause.NO_CHOICE: ReasonType("call.no_choice", "the caller chose nothing in the menu"),
    Cause.PROVIDER_SILENT: ReasonType("call.provider_silent", "the provider reported nothing more"),
    Cause.UNREACHABLE: ReasonType("call.unreachable", "Tocsin did not answer the provider, which took a message"),
    Cause.BLOCKED: ReasonType("call.blocked", "the route blocks the number"),
    Cause.LOOP: ReasonType("call.loop", "a phone that was rung forwards its calls to this number"),
}
_LEGS: Mapping[LegStatus, ReasonType] = {
    LegStatus.ACCEPTED: ReasonType("call.leg_accepted", "{user} was rung and took the call"),
    LegStatus.DECLINED: ReasonType("call.leg_declined", "{user} was rung and declined"),
    LegStatus.BUSY: ReasonType("call.leg_busy", "{user} was rung: busy"),
    LegStatus.MACHINE: ReasonType("call.leg_machine", "{user} was rung: a voicemail answered"),
    LegStatus.NO_ANSWER: ReasonType("call.leg_no_answer", "{user} was rung: no answer"),
    LegStatus.FAILED: ReasonType("call.leg_failed", "{user} could not be rung"),
    LegStatus.CANCELLED: ReasonType("call.leg_cancelled", "{user} was rung until the call was over"),
    LegStatus.LATE: ReasonType("call.leg_late", "{user} picked up after someone else had taken the call"),
}
ENDED = ReasonType("call.ended", "The call ended after {duration}")
RECORDED = ReasonType("call.recorded", "The call has a recording of {duration}")
RECORDING_LOST = ReasonType("call.recording_lost", "The recording of {duration} could not be fetched: {why}")
HOURS_BEGAN = ReasonType("call.hours_began", "The support hours began, and no one has answered the alert")
_NO_CARRIER = ReasonType("call.no_carrier", "The provider {provider} is disabled, or carries no calls.")
_NOBODY_PAGED = ReasonType("call.nobody_paged", "The route names no policy, so no one is paged.")
_ANSWERED_ALREADY = ReasonType("call.answered_already", "Someone took the call, so no one is paged.")
_BY_ROUTE = ReasonType("call.policy_by_route", "The call route {route} chose the policy.")
_SUBJECTS: Mapping[CallOutcome, Text] = {
    CallOutcome.ANSWERED: Text("Call from {caller}"),
    CallOutcome.MISSED: Text("Missed call from {caller}"),
    CallOutcome.VOICEMAIL: Text("Voicemail from {caller}"),
}

# ---------- the row


@dataclass(slots=True)
class StoredCall:
    """A call, locked in this transaction."""

    id: int
    provider: str
    state: RoutedCall
    alert_id: int | None
    raise_at: datetime | None


_LOCK = "SELECT id, provider, state, alert_id, raise_at FROM calls_phonecall WHERE {} FOR NO KEY UPDATE"
_BY_ID = _LOCK.format("id = %s")
_BY_KEY = _LOCK.format("provider = %s AND external_id = %s")
_INSERT = """
INSERT INTO calls_phonecall (route_id, route_name, group_id, provider, external_id, state, phase, started_at)
VALUES (%s, %s, %s, %s, %s, '{}', 'menu', %s) ON CONFLICT DO NOTHING RETURNING id
"""
_UPDATE = """
UPDATE calls_phonecall SET state = %(state)s, phase = %(phase)s, outcome = %(outcome)s, cause = %(cause)s,
  called = %(called)s, caller = %(caller)s, caller_name = %(caller_name)s, client = %(client)s, is_test = %(is_test)s,
  answered_at = %(answered_at)s, ended_at = %(ended_at)s, answered_by_id = %(user)s, alert_id = %(alert)s,
  due_at = %(due_at)s, raise_at = %(raise_at)s, recording_seconds = %(seconds)s, transcription = %(transcription)s
WHERE id = %(id)s
"""
_UPSERT_LEGS = """
INSERT INTO calls_callleg (call_id, place, round, user_id, user_name, capacity, number, external_id, status, reason,
                           rung_at, answered_at, ended_at)
SELECT %(call)s, n.*
FROM jsonb_to_recordset(%(rings)s) AS n(place int, round int, user_id bigint, user_name text, capacity text,
     number text, external_id text, status text, reason jsonb, rung_at timestamptz, answered_at timestamptz,
     ended_at timestamptz)
ON CONFLICT (call_id, place) DO UPDATE SET external_id = excluded.external_id, status = excluded.status,
  reason = excluded.reason, answered_at = excluded.answered_at, ended_at = excluded.ended_at
"""


def _lock(connection: Connection, query: str, *key: object) -> StoredCall | None:
    row = database.row(connection, query, key)
    if row is None or not row["state"]:
        return None
    state = msgspec.convert(row["state"], RoutedCall)
    return StoredCall(row["id"], row["provider"], state, row["alert_id"], row["raise_at"])


def _save(connection: Connection, call: StoredCall, before: RoutedCall | None, now: datetime) -> None:
    """Writes the call and its rings, and what follows from the change for its alert."""
    state = call.state
    if before is not None and state == before:
        return
    _follow(connection, call, before, now)
    users = load_users(connection, {ring.callee.user_id for ring in state.rings})
    is_pending = any(router.pending(state))
    parameters = {
        "id": call.id, "state": msgspec.json.encode(state).decode(), "phase": state.phase,
        "outcome": state.outcome or "", "cause": state.cause or "", "called": state.called, "caller": state.caller,
        "caller_name": state.caller_name, "client": state.client, "is_test": state.is_test,
        "answered_at": state.answered_at, "ended_at": state.ended_at,
        "user": state.accepted.callee.user_id if state.accepted and state.accepted.callee.user_id in users else None,
        "alert": call.alert_id, "due_at": now if is_pending else _due_at(call), "raise_at": call.raise_at,
        "seconds": state.recording.seconds if state.recording else 0, "transcription": state.transcription,
    }  # fmt: skip
    connection.execute(_UPDATE, parameters)
    rings = [
        {
            "place": ring.number, "round": ring.round, "user_name": ring.callee.name,
            "user_id": ring.callee.user_id if ring.callee.user_id in users else None,
            "capacity": ring.callee.capacity, "number": ring.callee.number, "external_id": ring.external_id,
            "status": ring.status, "reason": ring.reason, "rung_at": ring.rung_at, "answered_at": ring.answered_at,
            "ended_at": ring.ended_at,
        }
        for ring in state.rings
        if before is None or ring not in before.rings
    ]  # fmt: skip
    if rings:
        connection.execute(_UPSERT_LEGS, {"call": call.id, "rings": as_storable_json(rings)})
    database.notify(connection, TOPIC)


def _due_at(call: StoredCall) -> datetime | None:
    return router.due_at(call.state) or call.raise_at


# ---------- what providers report


def handle_hotline(provider: str, event: HotlineEvent, now: datetime) -> Sequence[CallStep]:
    """Continues a call by what its provider reports, and returns what the party hears next. Idempotent."""

    def handle() -> Sequence[CallStep]:
        with database.transaction() as connection:
            return _handle(connection, provider, event, now)

    return database.retry_once(handle)


def _handle(connection: Connection, provider: str, event: HotlineEvent, now: datetime) -> Sequence[CallStep]:
    call_id, ring_number = _parse_leg(event.leg)
    call = _lock(connection, _BY_ID, call_id) if event.leg else _lock(connection, _BY_KEY, provider, event.external_id)
    before = call.state if call else None
    if call is None or call.provider != provider:
        call = _begin(connection, provider, event, now) if not event.leg and event.kind in _BEGINNINGS else None
        if call is None:
            return (HangUp(),) if event.leg else ()
    for happened in _events(event, ring_number):
        _apply(connection, call, happened, now)
    steps: Sequence[CallStep] = ()
    if event.kind in _ASKS:
        steps = _answer(connection, call, event, ring_number, now)
    _save(connection, call, before, now)
    return steps


#: The reports that the provider answers with what the party hears.
_ASKS = frozenset({
    HotlineEventKind.CAME, HotlineEventKind.KEY, HotlineEventKind.ENDED, HotlineEventKind.ANSWERED,
    HotlineEventKind.MACHINE,
})  # fmt: skip
#: The reports by which a call becomes known: also the recording of one that came while Tocsin did not answer.
_BEGINNINGS = frozenset({HotlineEventKind.CAME, HotlineEventKind.RECORDED})

_LEG_ENDS: Mapping[HotlineEventKind, LegStatus] = {
    HotlineEventKind.BUSY: LegStatus.BUSY,
    HotlineEventKind.DECLINED: LegStatus.DECLINED,
    HotlineEventKind.NO_ANSWER: LegStatus.NO_ANSWER,
    HotlineEventKind.FAILED: LegStatus.FAILED,
    HotlineEventKind.HUNG_UP: LegStatus.NO_ANSWER,
    HotlineEventKind.ENDED: LegStatus.NO_ANSWER,
}


def leg_key(call_id: int, ring: CallRing) -> str:
    """Returns the key by which the provider reports about a ring."""
    return f"{call_id}-{ring.number}"


def _parse_leg(key: str) -> tuple[int, int]:
    call_id, _, number = key.partition("-")
    is_key = len(key) < 30 and call_id.isascii() and call_id.isdigit() and number.isascii() and number.isdigit()
    return (int(call_id), int(number)) if is_key else (0, 0)


def _events(event: HotlineEvent, ring: int) -> Iterator[CallEvent]:
    kind = event.kind
    if event.leg:
        if kind in (HotlineEventKind.RINGING, HotlineEventKind.ANSWERED, HotlineEventKind.MACHINE):
            yield router.RingRequested(ring, event.external_id)
        if kind in (HotlineEventKind.ANSWERED, HotlineEventKind.MACHINE):
            yield router.RingAnswered(ring, kind is HotlineEventKind.MACHINE, event.external_id)
        elif kind is HotlineEventKind.KEY:
            yield router.RingKey(ring, event.step, event.digits)
        elif kind in _LEG_ENDS:
            yield router.RingEnded(ring, _LEG_ENDS[kind], event.reason)
        return
    match kind:
        case HotlineEventKind.KEY:
            yield router.CallerKey(event.step, event.digits)
        case HotlineEventKind.ENDED:
            yield router.CallerBack(event.step)
        case HotlineEventKind.HUNG_UP | HotlineEventKind.FAILED:
            yield router.CallerHungUp()
        case HotlineEventKind.LEFT:
            yield router.CallerLeft()
        case HotlineEventKind.RECORDED:
            yield router.RecordingDone(event.recording_url, event.recording_seconds, event.recording_id)
        case HotlineEventKind.NOT_RECORDED:
            yield router.RecordingDone("", 0)
        case HotlineEventKind.TRANSCRIBED:
            yield router.Transcribed(event.transcription)
        case _:
            return


def _apply(connection: Connection, call: StoredCall, event: CallEvent, now: datetime) -> None:
    call.state = router.advance(call.state, event, now)
    for command in router.pending(call.state):
        if isinstance(command, router.Plan):
            call.state = router.advance(call.state, load_plan(connection, call.state, command.target, now), now)


def _answer(
    connection: Connection, call: StoredCall, event: HotlineEvent, number: int, now: datetime
) -> Sequence[CallStep]:
    state = call.state
    if not event.leg:
        _apply(connection, call, router.Shown(router.document_of(state)), now)
        return router.caller_steps(state, is_first=event.kind is HotlineEventKind.CAME)
    ring = next((ring for ring in state.rings if ring.number == number), None)
    if ring is None:
        return (HangUp(),)
    _apply(connection, call, router.Shown(router.document_of_ring(ring), ring.number), now)
    return router.ring_steps(state, ring)


_IS_LOOP = """
SELECT EXISTS (SELECT FROM calls_callroute WHERE %(caller)s = ANY(numbers))
  OR EXISTS (SELECT FROM calls_callleg l JOIN calls_phonecall c ON c.id = l.call_id
             WHERE l.number = %(caller)s AND l.status = ANY(%(live)s) AND c.ended_at IS NULL)
"""


def _begin(connection: Connection, provider: str, event: HotlineEvent, now: datetime) -> StoredCall | None:
    """Stores a new call; None if no route takes it."""
    route = find_route(event.number)
    if route is None or not route.is_enabled:
        return None
    settings = settings_of(route)
    inserted = connection.execute(
        _INSERT, (route.pk, route.name, settings.group_id, provider, event.external_id, now)
    ).fetchone()
    if inserted is None:
        # The provider reports it twice at once.
        return _lock(connection, _BY_KEY, provider, event.external_id)
    hours = loader.support_hours(connection).get(settings.support_hours_id or 0)
    is_loop = bool(event.caller) and connection.execute(
        _IS_LOOP, {"caller": event.caller, "live": sorted(LIVE)}
    ).fetchone() == (True,)  # fmt: skip
    came = router.CallCame(
        settings,
        event.external_id,
        event.caller,
        event.number,
        event.caller_name,
        find_client(connection, event.caller),
        event.caller_token,
        event.is_test,
        is_within_hours=hours is None or hours.is_open(now),
        is_unreachable=event.kind is HotlineEventKind.RECORDED,
        is_loop=is_loop,
    )
    call = StoredCall(inserted[0], provider, router.begin(came, now), None, None)
    _apply(connection, call, router.Tick(), now)
    return call


# ---------- whom

_CLIENT_BY_NUMBER = """
SELECT c.entry ->> 'client' FROM inbound_clienttable t, jsonb_array_elements(t.clients) AS c(entry),
       jsonb_array_elements_text(c.entry -> 'numbers') AS n(number)
WHERE n.number = %(number)s OR (right(n.number, 1) = '*' AND starts_with(%(number)s, rtrim(n.number, '*')))
ORDER BY length(n.number) DESC, t.id LIMIT 1
"""
_CLIENT = """
SELECT (c.entry ->> 'group')::bigint AS group_id, (c.entry ->> 'policy')::bigint AS policy_id
FROM inbound_clienttable t, jsonb_array_elements(t.clients) AS c(entry)
WHERE lower(c.entry ->> 'client') = lower(%s) ORDER BY t.id LIMIT 1
"""


def find_client(connection: Connection, number: str) -> str:
    """Returns the client whose phone number this is, by the client tables; "" if it is none's."""
    row = connection.execute(_CLIENT_BY_NUMBER, {"number": number}).fetchone() if number else None
    return row[0] if row else ""


def load_plan(connection: Connection, call: RoutedCall, target: RouteTarget, now: datetime) -> router.Planned:
    """Returns whom a target rings at `now`, in order; no one if it was deleted, or no one has a phone number."""
    return plan_for(connection, target, call.settings.group_id, call.settings.priority, now)


def plan_for(
    connection: Connection, target: RouteTarget, group_id: int | None, priority: Priority, now: datetime
) -> router.Planned:
    resolved = target
    if target.kind is TargetKind.CLIENT:
        row = database.row(connection, _CLIENT, (target.text,))
        group_id = (row["group_id"] if row else None) or group_id
        policy_id = row["policy_id"] if row else None
        kind, object_id = (TargetKind.POLICY, policy_id) if policy_id else (TargetKind.GROUP, group_id)
        resolved = RouteTarget(kind, object_id, target.text)
    match resolved.kind:
        case TargetKind.POLICY:
            batches = _of_policy(connection, resolved.id, (group_id,) if group_id else (), priority, now)
        case TargetKind.SCHEDULE:
            on_call = loader.on_schedules(connection, [resolved.id or 0], now).get(resolved.id or 0)
            batches = _of_users(connection, [(one.user_id, on_call[0]) for one in on_call[1]]) if on_call else ()
        case TargetKind.GROUP:
            people = loader.on_call(connection, [resolved.id or 0], now).get(resolved.id or 0, ())
            batches = _of_users(connection, [(one.user_id, str(Term(one.role))) for one in people])
        case _:
            batches = ()
    return router.Planned(batches, resolved if resolved is not target else None)


def _of_policy(
    connection: Connection, policy_id: int | None, groups: tuple[int, ...], priority: Priority, now: datetime
) -> tuple[Batch, ...]:
    """The people of a policy, step by step, without its delays."""
    row = connection.execute("SELECT current_version_id FROM escalation_policy WHERE id = %s", (policy_id,)).fetchone()
    plan = load_plans(connection, {row[0]}).get(row[0]) if row else None
    if plan is None:
        return ()
    run = begin_run(0, plan, PagingMode.PAGE, priority, now, recipient_groups=groups)
    context = load_target_context(connection, [run], now, {})
    batches: list[Batch] = []
    for step in plan.steps:
        if step.when is not None and unmet_condition(step.when, priority, {}, context.support_hours, now):
            continue
        has_more, notified = True, frozenset[int]()
        while has_more:
            targets = resolve_targets(
                step, context, recipient_users=(), recipient_groups=groups, skip_reasons={}, paging_until={}, at=now,
                priority=priority, already_notified=notified,
            )  # fmt: skip
            batches.append(
                tuple(
                    callee
                    for user in targets.users
                    for callee in _callees(context.active_users[user.user_id], str(user.capacity))
                )
            )
            has_more = targets.has_more and bool(targets.users)
            notified |= {user.user_id for user in targets.users}
    return tuple(batches)


def _of_users(connection: Connection, users: Sequence[tuple[int, str]]) -> tuple[Batch, ...]:
    capacities: dict[int, str] = {}
    for user_id, capacity in users:
        capacities.setdefault(user_id, capacity)
    recipients = load_recipients(connection, capacities)
    return tuple(
        tuple(_callees(recipients[user_id], capacity))
        for user_id, capacity in capacities.items()
        if user_id in recipients and recipients[user_id].is_active
    )


def _callees(recipient: Recipient, capacity: str) -> Iterator[Callee]:
    """Every phone of a user: those for calls, or else those for texts."""
    phones = [method for method in recipient.usable if CHANNELS[method.channel].is_phone]
    calls = [method for method in phones if CHANNELS[method.channel].is_call]
    for number in dict.fromkeys(method.address for method in calls or phones):
        yield Callee(recipient.id, recipient.name, number, capacity)


# ---------- what becomes of a call


def _follow(connection: Connection, call: StoredCall, before: RoutedCall | None, now: datetime) -> None:
    """Opens the alert when the outcome is known, and notes on it what happens later."""
    state = call.state
    if state.outcome is not None and (before is None or before.outcome is None):
        _open_alert(connection, call, state.outcome, now)
    if call.alert_id is None:
        return
    events: list[NewEvent] = []
    if state.recording is not None and (before is None or before.recording is None):
        events.append(_event(call.alert_id, RECORDED(duration=_seconds(state.recording.seconds)), now))
    is_over = state.phase is CallPhase.ENDED and (before is None or before.phase is not CallPhase.ENDED)
    if is_over and state.answered_at is not None:
        events.append(_event(call.alert_id, ENDED(duration=_whole(now - state.answered_at)), now))
    store.insert_events(connection, events)
    if state.transcription and (before is None or not before.transcription):
        reply = Reply(actor=SYSTEM, via=CommandChannel.VOICE, text=state.transcription)
        _command(connection, call.alert_id, reply, now)
    if is_over and state.answered_at and state.settings.alert_when_answered is AnsweredAlert.CLOSED:
        _command(connection, call.alert_id, Close(actor=SYSTEM, via=CommandChannel.VOICE), now)
    if events:
        service.publish_alert_changes(connection, [call.alert_id])


def _seconds(number: int) -> timedelta:
    return timedelta(seconds=number)


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))


def _command(connection: Connection, alert_id: int, command: Command, now: datetime) -> None:
    """Applies a command. An alert that was closed, merged or deleted meanwhile stays as it is."""
    with suppress(Rejected):
        service.apply_command_within(connection, FoundAlert.by_tocsin(alert_id), command, now)


def _event(alert_id: int, reason: Reason, at: datetime, kind: EventKind = EventKind.UPDATED) -> NewEvent:
    return NewEvent(alert_id, kind, at, SYSTEM, reason, CommandChannel.VOICE)


def _has_alert(state: RoutedCall, outcome: CallOutcome) -> bool:
    if outcome is CallOutcome.ANSWERED:
        return state.settings.alert_when_answered is not AnsweredAlert.NONE
    # A loop ends in a voicemail of its own making, and whom a route refuses, no one need know of.
    return outcome is CallOutcome.VOICEMAIL or (outcome is CallOutcome.MISSED and state.cause is not Cause.LOOP)


def _open_alert(connection: Connection, call: StoredCall, outcome: CallOutcome, now: datetime) -> None:
    state, settings = call.state, call.state.settings
    if not _has_alert(state, outcome):
        return
    (alert_id,) = store.new_ids(connection, 1)
    call.alert_id = alert_id
    paging = _paging(connection, state, outcome)
    caller = state.who or localize(_WITHHELD(), settings.language)
    name = settings.name
    opened = CAME(caller=caller, route=name)
    if state.cause is not None:
        opened = joined(opened, _CAUSES[state.cause]())
    alert = NewAlert(
        id=alert_id,
        priority=settings.priority,
        subject=localize(_SUBJECTS[outcome](caller=caller), settings.language),
        opened_at=now,
        source=SOURCE,
        source_name=name,
        source_id=str(call.id),
        columns={
            "client": state.client,
            "requester": state.caller_name,
            "requester_phone": state.caller,
            "long_text": f"{localize(opened, settings.language)}.\n{_url(call.id)}",
        },
        custom={"called_number": state.called},
        is_test=state.is_test,
        group_ids=(settings.group_id,) if settings.group_id else (),
    )
    event = NewEvent(alert_id, EventKind.OPENED, now, SYSTEM, opened, CommandChannel.VOICE, {"call": call.id})
    service.create_alerts(connection, [AlertCreation(alert, paging, event)], now)
    legs = [
        _event(alert_id, _LEGS[ring.status](user=Person(ring.callee.name, ring.callee.user_id)), ring.ended_at or now)
        for ring in state.rings
        if ring.status in _LEGS
    ]
    store.insert_events(connection, legs)
    if state.accepted is not None:
        callee = state.accepted.callee
        actor = Actor(ActorKind.USER, callee.name, callee.user_id)
        assign = Assign(actor=actor, via=CommandChannel.VOICE, name=callee.name, user_id=callee.user_id)
        _command(connection, alert_id, assign, now)
    else:
        call.raise_at = _raise_at(connection, state, now)
        if settings.ticket_integration_id and not state.is_test:
            outbound.create_ticket(connection, settings.ticket_integration_id, alert_id, now)
    service.publish_alert_changes(connection, [alert_id])


def _url(call_id: int) -> str:
    return f"{environment.current().public_url}/calls/{call_id}/"


def _policy_id(state: RoutedCall) -> int | None:
    target = state.target
    rung = target.id if target is not None and target.kind is TargetKind.POLICY else None
    return state.settings.alert_policy_id or rung


def _paging(connection: Connection, state: RoutedCall, outcome: CallOutcome) -> PagingConfig:
    """Whom the alert pages: by the policy of the route; no one, if someone took the call."""
    if outcome is CallOutcome.ANSWERED:
        return PagingConfig(PagingMode.LOG_ONLY, reason=_ANSWERED_ALREADY())
    policy_id, target = _policy_id(state), state.target
    group_id = target.id if target is not None and target.kind is TargetKind.GROUP else state.settings.group_id
    groups = (group_id,) if group_id else ()
    row = connection.execute("SELECT current_version_id FROM escalation_policy WHERE id = %s", (policy_id,)).fetchone()
    if row is None:
        return PagingConfig(PagingMode.LOG_ONLY, recipient_groups=groups, reason=_NOBODY_PAGED())
    return PagingConfig(PagingMode.PAGE, row[0], recipient_groups=groups, reason=_BY_ROUTE(route=state.settings.name))


def _raise_at(connection: Connection, state: RoutedCall, now: datetime) -> datetime | None:
    """When the support hours begin, if the alert then pages again."""
    settings = state.settings
    hours = loader.support_hours(connection).get(settings.support_hours_id or 0)
    if not settings.raises_again_at_hours or hours is None or _policy_id(state) is None or hours.is_open(now):
        return None
    return hours.opens_at(now)


def _raise_again(connection: Connection, call: StoredCall, now: datetime) -> None:
    """Pages about an alert again that no one has answered since the call."""
    call.raise_at, policy_id = None, _policy_id(call.state)
    connection.execute("UPDATE calls_phonecall SET raise_at = NULL WHERE id = %s", (call.id,))
    if call.alert_id is None or policy_id is None:
        return
    store.lock(connection, [call.alert_id])
    alert = store.load(connection, [call.alert_id]).get(call.alert_id)
    if alert is None or alert.status not in ACTIVE or alert.is_owned or alert.acknowledged:
        return
    store.insert_events(connection, [_event(call.alert_id, HOURS_BEGAN(), now)])
    with suppress(Rejected):
        policies.start_policy(connection, alert, policy_id, SYSTEM, CommandChannel.VOICE, now)
    service.publish_alert_changes(connection, [call.alert_id])


# ---------- what providers carry out

#: How long a worker may take before another one takes over, and the pause before what has failed is tried again.
LEASE = timedelta(seconds=20)
RETRY = timedelta(seconds=5)
#: After this time the provider is not asked any more to end a call, or for its recording.
MAX_TRIES = timedelta(minutes=15)
MAX_PARALLEL = 16
_MAX_CLAIMED = 32
_MAX_ROUNDS = 20

IS_DUE = (
    "EXISTS (SELECT FROM calls_phonecall WHERE due_at <= %(now)s "
    "AND (claimed_until IS NULL OR claimed_until <= %(now)s))"
)
_CLAIM = """
UPDATE calls_phonecall SET claimed_until = %(until)s WHERE id IN (
  SELECT id FROM calls_phonecall WHERE due_at <= %(now)s AND (claimed_until IS NULL OR claimed_until <= %(now)s)
  ORDER BY due_at LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id
"""
_RELEASE = "UPDATE calls_phonecall SET claimed_until = NULL, due_at = %s WHERE id = %s"

#: Returns the carrier of a provider, by its name; None if it is disabled, or carries no calls.
type FindCarrier = Callable[[str], CallCarrier | None]


def calls_task(pool: ProviderPool) -> PeriodicTask:
    """Returns the task that carries out what calls need. `pool` is refreshed by the dispatcher."""
    threads = DaemonThreads(MAX_PARALLEL, "calls")

    def find_carrier(name: str) -> CallCarrier | None:
        provider = pool.get(name)
        return provider.sender if provider is not None and isinstance(provider.sender, CallCarrier) else None

    def run_once() -> bool:
        with database.transaction() as connection:
            pool.refresh(connection)
        claimed = claim(clock.now())
        for call_id in claimed:
            threads.submit(partial(_carry_out_safely, call_id, find_carrier))
        return len(claimed) == _MAX_CLAIMED

    return PeriodicTask("calls", run_once, timedelta(seconds=1), frozenset({TOPIC}), due=database.literal(IS_DUE))


def claim(now: datetime) -> list[int]:
    """Leases the calls that are due, and returns their ids."""
    with database.transaction() as connection:
        rows = connection.execute(_CLAIM, {"now": now, "until": now + LEASE, "most": _MAX_CLAIMED}).fetchall()
    return [row[0] for row in rows]


def _carry_out_safely(call_id: int, find_carrier: FindCarrier) -> None:
    try:
        carry_out(call_id, find_carrier, clock.now)
    except Exception:  # a call's edge: its lease expires, and it is tried again
        log.exception("The call %s could not be continued.", call_id)


def carry_out(call_id: int, find_carrier: FindCarrier, now: Callable[[], datetime]) -> None:
    """Does everything that a leased call needs now, and ends the lease."""
    for _ in range(_MAX_ROUNDS):
        with database.transaction() as connection:
            call = _lock(connection, _BY_ID, call_id)
            if call is None:
                return
            before, at = call.state, now()
            if call.raise_at is not None and call.raise_at <= at:
                _raise_again(connection, call, at)
            _apply(connection, call, router.Tick(), at)
            _save(connection, call, before, at)
            commands = list(router.pending(call.state))
            is_given_up = call.state.ended_at is not None and at > call.state.ended_at + MAX_TRIES
            if not commands or is_given_up:
                connection.execute(_RELEASE, (_due_at(call), call_id))
                return
        carrier = find_carrier(call.provider)
        results = run_in_time(
            {str(place): partial(_execute, call, command, carrier) for place, command in enumerate(commands)},
            LEASE,
            name="calls",
        )
        happened = [future.result() if future.done() else None for future in results.values()]
        with database.transaction() as connection:
            call = _lock(connection, _BY_ID, call_id)
            if call is None:
                return
            before, at = call.state, now()
            for result in happened:
                for event in result or ():
                    if isinstance(event, Fetched):
                        _store_recording(connection, call, event, at)
                    _apply(connection, call, router.RecordingStored() if isinstance(event, Fetched) else event, at)
            _save(connection, call, before, at)
            if None in happened:
                # Nothing else waits meanwhile: a report of the provider makes the call due at once.
                connection.execute(_RELEASE, (at + RETRY, call_id))
                return
            connection.execute("UPDATE calls_phonecall SET claimed_until = %s WHERE id = %s", (at + LEASE, call_id))
        _forget_recordings(happened, call.state, carrier)
    with database.transaction() as connection:
        connection.execute(_RELEASE, (now() + RETRY, call_id))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A recording, or why there is none."""

    content: bytes | None
    content_type: str = ""
    reason: Reason = NO_REASON


def _execute(
    call: StoredCall, command: CallCommand, carrier: CallCarrier | None
) -> Sequence[CallEvent | Fetched] | None:
    """Has the provider carry out a command. Returns what happened, or None if it is to be tried again."""
    if carrier is None:
        return _without_carrier(call, command)
    state = call.state
    try:
        match command:
            case router.Ring(ring):
                return (_ring(call, ring, carrier),)
            case router.MoveCaller():
                is_live = carrier.move(state.external_id, router.caller_steps(state))
                return (router.Shown(router.document_of(state)) if is_live else router.CallerHungUp(),)
            case router.MoveRing(ring):
                carrier.move(ring.external_id, router.ring_steps(state, ring), leg_key(call.id, ring))
                return (router.Shown(router.document_of_ring(ring), ring.number),)
            case router.EndRing(ring):
                carrier.hang_up(ring.external_id)
                return (router.RingEnded(ring.number, ring.status),)
            case router.FetchRecording(recording):
                content, content_type = carrier.fetch_recording(recording.url, recording.id)
                return (Fetched(content, content_type),)
            case router.Plan():
                return ()
            case _:
                assert_never(command)
    except Temporary as error:
        log.warning("The provider %s did not carry out %s: %s", call.provider, type(command).__name__, error.detail)
        return None
    except Permanent as error:
        log.error("The provider %s refused %s: %s", call.provider, type(command).__name__, error.detail)
        return (Fetched(None, reason=error.full_reason),) if isinstance(command, router.FetchRecording) else None


def _forget_recordings(
    happened: Sequence[Sequence[CallEvent | Fetched] | None], state: RoutedCall, carrier: CallCarrier | None
) -> None:
    """Deletes the provider's copy of a recording that is stored now."""
    is_stored = any(isinstance(event, Fetched) and event.content for result in happened for event in result or ())
    if is_stored and carrier is not None and state.recording is not None and state.recording.id:
        with suppress(Temporary, Permanent):
            carrier.delete_recording(state.recording.id)


def _ring(call: StoredCall, ring: CallRing, carrier: CallCarrier) -> CallEvent:
    settings = call.state.settings
    shows_caller = settings.caller_id is CallerId.CALLER
    try:
        external_id = carrier.ring(
            ring.callee.number,
            leg_key(call.id, ring),
            caller_id=call.state.caller if shows_caller else call.state.called,
            caller_token=call.state.caller_token if shows_caller else "",
            seconds=settings.ring_seconds,
        )
    except OutcomeUnknown:
        # The phone may ring: the provider's reports will say so.
        return router.RingRequested(ring.number, "")
    except (Temporary, Permanent) as error:
        return router.RingEnded(ring.number, LegStatus.FAILED, error.reason)
    return router.RingRequested(ring.number, external_id)


def _without_carrier(call: StoredCall, command: CallCommand) -> Sequence[CallEvent | Fetched] | None:
    why = _NO_CARRIER(provider=call.provider)
    match command:
        case router.Ring(ring):
            return (router.RingEnded(ring.number, LegStatus.FAILED, why),)
        case router.FetchRecording():
            return (Fetched(None, reason=why),)
        case _:
            return None


_STORE_RECORDING = """
UPDATE calls_phonecall SET recording = %s, recording_type = %s, recording_reason = %s, recording_until = %s
WHERE id = %s
"""


def _store_recording(connection: Connection, call: StoredCall, fetched: Fetched, now: datetime) -> None:
    until = now + timedelta(days=call.state.settings.recording_days)
    parameters = (fetched.content, fetched.content_type, fetched.reason, until, call.id)
    connection.execute(_STORE_RECORDING, parameters)
    if fetched.content is None and call.alert_id is not None and call.state.recording is not None:
        duration = _seconds(call.state.recording.seconds)
        store.insert_events(
            connection, [_event(call.alert_id, RECORDING_LOST(duration=duration, why=fetched.reason), now)]
        )
        service.publish_alert_changes(connection, [call.alert_id])


def for_lists(rows: QuerySet[PhoneCall]) -> QuerySet[PhoneCall]:
    """Calls without the bytes of their recordings and the router's state, with `has_recording`."""
    return rows.defer("recording", "state").annotate(
        has_recording=ExpressionWrapper(Q(recording__isnull=False), output_field=BooleanField())
    )


#: What browsers play, and never execute.
PLAYABLE = frozenset({"audio/mpeg", "audio/wav", "audio/x-wav", "audio/ogg", "audio/mp4", "application/octet-stream"})


def playable_type(call: PhoneCall) -> str:
    """Returns the content type of a recording, as far as the vendor's is one of a recording."""
    return call.recording_type if call.recording_type in PLAYABLE else "application/octet-stream"


def delete_recording(call: PhoneCall, *, actor: AuditActor, now: datetime) -> None:
    """Deletes what was said on a call before its time, which the audit log notes."""
    PhoneCall._base_manager.filter(pk=call.pk).update(recording=None, recording_until=None, transcription="")
    audit.record_change(
        actor, now=now, object_type="call", object_id=call.pk, object_name=call.route_name,
        before={"recording_seconds": call.recording_seconds}, after=None,
    )  # fmt: skip


# ---------- retention

#: Recordings are kept for as long as their route said; calls as long as deliveries, with what they say of people.
_OLD_RECORDINGS = """
UPDATE calls_phonecall SET recording = NULL, recording_until = NULL, transcription = '',
  state = state || '{"transcription": ""}'
WHERE id IN (SELECT id FROM calls_phonecall WHERE recording_until < %(before)s ORDER BY recording_until LIMIT %(chunk)s)
"""
_OLD_CALLS = f"""
DELETE FROM calls_phonecall WHERE id IN (
  SELECT c.id FROM calls_phonecall c
  WHERE c.started_at < %(before)s AND c.ended_at IS NOT NULL AND c.recording IS NULL
  AND NOT {is_about("c.alert_id", IS_ACTIVE)}
  ORDER BY c.started_at LIMIT %(chunk)s)
"""
EXPIRIES = (Expiry(_OLD_RECORDINGS, timedelta()), Expiry(_OLD_CALLS, settings_store.DELIVERY_RETENTION_DAYS.name))
TIMERS = Timers("calls_phonecall", ("due_at", "claimed_until"))


def erase_user(user_id: int) -> None:
    """Erases the numbers at which the user was rung. Runs inside the caller's transaction, before the user is deleted.
    The call's own copy of them goes too, once it has ended."""
    calls = CallLeg.objects.filter(user=user_id).values("call")
    for call in PhoneCall.objects.filter(pk__in=calls).order_by("pk").select_for_update():
        for ring in call.state.get("rings", ()):
            if ring["callee"]["user_id"] == user_id:
                ring["callee"]["number"] = ""
        call.state["queue"] = [
            [number, [callee for callee in batch if callee["user_id"] != user_id]]
            for number, batch in call.state.get("queue", ())
        ]
        call.save(update_fields=["state"])
    CallLeg.objects.filter(user=user_id).update(number="", reason=NO_REASON)
