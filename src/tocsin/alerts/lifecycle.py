"""The lifecycle of an alert: (state, command, now) → new state and events, or a rejection that describes the state.

Pure: never reads, writes or sends anything. Changes from a source's messages are in `alerts.source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_never

from msgspec.structs import replace

from tocsin.alerts import reasons, undo
from tocsin.alerts.commands import (
    Acknowledge,
    Acknowledged,
    AlertState,
    Assign,
    BaseCommand,
    Cancel,
    Close,
    Command,
    Escalate,
    ExpireAcknowledgement,
    Hold,
    Merge,
    NewEvent,
    Reopen,
    Reply,
    Resume,
    Transition,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.states import ACTIVE, TERMINAL, AlertStatus, EventKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Ago, AlertRef, Person, Reason, ReasonType, as_reason, joined

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
            event, answer = reasons.ESCALATED(actor=command.actor.person), reasons.ESCALATING(alert=AlertRef(state.id))
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
        case Undo():
            return undo.undo(state, command, now)
        case _:
            assert_never(command)


def describe_state(state: AlertState, now: datetime) -> Reason:
    """Describes the alert's state, for an actor whose command came too late."""
    alert = AlertRef(state.id)
    match state.status:
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            return _describe_end(state, now)
        case AlertStatus.MERGED:
            return reasons.WAS_MERGED(alert=alert, into=AlertRef(state.merged_into or 0))
        case AlertStatus.ON_HOLD:
            remaining = (state.hold_until or now) - now
            if state.is_owned:
                return reasons.STATE_SNOOZED_ASSIGNED(alert=alert, duration=remaining, user=state.owner)
            return reasons.STATE_SNOOZED(alert=alert, duration=remaining)
        case AlertStatus.ASSIGNED:
            return reasons.STATE_ASSIGNED(alert=alert, user=state.owner)
        case AlertStatus.OPEN:
            return reasons.STATE_OPEN(alert=alert)
        case _:
            assert_never(state.status)


def _describe_end(state: AlertState, now: datetime) -> Reason:
    alert, last = AlertRef(state.id), state.last_event
    ago = Ago(now - (state.closed_at or (last.at if last else now)))
    is_closed = state.status is AlertStatus.CLOSED
    if last is not None and last.kind in (EventKind.CLOSED, EventKind.CANCELLED):
        kind = reasons.WAS_CLOSED_BY if is_closed else reasons.WAS_CANCELLED_BY
        return kind(alert=alert, actor=Person(last.actor_name, last.actor_id), ago=ago)
    return (reasons.WAS_CLOSED if is_closed else reasons.WAS_CANCELLED)(alert=alert, ago=ago)


def on_parent_ended(child: AlertState, now: datetime) -> Transition:
    """Frees the dedup key of a merged alert whose parent was closed or cancelled, for a new alert."""
    if not child.holds_key:
        return Transition(child, reasons.KEY_IS_FREE())
    reason = reasons.KEY_RELEASED(parent=AlertRef(child.merged_into or 0))
    return _system_transition(child, replace(child, holds_key=False), now, EventKind.KEY_RELEASED, reason)


def release_stale_key(state: AlertState, now: datetime) -> Transition:
    """Frees a dedup key that an alert still owns in error: it is over, or merged into one that is not active."""
    after = replace(state, holds_key=False)
    return _system_transition(state, after, now, EventKind.KEY_RELEASED, reasons.STALE_KEY_RELEASED())


def on_parent_reopened(child: AlertState, now: datetime) -> Transition:
    """Gives a merged alert its dedup key back, because its parent is active again, unless a newer alert holds it."""
    if child.holds_key or child.key_owner_id is not None:
        return Transition(child, reasons.KEY_UNCHANGED())
    reason = reasons.KEY_RESTORED(parent=AlertRef(child.merged_into or 0))
    return _system_transition(child, replace(child, holds_key=True), now, EventKind.KEY_RESTORED, reason)


def initial_state(state: AlertState) -> AlertStatus:
    """Returns the status of an active alert without a hold: assigned or open."""
    return AlertStatus.ASSIGNED if state.is_owned else AlertStatus.OPEN


