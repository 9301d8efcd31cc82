"""The lifecycle of an alert: (state, command, now) → new state and events, or a rejection that describes the state.

Pure: never reads, writes or sends anything. `apply` is the entry; after the commands come undo, and what a source's
messages change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

from msgspec.structs import replace

from tocsin.alerts import states
from tocsin.alerts.commands import (
    SYSTEM,
    Acknowledge,
    Acknowledged,
    Actor,
    AlertState,
    Assign,
    BaseCommand,
    Cancel,
    Close,
    Command,
    Escalate,
    ExpireAcknowledgement,
    Hold,
    LastEvent,
    Merge,
    NewEvent,
    Reopen,
    Reply,
    Resume,
    Transition,
    Unacknowledge,
    Unassign,
)
from tocsin.alerts.commands import Undo as UndoCommand
from tocsin.alerts.states import ACTIVE, TERMINAL, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Ago, AlertRef, Person, Reason, ReasonType, Term, as_reason, joined

# ---------- commands


#: How long a closed alert can be reopened. After that, a new alert is clearer.
REOPEN_WINDOW = timedelta(hours=24)

#: Two assignments within this span count as simultaneous: the first wins, and the second is rejected.
SIMULTANEOUS_WINDOW = timedelta(seconds=5)

#: A longer hold is a typing error.
MAX_HOLD = timedelta(days=366)

_NEEDS_USER = ReasonType("command.needs_user", "Only a Tocsin user can do this. Sign in first.")
_NEEDS_ASSIGNEE = ReasonType("command.needs_assignee", "Enter an assignee: a user, or a name.")
_ASSIGNED_TO_SOMEBODY_ELSE = ReasonType(
    "command.assigned_at_the_same_time", "Alert {alert} was assigned to {user} {ago}. Nothing to do."
)
_NEEDS_TEXT = ReasonType("command.needs_text", "A note requires a text.")
_SNOOZE_ENDS_IN_PAST = ReasonType("command.snooze_ends_in_past", "A snooze must end in the future.")
_SNOOZE_TOO_LONG = ReasonType("command.snooze_too_long", "A snooze can last a year at most.")
_MERGED_INTO_ITSELF = ReasonType("command.merged_into_itself", "An alert cannot be merged into itself.")
_TOO_LATE_TO_REOPEN = ReasonType(
    "command.too_late_to_reopen",
    "Alert {alert} ended {ago}. An alert can be reopened within 24 hours after it ended.",
)


def apply(state: AlertState, command: Command, now: datetime) -> Transition:
    """Applies `command` to `state` at `now`. A repeated command that changes nothing returns no events.

    Raises Rejected with a sentence for the actor: `already_closed`, `already_cancelled`, `merged`, `already_assigned`,
    `not_closed`, `too_late`, `key_taken`, `not_possible`, `needs_person`, or `invalid` (with a field).
    """
    match command:
        case Acknowledge():
            return _acknowledge(state, command, now)
        case Unacknowledge():
            return _unacknowledge(state, command, now)
        case ExpireAcknowledgement():
            return _expire(state, command, now)
        case Assign():
            return _assign(state, command, now)
        case Unassign():
            return _unassign(state, command, now)
        case Escalate():
            _require_active(state, now)
            event, answer = states.ESCALATED(actor=command.actor.person), states.ESCALATING(alert=AlertRef(state.id))
            return _user_transition(state, state, command, now, EventKind.ESCALATED, event, answer)
        case Reply():
            return _reply(state, command, now)
        case Hold():
            return _hold(state, command, now)
        case Resume():
            return _resume(state, command, now)
        case Close():
            return _end(state, command, now, AlertStatus.CLOSED)
        case Cancel():
            return _end(state, command, now, AlertStatus.CANCELLED)
        case Merge():
            return _merge(state, command, now)
        case Reopen():
            return _reopen(state, command, now)
        case UndoCommand():
            return undo(state, command, now)
        case _:
            assert_never(command)


def describe_state(state: AlertState, now: datetime) -> Reason:
    """Describes the alert's state, for an actor whose command came too late."""
    alert = AlertRef(state.id)
    match state.status:
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            return _describe_end(state, now)
        case AlertStatus.MERGED:
            return states.WAS_MERGED(alert=alert, into=AlertRef(state.merged_into or 0))
        case AlertStatus.ON_HOLD:
            remaining = (state.hold_until or now) - now
            if state.is_owned:
                return states.STATE_SNOOZED_ASSIGNED(alert=alert, duration=remaining, user=state.owner)
            return states.STATE_SNOOZED(alert=alert, duration=remaining)
        case AlertStatus.ASSIGNED:
            return states.STATE_ASSIGNED(alert=alert, user=state.owner)
        case AlertStatus.OPEN:
            return states.STATE_OPEN(alert=alert)
        case _:
            assert_never(state.status)


