"""The whole chain for a payload at an instant: mapping, rule, route, alert, and whom it would page, by what and when.

The same compiled and pure parts as the live path, on the alerts, people and schedules as they are now. Sends and
stores nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from tocsin.alerts.openings import NewAlert, Opening
from tocsin.alerts.orders import AlertState
from tocsin.alerts.reactors import PagingMode
from tocsin.alerts.states import AlertStatus
from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash, uuid7
from tocsin.escalation import forecast, plans, rosters
from tocsin.escalation.engine import begin
from tocsin.escalation.follow import follow
from tocsin.escalation.policy import RECIPIENTS_ONLY
from tocsin.escalation.runs import Decision as Turn
from tocsin.escalation.runs import RunState
from tocsin.escalation.targets import Roster
from tocsin.inbound import keys, unreadable
from tocsin.inbound.decide import Arrival, Decision, KeyState, decide, failed, switched_off
from tocsin.inbound.decode import Element, decode
from tocsin.inbound.door import Door
from tocsin.inbound.outcomes import IntegrationMode, MessageStatus
from tocsin.inbound.reading import Reading
from tocsin.inbound.registry import Registry, UnknownDoor
from tocsin.inbound.trace import Trace, explain
from tocsin.notify import pause, queue
from tocsin.notify.plan import Start

#: A policy with more turns than this is cut short, with a note: nobody reads on.
MOST_TURNS = 200

#: Stands for the number that a new alert would get.
NEW_ALERT = 0


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """One page that would leave: to whom, by what, when, and why. `problem` says why it could not."""

    at: datetime
    after: timedelta
    #: None: a group contact, which `name` names.
    user_id: int | None
    name: str
    label: str
    channel: str
    address: str
    reason: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """One line that the alert's timeline would get."""

    at: datetime
    after: timedelta
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message would do."""

    status: MessageStatus
    reason: str
    trace: Trace | None
    #: The live alert that it would reach.
    alert_id: int | None = None
    #: The alert that it would open.
    alert: NewAlert | None = None
    mode: PagingMode | None = None
    route: str = ""
    why: str = ""
    pages: tuple[PlannedPage, ...] = ()
    timeline: tuple[Happening, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a body would do: one outcome for each message in it."""

    integration: str
    at: datetime
    outcomes: tuple[Outcome, ...]


def simulate(
    integration_id: int, body: bytes, content_type: str, at: datetime, registry: Registry | None = None
) -> Simulation:
    """What `body` would do at `at`, were it posted to that integration. `registry` is one that is loaded already.

    Raises UnknownDoor for an integration that is gone, or whose configuration cannot be compiled.
    """
    known = registry or Registry()
    known.refresh()
    door = known.door(integration_id)
    if door.problem is not None:
        raise UnknownDoor(integration_id)
    return simulate_door(door, body, content_type, at)


def simulate_door(door: Door, body: bytes, content_type: str, at: datetime, *, most: int | None = None) -> Simulation:
    """What `body` would do by that door, which may be one that nobody has saved yet. `most`: so many of a body's
    messages are looked at."""
    return Simulation(door.name, at, tuple(islice(_outcomes(door, body, content_type, at), most)))


def _outcomes(door: Door, body: bytes, content_type: str, at: datetime) -> Iterable[Outcome]:
    off = switched_off() if door.mode is IntegrationMode.DISABLED else None
    try:
        elements = decode(body, content_type, lenient=door.reader.kind.lenient).elements
    except Rejected as problem:
        yield _off(off, None) if off else _unreadable(door, problem, body, at)
        return
    states: dict[bytes, KeyState] = {}
    for element in elements:
        trace = explain(door.reader, element, lambda hours: door.in_hours(hours, at))
        if off:
            yield _off(off, trace)
            continue
        reading = door.reader.read(element)
        if isinstance(reading, Rejected):
            yield replace(_unreadable(door, reading, element.raw, at), trace=trace)
        else:
            yield _decided(door, reading, element, trace, states, at)


def _off(decision: Decision, trace: Trace | None) -> Outcome:
    return Outcome(decision.status, decision.reason, trace)


def _unreadable(door: Door, rejected: Rejected, raw: bytes, at: datetime) -> Outcome:
    hashed = unreadable.key_of(door)
    key = _state(hashed, {})
    decision = unreadable.fail_open(
        door, _arrival(at), failed(rejected), rejected, raw, key, hashed, lambda: NEW_ALERT, at
    )
    return _outcome(decision, None, at)