def _acknowledge(state: AlertState, command: Acknowledge, now: datetime) -> Transition:
    user_id = _require_user(command)
    _require_active(state, now, with_advice=True)
    previous = state.acknowledged.get(user_id)
    is_confirmation = user_id in state.reminded_user_ids
    alert = AlertRef(state.id)
    if previous is not None and not is_confirmation:
        return Transition(state, reasons.YOU_ACKNOWLEDGED_ALREADY(alert=alert, ago=Ago(now - previous.at)))
    after = replace(
        state,
        acknowledged={**state.acknowledged, user_id: Acknowledged(now, command.actor.name)},
        reminded_user_ids=state.reminded_user_ids - {user_id},
    )
    event, answer = (
        (reasons.ACKNOWLEDGEMENT_CONFIRMED, reasons.YOU_CONFIRMED)
        if is_confirmation
        else (reasons.ACKNOWLEDGED, reasons.YOU_ACKNOWLEDGED)
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
        return Transition(state, reasons.YOU_DID_NOT_ACKNOWLEDGE(alert=alert))
    after = _without_acknowledgement(state, user_id)
    event, answer = reasons.UNACKNOWLEDGED(actor=command.actor.person), reasons.YOU_UNACKNOWLEDGED(alert=alert)
    return _user_transition(state, after, command, now, EventKind.UNACKNOWLEDGED, event, answer)


def _expire(state: AlertState, command: ExpireAcknowledgement, now: datetime) -> Transition:
    acknowledgement = state.acknowledged.get(command.user_id)
    if acknowledgement is None or state.status not in ACTIVE:
        return Transition(state, reasons.NO_SUCH_ACKNOWLEDGEMENT())
    after = _without_acknowledgement(state, command.user_id)
    user = Person(acknowledgement.name, command.user_id)
    reason = reasons.ACKNOWLEDGEMENT_EXPIRED(user=user, ago=Ago(now - acknowledgement.at))
    if command.note:
        reason = reasons.ACKNOWLEDGEMENT_ENDED(user=user, reason=as_reason(command.note))
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
        if to_self:
            return Transition(state, reasons.ASSIGNED_TO_YOU_ALREADY(alert=alert))
        return Transition(state, reasons.ASSIGNED_TO_ALREADY(alert=alert, user=user))
    _reject_concurrent_assignment(state, command, now)
    after = replace(state, owner_id=command.user_id, owner_name=name)
    if state.status is not AlertStatus.ON_HOLD:
        after = replace(after, status=AlertStatus.ASSIGNED)
    match to_self, state.is_owned:
        case True, True:
            event = reasons.REASSIGNED_TO_SELF(actor=actor, previous=state.owner)
        case True, False:
            event = reasons.ASSIGNED_TO_SELF(actor=actor)
        case _:
            event = describe_assignment(state, actor, user)
    answer = reasons.ASSIGNED_TO_YOU(alert=alert) if to_self else reasons.ASSIGNED_TO(alert=alert, user=user)
    data: dict[str, object] = {"user_id": command.user_id, "name": name}
    return _user_transition(state, after, command, now, EventKind.ASSIGNED, event, answer, data)


def describe_assignment(before: AlertState, actor: Person, user: Person) -> Reason:
    """Returns the event of an assignment to somebody other than the actor."""
    if before.is_owned:
        return reasons.REASSIGNED(actor=actor, previous=before.owner, user=user)
    return reasons.ASSIGNED(actor=actor, user=user)


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
        return Transition(state, reasons.IS_UNASSIGNED_ALREADY(alert=alert))
    # Everybody who acknowledged stopped working on it when it was assigned, so escalation starts again for all.
    after = replace(state, owner_id=None, owner_name="", acknowledged={}, reminded_user_ids=frozenset())
    if state.status is not AlertStatus.ON_HOLD:
        after = replace(after, status=AlertStatus.OPEN)
    is_own = state.owner_id is not None and state.owner_id == command.actor.user_id
    event = reasons.UNASSIGNED_SELF(actor=actor) if is_own else reasons.UNASSIGNED(actor=actor, user=state.owner)
    return _user_transition(state, after, command, now, EventKind.UNASSIGNED, event, reasons.IS_UNASSIGNED(alert=alert))


def _reply(state: AlertState, command: Reply, now: datetime) -> Transition:
    text = command.text.strip()
    if not text:
        raise Rejected("invalid", _NEEDS_TEXT(), "text")
    event, answer = reasons.NOTE_ADDED(actor=command.actor.person), reasons.NOTE_WAS_ADDED(alert=AlertRef(state.id))
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
    event = (reasons.SNOOZE_CHANGED if is_on_hold else reasons.SNOOZED)(actor=command.actor.person, duration=duration)
    answer = reasons.IS_SNOOZED(alert=AlertRef(state.id), duration=duration)
    data: dict[str, object] = {"until": command.until.isoformat()}
    return _user_transition(state, after, command, now, EventKind.PUT_ON_HOLD, event, answer, data)


def _resume(state: AlertState, command: Resume, now: datetime) -> Transition:
    _require_active(state, now)
    alert = AlertRef(state.id)
    if state.status is not AlertStatus.ON_HOLD:
        return Transition(state, reasons.IS_NOT_SNOOZED(alert=alert))
    after = replace(state, status=initial_state(state), hold_until=None)
    if command.actor.user_id is None and state.hold_until is not None and state.hold_until <= now:
        return _system_transition(state, after, now, EventKind.RESUMED, reasons.SNOOZE_ENDED(), command)
    event, answer = reasons.SNOOZE_CANCELLED(actor=command.actor.person), reasons.SNOOZE_HAS_ENDED(alert=alert)
    return _user_transition(state, after, command, now, EventKind.RESUMED, event, answer)


def _end(state: AlertState, command: Close | Cancel, now: datetime, status: AlertStatus) -> Transition:
    event, kind, answer, already = (
        (reasons.CLOSED, EventKind.CLOSED, reasons.IS_CLOSED, reasons.IS_CLOSED_ALREADY)
        if status is AlertStatus.CLOSED
        else (reasons.CANCELLED, EventKind.CANCELLED, reasons.IS_CANCELLED, reasons.IS_CANCELLED_ALREADY)
    )
    alert = AlertRef(state.id)
    if state.status in TERMINAL:
        last = state.last_event
        is_own = last is not None and command.actor.is_same(last.actor_kind, last.actor_id, last.actor_name)
        if is_own and state.status is status:
            return Transition(state, already(alert=alert))
        raise Rejected(f"already_{state.status}", describe_state(state, now))
    after = replace(
        state, status=status, closed_at=now, hold_until=None, reminded_user_ids=frozenset(), holds_key=False
    )
    return _user_transition(state, after, command, now, kind, event(actor=command.actor.person), answer(alert=alert))


def _merge(state: AlertState, command: Merge, now: datetime) -> Transition:
    into, actor = command.into, command.actor
    alert, parent = AlertRef(state.id), AlertRef(into.id)
    if into.id == state.id:
        raise Rejected("invalid", _MERGED_INTO_ITSELF(), "into")
    if state.status is AlertStatus.MERGED and state.merged_into == into.id:
        return Transition(state, reasons.IS_MERGED_ALREADY(alert=alert, into=parent))
    _require_active(state, now)
    if into.status not in ACTIVE:
        raise Rejected("not_possible", describe_state(into, now), "into")
    after = replace(
        state,
        status=AlertStatus.MERGED,
        merged_into=into.id,
        hold_until=None,
        reminded_user_ids=frozenset(),
        children=(),
    )
    data: dict[str, object] = {"into": into.id}
    if state.children:
        data["moved"] = list(state.children)
    event, answer = reasons.MERGED(actor=actor.person, into=parent), reasons.IS_MERGED(alert=alert, into=parent)
    transition = _user_transition(state, after, command, now, EventKind.MERGED, event, answer, data)
    parent_reason = reasons.MERGED_INTO_THIS(actor=actor.person, alert=alert)
    parent_event = NewEvent(
        into.id, EventKind.MERGED_INTO_THIS, now, actor, parent_reason, command.via, {"alert_id": state.id}
    )
    child_reason = reasons.MERGED_ALONG(actor=actor.person, alert=alert, into=parent)
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
    undo.require_key(state)
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
    event, answer = reasons.REOPENED(actor=command.actor.person), reasons.IS_REOPENED(alert=alert)
    return _user_transition(state, after, command, now, EventKind.REOPENED, event, answer)


def _require_active(state: AlertState, now: datetime, *, with_advice: bool = False) -> None:
    if state.status in ACTIVE:
        return
    code = "merged" if state.status is AlertStatus.MERGED else f"already_{state.status}"
    advice = reasons.NOTHING_TO_DO() if with_advice and state.status in TERMINAL else NO_REASON
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
    reason = reasons.WITH_NOTE(event=event, note=note) if note else event
    event_data = {**(data or {}), **({"note": str(note)} if note else {}), **undo.undo_data(before, after)}
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
    return Transition(after, reason, (undo.system_event(before.id, kind, now, reason, command, data),))