def _describe_end(state: AlertState, now: datetime) -> Reason:
    alert, last = AlertRef(state.id), state.last_event
    ago = Ago(now - (state.closed_at or (last.at if last else now)))
    is_closed = state.status is AlertStatus.CLOSED
    if last is not None and last.kind in (EventKind.CLOSED, EventKind.CANCELLED):
        kind = states.WAS_CLOSED_BY if is_closed else states.WAS_CANCELLED_BY
        return kind(alert=alert, actor=Person(last.actor_name, last.actor_id), ago=ago)
    return (states.WAS_CLOSED if is_closed else states.WAS_CANCELLED)(alert=alert, ago=ago)


def on_parent_ended(child: AlertState, now: datetime) -> Transition:
    """Frees the dedup key of a merged alert whose parent was closed or cancelled, for a new alert."""
    if not child.holds_key:
        return Transition(child, states.KEY_IS_FREE())
    reason = states.KEY_RELEASED(parent=AlertRef(child.merged_into or 0))
    return _system_transition(child, replace(child, holds_key=False), now, EventKind.KEY_RELEASED, reason)


def release_stale_key(state: AlertState, now: datetime) -> Transition:
    """Frees a dedup key that an alert still owns in error: it is over, or merged into one that is not active."""
    after = replace(state, holds_key=False)
    return _system_transition(state, after, now, EventKind.KEY_RELEASED, states.STALE_KEY_RELEASED())


def on_parent_reopened(child: AlertState, now: datetime) -> Transition:
    """Gives a merged alert its dedup key back, because its parent is active again, unless a newer alert holds it."""
    if child.holds_key or child.key_owner_id is not None:
        return Transition(child, states.KEY_UNCHANGED())
    reason = states.KEY_RESTORED(parent=AlertRef(child.merged_into or 0))
    return _system_transition(child, replace(child, holds_key=True), now, EventKind.KEY_RESTORED, reason)


def _acknowledge(state: AlertState, command: Acknowledge, now: datetime) -> Transition:
    user_id = _require_user(command)
    _require_active(state, now, with_advice=True)
    previous = state.acknowledged.get(user_id)
    is_confirmation = user_id in state.reminded_user_ids
    alert = AlertRef(state.id)
    if previous is not None and not is_confirmation:
        return Transition(state, states.YOU_ACKNOWLEDGED_ALREADY(alert=alert, ago=Ago(now - previous.at)))
    after = replace(
        state,
        acknowledged={**state.acknowledged, user_id: Acknowledged(now, command.actor.name)},
        reminded_user_ids=state.reminded_user_ids - {user_id},
        awaits_acceptance=state.awaits_acceptance and user_id != state.owner_id,
    )
    event, answer = (
        (states.ACKNOWLEDGEMENT_CONFIRMED, states.YOU_CONFIRMED)
        if is_confirmation
        else (states.ACKNOWLEDGED, states.YOU_ACKNOWLEDGED)
    )
    return _user_transition(
        state,
        after,
        command,
        now,
        EventKind.ACKNOWLEDGED,
        event(actor=command.actor.person),
        answer(alert=alert),
        {"again": True} if is_confirmation else {},
    )


def _unacknowledge(state: AlertState, command: Unacknowledge, now: datetime) -> Transition:
    user_id = _require_user(command)
    _require_active(state, now)
    alert = AlertRef(state.id)
    if user_id not in state.acknowledged:
        return Transition(state, states.YOU_DID_NOT_ACKNOWLEDGE(alert=alert))
    after = _without_acknowledgement(state, user_id)
    event, answer = states.UNACKNOWLEDGED(actor=command.actor.person), states.YOU_UNACKNOWLEDGED(alert=alert)
    return _user_transition(state, after, command, now, EventKind.UNACKNOWLEDGED, event, answer)


def _expire(state: AlertState, command: ExpireAcknowledgement, now: datetime) -> Transition:
    acknowledgement = state.acknowledged.get(command.user_id)
    if acknowledgement is None or state.status not in ACTIVE:
        return Transition(state, states.NO_SUCH_ACKNOWLEDGEMENT())
    after = _without_acknowledgement(state, command.user_id)
    user = Person(acknowledgement.name, command.user_id)
    reason = states.ACKNOWLEDGEMENT_EXPIRED(user=user, ago=Ago(now - acknowledgement.at))
    if command.note:
        reason = states.ACKNOWLEDGEMENT_ENDED(user=user, reason=as_reason(command.note))
    return _system_transition(
        state, after, now, EventKind.ACKNOWLEDGEMENT_EXPIRED, reason, command, {"user_id": command.user_id}
    )