def _decided(
    door: Door, reading: Reading, element: Element, trace: Trace, states: dict[bytes, KeyState], at: datetime
) -> Outcome:
    text = door.dedup_key(reading)
    arrival = _arrival(at)
    hashed = key_hash(text if text is not None else f"{door.source}\x1f\x1f{arrival.message_id}")
    key = _state(hashed, states)
    decision = decide(door, arrival, reading, key, None, hashed, lambda: NEW_ALERT, at)
    states[hashed] = decision.key
    outcome = _outcome(decision, trace, at)
    if decision.status is not MessageStatus.APPENDED:
        return outcome
    # Whoever tries a payload out wants to know whom it would page, also while its alert is live.
    fresh = decide(door, arrival, reading, KeyState(), None, hashed, lambda: NEW_ALERT, at)
    if fresh.opening is None:
        return outcome
    note = f"Alert {decision.alert_id} is live, so nobody would be paged again. What follows is as if it were not."
    return replace(
        _outcome(fresh, trace, at),
        status=decision.status,
        reason=decision.reason,
        alert_id=decision.alert_id,
        notes=(note, *reading.notes),
    )


def _arrival(at: datetime) -> Arrival:
    return Arrival(uuid7(), at)


def _state(hashed: bytes, known: dict[bytes, KeyState]) -> KeyState:
    """The key as it stands: after the messages before this one, else as the database has it."""
    if hashed not in known:
        with database.transaction() as connection:
            standing = keys.take(connection, [hashed], [], wait=True, replaying=True)
        known[hashed] = standing.states.get(hashed, KeyState())
    return known[hashed]


def _outcome(decision: Decision, trace: Trace | None, at: datetime) -> Outcome:
    live = decision.alert_id if decision.alert_id != NEW_ALERT else None
    outcome = Outcome(decision.status, decision.reason, trace, alert_id=live)
    opening = decision.opening
    if opening is None:
        return outcome
    with database.transaction() as connection:
        pages, timeline, notes = _escalation(connection, opening, decision, at)
    return replace(
        outcome,
        alert=opening.alert,
        mode=opening.paging.mode,
        route=str(decision.verdict.get("route", "")),
        why=opening.paging.reason,
        pages=pages,
        timeline=timeline,
        notes=notes,
    )


def _escalation(
    connection: Connection, opening: Opening, decision: Decision, at: datetime
) -> tuple[tuple[PlannedPage, ...], tuple[Happening, ...], tuple[str, ...]]:
    """The pages, the timeline and the notes of a new alert, if nobody acts."""
    run, alert = _begin(connection, opening, decision, at)

    def roster_at(moment: datetime) -> Roster:
        return rosters.roster(connection, [run], moment)

    turns = forecast.play(run, alert, roster_at, most=MOST_TURNS)
    timeline = [Happening(at, timedelta(), opening.event.reason)]
    pages: list[PlannedPage] = []
    for moment, turn in turns:
        timeline += [Happening(moment, moment - at, event.reason) for event in turn.events]
        planned, unreachable = _pages(connection, turn, at)
        pages += planned
        timeline += [Happening(moment, moment - at, sentence) for sentence in unreachable]
    return tuple(sorted(pages, key=lambda page: page.at)), tuple(timeline), tuple(_notes(connection, run, turns, at))


def _begin(connection: Connection, opening: Opening, decision: Decision, at: datetime) -> tuple[RunState, AlertState]:
    """The new run, with whatever the opening message itself does to it: a ticket that has an agent already."""
    paging = opening.paging
    known = plans.plans(connection, {paging.version_id})
    run = begin(
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


def _pages(connection: Connection, turn: Turn, at: datetime) -> tuple[list[PlannedPage], list[str]]:
    """What a turn would put into the outbox; in watch mode, what it would have put."""
    starts = [Start(NEW_ALERT, s.at, s.reason, user_id=s.pick.user_id) for s in (*turn.starts, *turn.would)]
    starts += [Start(NEW_ALERT, c.at, c.reason, group_contact_id=c.contact_id) for c in turn.contacts]
    planned = queue.plan_of(connection, starts)
    names = {s.pick.user_id: s.pick.name for s in (*turn.starts, *turn.would)}
    labels = {c.contact_id: c.label for c in turn.contacts}
    pages = [
        PlannedPage(
            at=page.due_at,
            after=page.due_at - at,
            user_id=page.start.user_id,
            name=names.get(page.start.user_id or 0) or labels.get(page.start.group_contact_id or 0, page.label),
            label=page.label,
            channel=page.channel,
            address=page.address,
            reason=page.reason,
            problem=page.problem,
        )
        for page in planned.pages
    ]
    return pages, [found.reason for found in planned.unreachable]


def _notes(connection: Connection, run: RunState, turns: tuple[object, ...], at: datetime) -> Iterable[str]:
    if run.mode is PagingMode.WATCH:
        yield "The integration only watches: nobody would be paged; these are the pages that it would otherwise send."
    if len(turns) >= MOST_TURNS:
        yield f"Only the first {MOST_TURNS} turns of the policy are shown."
    held = pause.current(connection, at)
    if held is not None:
        yield held.sentence