def _without_acknowledgement(state: AlertState, user_id: int) -> AlertState:
    remaining = {other: entry for other, entry in state.acknowledged.items() if other != user_id}
    return replace(state, acknowledged=remaining, reminded_user_ids=state.reminded_user_ids - {user_id})


def _assign(state: AlertState, command: Assign, now: datetime) -> Transition:
    name = command.name.strip()
    if not name:
        raise Rejected("invalid", _NEEDS_ASSIGNEE(), "user")
    _require_active(state, now)
    alert, actor, user = AlertRef(state.id), command.actor.person, Person(name, command.user_id)
    to_self = command.user_id is not None and command.user_id == command.actor.user_id
    if (state.owner_id, state.owner_name) == (command.user_id, name) or (
        command.user_id is not None and state.owner_id == command.user_id
    ):
        if to_self and state.awaits_acceptance:
            after = replace(state, awaits_acceptance=False)
            event, answer = states.ACCEPTED(actor=actor), states.YOU_ACCEPTED(alert=alert)
            return _user_transition(state, after, command, now, EventKind.ACCEPTED, event, answer)
        if to_self:
            return Transition(state, states.ASSIGNED_TO_YOU_ALREADY(alert=alert))
        return Transition(state, states.ASSIGNED_TO_ALREADY(alert=alert, user=user))
    _reject_concurrent_assignment(state, command, now)
    after = replace(state, owner_id=command.user_id, owner_name=name, awaits_acceptance=False)
    if state.status is not AlertStatus.ON_HOLD:
        after = replace(after, status=AlertStatus.ASSIGNED)
    match to_self, state.is_owned:
        case True, True:
            event = states.REASSIGNED_TO_SELF(actor=actor, previous=state.owner)
        case True, False:
            event = states.ASSIGNED_TO_SELF(actor=actor)
        case _:
            event = describe_assignment(state, actor, user)
    answer = states.ASSIGNED_TO_YOU(alert=alert) if to_self else states.ASSIGNED_TO(alert=alert, user=user)
    data: dict[str, object] = {"user_id": command.user_id, "name": name}
    return _user_transition(state, after, command, now, EventKind.ASSIGNED, event, answer, data)


def describe_assignment(before: AlertState, actor: Person, user: Person) -> Reason:
    """Returns the event of an assignment to somebody other than the actor."""
    if before.is_owned:
        return states.REASSIGNED(actor=actor, previous=before.owner, user=user)
    return states.ASSIGNED(actor=actor, user=user)


def _reject_concurrent_assignment(state: AlertState, command: Assign, now: datetime) -> None:
    """Rejects an assignment by an actor who could not know that another actor had just assigned the alert."""
    last = state.last_event
    if last is None or last.kind is not EventKind.ASSIGNED or not state.is_owned:
        return
    if command.actor.is_same(last.actor_kind, last.actor_id, last.actor_name):
        return
    is_unseen = command.seen_at is not None and last.at > command.seen_at
    if is_unseen or now - last.at < SIMULTANEOUS_WINDOW:
        raise Rejected(
            "already_assigned",
            _ASSIGNED_TO_SOMEBODY_ELSE(alert=AlertRef(state.id), user=state.owner, ago=Ago(now - last.at)),
        )


def _unassign(state: AlertState, command: Unassign, now: datetime) -> Transition:
    _require_active(state, now)
    alert, actor = AlertRef(state.id), command.actor.person
    if not state.is_owned:
        return Transition(state, states.IS_UNASSIGNED_ALREADY(alert=alert))
    # Everybody who acknowledged stopped working on it when it was assigned, so escalation starts again for all.
    after = replace(state, owner_id=None, owner_name="", acknowledged={}, reminded_user_ids=frozenset())
    after = replace(after, awaits_acceptance=False)
    if state.status is not AlertStatus.ON_HOLD:
        after = replace(after, status=AlertStatus.OPEN)
    is_own = state.owner_id is not None and state.owner_id == command.actor.user_id
    event = states.UNASSIGNED_SELF(actor=actor) if is_own else states.UNASSIGNED(actor=actor, user=state.owner)
    return _user_transition(state, after, command, now, EventKind.UNASSIGNED, event, states.IS_UNASSIGNED(alert=alert))


def _reply(state: AlertState, command: Reply, now: datetime) -> Transition:
    text = command.text.strip()
    if not text:
        raise Rejected("invalid", _NEEDS_TEXT(), "text")
    event, answer = states.NOTE_ADDED(actor=command.actor.person), states.NOTE_WAS_ADDED(alert=AlertRef(state.id))
    return _user_transition(state, state, command, now, EventKind.REPLIED, event, answer, {"text": text})


def _hold(state: AlertState, command: Hold, now: datetime) -> Transition:
    _require_active(state, now)
    if command.until <= now:
        raise Rejected("invalid", _SNOOZE_ENDS_IN_PAST(), "until")
    if command.until - now > MAX_HOLD:
        raise Rejected("invalid", _SNOOZE_TOO_LONG(), "until")
    is_on_hold = state.status is AlertStatus.ON_HOLD
    if is_on_hold and state.hold_until == command.until:
        return Transition(state, describe_state(state, now))
    after = replace(state, status=AlertStatus.ON_HOLD, hold_until=command.until, reminded_user_ids=frozenset())
    duration = command.until - now
    event = (states.SNOOZE_CHANGED if is_on_hold else states.SNOOZED)(actor=command.actor.person, duration=duration)
    answer = states.IS_SNOOZED(alert=AlertRef(state.id), duration=duration)
    data: dict[str, object] = {"until": command.until.isoformat()}
    return _user_transition(state, after, command, now, EventKind.PUT_ON_HOLD, event, answer, data)


def _resume(state: AlertState, command: Resume, now: datetime) -> Transition:
    _require_active(state, now)
    alert = AlertRef(state.id)
    if state.status is not AlertStatus.ON_HOLD:
        return Transition(state, states.IS_NOT_SNOOZED(alert=alert))
    after = replace(state, status=AlertStatus.ASSIGNED if state.is_owned else AlertStatus.OPEN, hold_until=None)
    if command.actor.user_id is None and state.hold_until is not None and state.hold_until <= now:
        return _system_transition(state, after, now, EventKind.RESUMED, states.SNOOZE_ENDED(), command)
    event, answer = states.SNOOZE_CANCELLED(actor=command.actor.person), states.SNOOZE_HAS_ENDED(alert=alert)
    return _user_transition(state, after, command, now, EventKind.RESUMED, event, answer)


def _end(state: AlertState, command: Close | Cancel, now: datetime, status: AlertStatus) -> Transition:
    event, kind, answer, already = (
        (states.CLOSED, EventKind.CLOSED, states.IS_CLOSED, states.IS_CLOSED_ALREADY)
        if status is AlertStatus.CLOSED
        else (states.CANCELLED, EventKind.CANCELLED, states.IS_CANCELLED, states.IS_CANCELLED_ALREADY)
    )
    alert = AlertRef(state.id)
    if state.status in TERMINAL:
        last = state.last_event
        is_own = last is not None and command.actor.is_same(last.actor_kind, last.actor_id, last.actor_name)
        if is_own and state.status is status:
            return Transition(state, already(alert=alert))
        raise Rejected(f"already_{state.status}", describe_state(state, now))
    after = replace(
        state,
        status=status,
        closed_at=now,
        hold_until=None,
        reminded_user_ids=frozenset(),
        awaits_acceptance=False,
        holds_key=False,
    )
    return _user_transition(state, after, command, now, kind, event(actor=command.actor.person), answer(alert=alert))


def _merge(state: AlertState, command: Merge, now: datetime) -> Transition:
    into, actor = command.into, command.actor
    alert, parent = AlertRef(state.id), AlertRef(into.id)
    if into.id == state.id:
        raise Rejected("invalid", _MERGED_INTO_ITSELF(), "into")
    if state.status is AlertStatus.MERGED and state.merged_into == into.id:
        return Transition(state, states.IS_MERGED_ALREADY(alert=alert, into=parent))
    _require_active(state, now)
    if into.status not in ACTIVE:
        raise Rejected("not_possible", describe_state(into, now), "into")
    after = replace(
        state,
        status=AlertStatus.MERGED,
        merged_into=into.id,
        hold_until=None,
        reminded_user_ids=frozenset(),
        awaits_acceptance=False,
        children=(),
    )
    data: dict[str, object] = {"into": into.id}
    if state.children:
        data["moved"] = list(state.children)
    event, answer = states.MERGED(actor=actor.person, into=parent), states.IS_MERGED(alert=alert, into=parent)
    transition = _user_transition(state, after, command, now, EventKind.MERGED, event, answer, data)
    parent_reason = states.MERGED_INTO_THIS(actor=actor.person, alert=alert)
    parent_event = NewEvent(
        into.id, EventKind.MERGED_INTO_THIS, now, actor, parent_reason, command.via, {"alert_id": state.id}
    )
    child_reason = states.MERGED_ALONG(actor=actor.person, alert=alert, into=parent)
    child_events = tuple(
        NewEvent(child, EventKind.UPDATED, now, actor, child_reason, command.via, {"into": into.id})
        for child in state.children
    )
    moves = tuple((child, into.id) for child in state.children)
    return replace(transition, events=(*transition.events, parent_event, *child_events), child_moves=moves)


def _reopen(state: AlertState, command: Reopen, now: datetime) -> Transition:
    _require_user(command)
    if state.status is AlertStatus.MERGED:
        raise Rejected("merged", describe_state(state, now))
    if state.status not in TERMINAL:
        raise Rejected("not_closed", describe_state(state, now))
    alert = AlertRef(state.id)
    if state.closed_at is not None and now - state.closed_at > REOPEN_WINDOW:
        raise Rejected("too_late", _TOO_LATE_TO_REOPEN(alert=alert, ago=Ago(now - state.closed_at)))
    require_key(state)
    after = replace(
        state,
        status=AlertStatus.OPEN,
        owner_id=None,
        owner_name="",
        acknowledged={},
        closed_at=None,
        holds_key=True,
        merged_into=None,
    )
    event, answer = states.REOPENED(actor=command.actor.person), states.IS_REOPENED(alert=alert)
    return _user_transition(state, after, command, now, EventKind.REOPENED, event, answer)


def _require_active(state: AlertState, now: datetime, *, with_advice: bool = False) -> None:
    if state.status in ACTIVE:
        return
    code = "merged" if state.status is AlertStatus.MERGED else f"already_{state.status}"
    advice = states.NOTHING_TO_DO() if with_advice and state.status in TERMINAL else NO_REASON
    raise Rejected(code, joined(describe_state(state, now), advice, separator=" "))


def _require_user(command: BaseCommand) -> int:
    if command.actor.user_id is None:
        raise Rejected("needs_person", _NEEDS_USER())
    return command.actor.user_id


def _user_transition(
    before: AlertState,
    after: AlertState,
    command: BaseCommand,
    now: datetime,
    kind: EventKind,
    event: Reason,
    answer: Reason,
    data: Mapping[str, object] | None = None,
) -> Transition:
    """Returns the transition with its single event, which stores the values that an undo restores."""
    note = command.note if isinstance(command.note, Reason) else command.note.strip()
    reason = states.WITH_NOTE(event=event, note=note) if note else event
    event_data = {**(data or {}), **({"note": str(note)} if note else {}), **undo_data(before, after)}
    return Transition(after, answer, (NewEvent(before.id, kind, now, command.actor, reason, command.via, event_data),))


def _system_transition(
    before: AlertState,
    after: AlertState,
    now: datetime,
    kind: EventKind,
    reason: Reason,
    command: BaseCommand | None = None,
    data: Mapping[str, object] | None = None,
) -> Transition:
    """Returns a transition made by Tocsin itself."""
    return Transition(after, reason, (system_event(before.id, kind, now, reason, command, data),))


# ---------- undo
# Reverses an actor's own last command: the data that an event stores for that, and the conditions. Pure.


#: How long a command can be undone.
UNDO_WINDOW = timedelta(minutes=1)

_UNDOABLE = {
    EventKind.ACKNOWLEDGED: states.ACKNOWLEDGEMENT,
    EventKind.UNACKNOWLEDGED: states.UNACKNOWLEDGEMENT,
    EventKind.ASSIGNED: states.ASSIGNMENT,
    EventKind.UNASSIGNED: states.UNASSIGNMENT,
    EventKind.PUT_ON_HOLD: states.SNOOZE,
    EventKind.RESUMED: states.SNOOZE_END,
    EventKind.CLOSED: states.CLOSE,
    EventKind.CANCELLED: states.CANCEL,
    EventKind.MERGED: states.MERGE,
}

#: Commands with an effect outside Tocsin cannot be undone.
_NOT_UNDOABLE = {
    EventKind.REPLIED: ReasonType(
        "command.note_not_undoable", "A note cannot be undone: it may already have been read."
    ),
    EventKind.ESCALATED: ReasonType(
        "command.escalation_not_undoable", "An escalation cannot be undone: someone may already have been paged."
    ),
    EventKind.REOPENED: ReasonType(
        "command.reopening_not_undoable", "Reopening cannot be undone. Close the alert instead."
    ),
    EventKind.UNDONE: ReasonType("command.undo_not_undoable", "This was already undone. Repeat the command instead."),
    EventKind.MERGED_INTO_THIS: ReasonType(
        "command.merge_into_this_not_undoable", "Undo the merge on the alert that was merged into this one."
    ),
    EventKind.OPENED: ReasonType(
        "command.opening_not_undoable", "There is nothing to undo. Close the alert as a false alarm instead."
    ),
}
_NOT_UNDOABLE_OTHERWISE = ReasonType("command.not_undoable", "This cannot be undone.")
_NOTHING_TO_UNDO = ReasonType("command.nothing_to_undo", "You have no command to undo on alert {alert}.")
_CHANGED_SINCE = ReasonType(
    "command.changed_since", "{user} changed alert {alert} after you, so you have no command to undo."
)
_UNDO_TOO_LATE = ReasonType("command.undo_too_late", "A command can be undone within one minute.")
_RESPONDER_DELETED = ReasonType(
    "command.responder_deleted", "Alert {alert} cannot be restored: the account of its previous responder was deleted."
)
_KEY_TAKEN = ReasonType("command.key_taken", "Alert {alert} is open for the same problem. Use that one instead.")

_FIELDS = ("status", "owner_id", "owner_name", "hold_until", "closed_at", "merged_into")


def undo(state: AlertState, command: UndoCommand, now: datetime) -> Transition:
    """Returns the state before the actor's own last command, given within a minute and with nothing else since.

    `state.deleted_user_ids` holds the users deleted in the meantime. Raises Rejected: `not_possible`, `too_late`,
    `key_taken`.
    """
    last, alert, actor = state.last_event, AlertRef(state.id), command.actor.person
    if last is None or command.actor.user_id is None:
        raise Rejected("not_possible", _NOTHING_TO_UNDO(alert=alert))
    if last.actor_id != command.actor.user_id:
        raise Rejected("not_possible", _CHANGED_SINCE(user=Person(last.actor_name, last.actor_id), alert=alert))
    if last.kind not in _UNDOABLE:
        raise Rejected("not_possible", _NOT_UNDOABLE.get(last.kind, _NOT_UNDOABLE_OTHERWISE)())
    if now - last.at > UNDO_WINDOW:
        raise Rejected("too_late", _UNDO_TOO_LATE())
    before = _restore(state, last.data.get("before"))
    _reject_deleted_users(state, before)
    holds_key = before.status in ACTIVE or (before.status is AlertStatus.MERGED and not state.is_parent_ended)
    if holds_key and not state.holds_key:
        require_key(state)
    before = replace(before, holds_key=holds_key)
    undone = _UNDOABLE[last.kind]()
    data = {"undone": str(last.kind), **({"note": str(command.note)} if command.note else {})}
    reason = states.UNDONE(actor=actor, command=undone)
    event = NewEvent(state.id, EventKind.UNDONE, now, command.actor, reason, command.via, data)
    child_ids = last.data.get("moved") if last.kind is EventKind.MERGED else None
    moves = tuple((int(child), state.id) for child in child_ids) if isinstance(child_ids, list) else ()
    merge_events: tuple[NewEvent, ...] = ()
    if last.kind is EventKind.MERGED and state.merged_into is not None:
        merge_events = _merge_undone_events(state, state.merged_into, command, [child for child, _ in moves], now)
    children = tuple(child for child, _parent in moves) or before.children
    answer = states.COMMAND_UNDONE(command=undone, alert=alert)
    return Transition(replace(before, children=children), answer, (event, *merge_events), moves)


def _merge_undone_events(
    state: AlertState, into: int, command: UndoCommand, child_ids: Sequence[int], now: datetime
) -> tuple[NewEvent, ...]:
    """The entries of an undone merge on the parent, and on the alerts that had moved to it."""
    actor, alert = command.actor.person, AlertRef(state.id)
    parent_reason = states.MERGE_UNDONE(actor=actor, alert=alert)
    child_reason = states.MERGE_ALONG_UNDONE(actor=actor, alert=alert, into=AlertRef(into))
    entries = [(into, parent_reason), *((child, child_reason) for child in child_ids)]
    return tuple(
        NewEvent(alert_id, EventKind.UPDATED, now, command.actor, reason, command.via, {"undone": "merged"})
        for alert_id, reason in entries
    )


def restored_user_ids(last: LastEvent | None) -> frozenset[int]:
    """Returns the users whom an undo of this event would restore."""
    stored = last.data.get("before") if last is not None else None
    if not isinstance(stored, Mapping):
        return frozenset()
    user_ids = {int(user) for user in stored.get("acknowledged", ())}
    return frozenset(user_ids | ({stored["owner_id"]} if stored.get("owner_id") is not None else set()))


def _reject_deleted_users(state: AlertState, before: AlertState) -> None:
    """Rejects an undo that would restore a deleted user. Inactive alerts lose a deleted owner, so an assigned state
    without an owner had one that is deleted."""
    user_ids = {*before.acknowledged, *([] if before.owner_id is None else [before.owner_id])}
    if user_ids & state.deleted_user_ids or (before.status is AlertStatus.ASSIGNED and not before.is_owned):
        raise Rejected("not_possible", _RESPONDER_DELETED(alert=AlertRef(state.id)))


def require_key(state: AlertState) -> None:
    """Raises `Rejected("key_taken")` if a newer active alert holds this alert's dedup key."""
    if state.key_owner_id is not None:
        raise Rejected("key_taken", _KEY_TAKEN(alert=AlertRef(state.key_owner_id)))


def undo_data(before: AlertState, after: AlertState) -> dict[str, object]:
    """Returns the event data from which `undo` restores the state: the changed fields, as JSON values."""
    stored: dict[str, object] = {}
    for name in _FIELDS:
        old = getattr(before, name)
        if old != getattr(after, name):
            stored[name] = old.isoformat() if isinstance(old, datetime) else old
    if before.acknowledged != after.acknowledged:
        stored["acknowledged"] = {
            str(user): [entry.at.isoformat(), entry.name] for user, entry in before.acknowledged.items()
        }
    return {"before": stored} if stored else {}


def system_event(
    alert_id: int,
    kind: EventKind,
    now: datetime,
    reason: Reason,
    command: BaseCommand | None = None,
    data: Mapping[str, object] | None = None,
) -> NewEvent:
    """Returns an event that no command caused, or a command that Tocsin gave itself (`command`)."""
    actor, via = (command.actor, command.via) if command else (SYSTEM, CommandChannel.POLICY)
    return NewEvent(alert_id, kind, now, actor, reason, via, data or {})


def _restore(state: AlertState, stored: Any) -> AlertState:
    if not isinstance(stored, Mapping):
        return state
    changes: dict[str, Any] = {name: stored[name] for name in _FIELDS if name in stored}
    if "status" in changes:
        changes["status"] = AlertStatus(changes["status"])
    for name in ("hold_until", "closed_at"):
        if isinstance(changes.get(name), str):
            changes[name] = datetime.fromisoformat(changes[name])
    if "acknowledged" in stored:
        changes["acknowledged"] = {
            int(user): Acknowledged(datetime.fromisoformat(at), name)
            for user, (at, name) in stored["acknowledged"].items()
        }
    return replace(state, **changes)


# ---------- source
# Changes that a source's messages make to an active alert: its fields, and its assignee at the source. Pure.


#: Fields whose text is too long for a sentence. The event says only that they changed.
_LONG = frozenset({"long_text", "short_text", "details", "custom", "tags"})

#: Compared, but shown through another field in words.
_UNLISTED_FIELDS = frozenset({"agent_id"})

#: Pairs of a custom field and a column that together express the source's urgency or assignee.
_PAIRED_COLUMNS: Mapping[str, str] = {"severity": "source_priority", "agent_id": "source_agent"}

#: Maximum characters of a value in the timeline.
_MAX_VALUE_CHARS = 80


@dataclass(frozen=True, slots=True)
class SourceUpdate:
    """The fields that a message changes, by name, and the event that lists them (None if nothing visible changed)."""

    changes: Mapping[str, object]
    event: NewEvent | None = None


@dataclass(frozen=True, slots=True)
class TicketAgent:
    """The ticket's assignee at the source: its text, and the user found by e-mail address, number or name."""

    text: str = ""
    user_id: int | None = None
    #: The user's own name; empty if none was found.
    user_name: str = ""

    @property
    def display_name(self) -> str:
        return self.user_name or self.text

    @property
    def person(self) -> Person:
        """The agent as a parameter of a reason."""
        return Person(self.display_name, self.user_id)


def compare_fields(
    alert_id: int,
    current: Mapping[str, object],
    mapped: Mapping[str, object],
    actor: Actor,
    now: datetime,
    written_fields: Collection[str] = (),
) -> SourceUpdate:
    """Compares an alert's current fields with those of a message.

    Both are by field name, in the order in which changes are listed. A field that `mapped` lacks, or has as None (no
    value at its path), stays: a shorter message deletes nothing. Mappings (`tags`, `custom`) are compared by name and
    replaced as a whole. `written_fields` names fields whose value Tocsin itself wrote at the source; the event's
    `written_fields` lists those that changed, which are no person's action.
    """
    changes: dict[str, object] = {}
    field_changes: list[Reason] = []
    data: dict[str, object] = {}
    for name, new in mapped.items():
        old = current.get(name)
        if new is None:
            continue
        if isinstance(new, Mapping):
            merged = _merged(old, new)
            for part, (old_item, new_item) in _differences(old, merged).items():
                if part not in _UNLISTED_FIELDS:
                    field_changes.append(_field_change(part, old_item, new_item))
                data[f"{name}.{part}"] = [_cut(old_item), _cut(new_item)]
            if merged != (old or {}):
                changes[name] = merged
        elif new != old:
            changes[name] = new
            field_changes.append(_field_change(name, old, new))
            data[name] = [_cut(old), _cut(new)]
    if not field_changes:
        return SourceUpdate(changes)
    parts = {name: name.rpartition(".")[2] for name in data}
    echoed = [name for name, part in parts.items() if _PAIRED_COLUMNS.get(part, part) in written_fields]
    kind = states.SOURCE_CONFIRMED if len(echoed) == len(data) else states.SOURCE_CHANGED
    reason = kind(actor=actor.person, changes=joined(*field_changes))
    event_data: dict[str, object] = {"changes": data, **({"own": echoed} if echoed else {})}
    return SourceUpdate(
        changes, NewEvent(alert_id, EventKind.UPDATED, now, actor, reason, CommandChannel.INBOUND, event_data)
    )


def apply_agent_change(
    state: AlertState, before: TicketAgent, after: TicketAgent, actor: Actor, now: datetime
) -> Transition:
    """Applies a change of the ticket's assignee to an active alert: assigns it to the new one, or makes it open again.

    `before` is the assignee in the previous message. If another user was assigned in Tocsin, they stay assigned when
    the source unassigns its own. The source is newer than any click, so nothing is rejected.
    """
    if state.status not in ACTIVE or before.text == after.text:
        return Transition(state, states.AGENT_UNCHANGED())
    if after.text:
        return _assign_agent(state, after, actor, now)
    if not state.is_owned:
        return Transition(state, states.NOT_ASSIGNED())
    was_owner = state.owner_id == before.user_id if before.user_id is not None else state.owner_name == before.text
    if not was_owner:
        return Transition(state, states.ASSIGNED_IN_TOCSIN(user=state.owner))
    reason = states.UNASSIGNED_AT_SOURCE(actor=actor.person, user=before.person)
    unassigned = replace(state, owner_id=None, owner_name="", acknowledged={}, reminded_user_ids=frozenset())
    if state.status is not AlertStatus.ON_HOLD:
        unassigned = replace(unassigned, status=AlertStatus.OPEN)
    return Transition(
        unassigned, reason, (NewEvent(state.id, EventKind.UNASSIGNED, now, actor, reason, CommandChannel.INBOUND, {}),)
    )


def _assign_agent(state: AlertState, agent: TicketAgent, actor: Actor, now: datetime) -> Transition:
    is_same = state.owner_id == agent.user_id if agent.user_id is not None else state.owner_name == agent.text
    if state.is_owned and is_same:
        return Transition(state, states.AGENT_ASSIGNED_ALREADY(user=agent.person))
    assigned = replace(state, owner_id=agent.user_id, owner_name=agent.display_name)
    if state.status is not AlertStatus.ON_HOLD:
        assigned = replace(assigned, status=AlertStatus.ASSIGNED)
    reason = describe_assignment(state, actor.person, agent.person)
    data: dict[str, object] = {"user_id": agent.user_id, "name": agent.display_name}
    return Transition(
        assigned, reason, (NewEvent(state.id, EventKind.ASSIGNED, now, actor, reason, CommandChannel.INBOUND, data),)
    )


def _merged(old: object, new: Mapping[str, object]) -> dict[str, object]:
    values = dict(old) if isinstance(old, Mapping) else {}
    return {**values, **{name: value for name, value in new.items() if value is not None}}


def _differences(old: object, merged: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    old_values = old if isinstance(old, Mapping) else {}
    return {name: (old_values.get(name), value) for name, value in merged.items() if old_values.get(name) != value}


def _field_change(name: str, old: object, new: object) -> Reason:
    words = name.removeprefix("source_").replace("_", " ")
    field = states.FIELD_TERMS.get(words, words)
    if name in _LONG:
        return states.LONG_FIELD_CHANGED(field=field)
    if new in ("", [], {}):
        return states.FIELD_REMOVED(field=field)
    if old in (None, ""):
        return states.FIELD_SET(field=field, new=_shown(name, new))
    return states.FIELD_CHANGED(field=field, old=_shown(name, old), new=_shown(name, new))


def _shown(name: str, value: object) -> Term | str:
    text = _cut(value)
    return states.PRIORITY_TERMS[Priority(text)] if name == "priority" and text in set(Priority) else text


def _cut(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 1] + "…"
