"""The lifecycle of an alert: (state, command, now) → new state and events, or a rejection that describes the state.

Pure: never reads, writes or sends anything. Changes from a source's messages are in `alerts.source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from tocsin.alerts import undo
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
from tocsin.core.validation.durations import describe, describe_ago

#: How long a closed alert can be reopened. After that, a new alert is clearer.
REOPEN_WINDOW = timedelta(hours=24)

#: Two assignments within this span count as simultaneous: the first wins, and the second is rejected.
SIMULTANEOUS_WINDOW = timedelta(seconds=5)

#: A longer hold is a typing error.
MAX_HOLD = timedelta(days=366)


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
            return _user_transition(
                state, state, command, now, EventKind.ESCALATED, "asked to notify the next step now", "Waking the next."
            )
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


def describe_state(state: AlertState, now: datetime) -> str:
    """Describes the alert's state in a sentence, for an actor whose command came too late."""
    last = state.last_event
    match state.status:
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            verb = "closed" if state.status is AlertStatus.CLOSED else "cancelled"
            ended = state.closed_at or (last.at if last else now)
            by = f" by {last.actor_name}" if last and last.kind in (EventKind.CLOSED, EventKind.CANCELLED) else ""
            return f"Alert {state.id} was already {verb}{by} {describe_ago(ended, now)}."
        case AlertStatus.MERGED:
            return f"Alert {state.id} is merged into {state.merged_into}; act on that one."
        case AlertStatus.ON_HOLD:
            remaining = describe(state.hold_until - now) if state.hold_until else "some time"
            owner = f", with {state.owner_name}" if state.is_owned else ""
            return f"Alert {state.id} is on hold for {remaining} more{owner}."
        case AlertStatus.ASSIGNED:
            return f"{state.owner_name} has alert {state.id}."
        case AlertStatus.OPEN:
            return f"Alert {state.id} is open."
        case _:
            assert_never(state.status)


def on_parent_ended(child: AlertState, now: datetime) -> Transition:
    """Frees the dedup key of a merged alert whose parent was closed or cancelled, for a new alert."""
    if not child.holds_key:
        return Transition(child, "Its key is free already.")
    reason = f"Alert {child.merged_into}, which this one is merged into, is over; a new message opens a new alert."
    return _system_transition(child, replace(child, holds_key=False), now, EventKind.KEY_RELEASED, reason)


def release_stale_key(state: AlertState, now: datetime) -> Transition:
    """Frees a dedup key that an alert still owns in error: it is over, or merged into one that is not active."""
    reason = "It still held its key, though nobody acts on it any more; a new message opens a new alert."
    return _system_transition(state, replace(state, holds_key=False), now, EventKind.KEY_RELEASED, reason)


def on_parent_reopened(child: AlertState, now: datetime) -> Transition:
    """Gives a merged alert its dedup key back, because its parent is active again, unless a newer alert holds it."""
    if child.holds_key or child.key_owner_id is not None:
        return Transition(child, "Its key stays where it is.")
    reason = f"Alert {child.merged_into}, which this one is merged into, is live again; messages count there."
    return _system_transition(child, replace(child, holds_key=True), now, EventKind.KEY_RESTORED, reason)


def initial_state(state: AlertState) -> AlertStatus:
    """Returns the status of an active alert without a hold: assigned or open."""
    return AlertStatus.ASSIGNED if state.is_owned else AlertStatus.OPEN


def _acknowledge(state: AlertState, command: Acknowledge, now: datetime) -> Transition:
    user_id = _require_person(command, "acknowledge")
    _require_active(state, now, with_advice=True)
    previous = state.acknowledged.get(user_id)
    is_confirmation = user_id in state.reminded_user_ids
    if previous is not None and not is_confirmation:
        return Transition(state, f"You acknowledged alert {state.id} already, {describe_ago(previous.at, now)}.")
    after = replace(
        state,
        acknowledged={**state.acknowledged, user_id: Acknowledged(now, command.actor.name)},
        reminded_user_ids=state.reminded_user_ids - {user_id},
    )
    action_text = "is still on it" if is_confirmation else "acknowledged it"
    answer = (
        f"Thank you: you are still on alert {state.id}." if is_confirmation else f"You acknowledged alert {state.id}."
    )
    return _user_transition(
        state,
        after,
        command,
        now,
        EventKind.ACKNOWLEDGED,
        action_text,
        answer,
        {"again": True} if is_confirmation else {},
    )


def _unacknowledge(state: AlertState, command: Unacknowledge, now: datetime) -> Transition:
    user_id = _require_person(command, "take an acknowledgement back")
    _require_active(state, now)
    if user_id not in state.acknowledged:
        return Transition(state, f"You have not acknowledged alert {state.id}.")
    after = _without_acknowledgement(state, user_id)
    answer = f"Your acknowledgement of alert {state.id} is taken back."
    return _user_transition(
        state, after, command, now, EventKind.UNACKNOWLEDGED, "took the acknowledgement back", answer
    )


def _expire(state: AlertState, command: ExpireAcknowledgement, now: datetime) -> Transition:
    acknowledgement = state.acknowledged.get(command.user_id)
    if acknowledgement is None or state.status not in ACTIVE:
        return Transition(state, "There is no such acknowledgement any more.")
    after = _without_acknowledgement(state, command.user_id)
    reason = (
        f'{acknowledgement.name} did not answer "Still on it?": the acknowledgement of '
        f"{describe_ago(acknowledgement.at, now)} counts no more."
    )
    if command.note:
        reason = f"{acknowledgement.name}'s acknowledgement counts no more: {command.note}."
    return _system_transition(
        state, after, now, EventKind.ACKNOWLEDGEMENT_EXPIRED, reason, command, {"user_id": command.user_id}
    )


def _without_acknowledgement(state: AlertState, user_id: int) -> AlertState:
    remaining = {other: entry for other, entry in state.acknowledged.items() if other != user_id}
    return replace(state, acknowledged=remaining, reminded_user_ids=state.reminded_user_ids - {user_id})


def _assign(state: AlertState, command: Assign, now: datetime) -> Transition:
    name = command.name.strip()
    if not name:
        raise Rejected("invalid", "Say to whom: a user, or a name.", "user")
    _require_active(state, now)
    to_self = command.user_id is not None and command.user_id == command.actor.user_id
    if (state.owner_id, state.owner_name) == (command.user_id, name) or (
        command.user_id is not None and state.owner_id == command.user_id
    ):
        return Transition(state, f"{'You have' if to_self else f'{name} has'} alert {state.id} already.")
    _reject_concurrent_assignment(state, command, now)
    after = replace(state, owner_id=command.user_id, owner_name=name)
    if state.status is not AlertStatus.ON_HOLD:
        after = replace(after, status=AlertStatus.ASSIGNED)
    action_text = "took it" if to_self else f"assigned it to {name}"
    if state.is_owned:
        action_text += f", from {state.owner_name}"
    answer = f"You have alert {state.id}." if to_self else f"{name} has alert {state.id}."
    data: dict[str, object] = {"user_id": command.user_id, "name": name}
    return _user_transition(state, after, command, now, EventKind.ASSIGNED, action_text, answer, data)


def _reject_concurrent_assignment(state: AlertState, command: Assign, now: datetime) -> None:
    """Rejects an assignment by an actor who could not know that another actor had just assigned the alert."""
    last = state.last_event
    if last is None or last.kind is not EventKind.ASSIGNED or not state.is_owned:
        return
    if command.actor.is_same(last.actor_kind, last.actor_id, last.actor_name):
        return
    is_unseen = command.seen_at is not None and last.at > command.seen_at
    if is_unseen or now - last.at < SIMULTANEOUS_WINDOW:
        verb = "took" if last.actor_id is not None and last.actor_id == state.owner_id else "was given"
        raise Rejected(
            "already_assigned",
            f"{state.owner_name} {verb} alert {state.id} {describe_ago(last.at, now)}. Nothing to do.",
        )


def _unassign(state: AlertState, command: Unassign, now: datetime) -> Transition:
    _require_active(state, now)
    if not state.is_owned:
        return Transition(state, f"Nobody has alert {state.id}.")
    # Everybody who acknowledged stopped working on it when it was assigned, so escalation starts again for all.
    after = replace(state, owner_id=None, owner_name="", acknowledged={}, reminded_user_ids=frozenset())
    if state.status is not AlertStatus.ON_HOLD:
        after = replace(after, status=AlertStatus.OPEN)
    is_own = state.owner_id is not None and state.owner_id == command.actor.user_id
    action_text = "gave it back" if is_own else f"took it from {state.owner_name}"
    return _user_transition(
        state,
        after,
        command,
        now,
        EventKind.UNASSIGNED,
        action_text + "; nobody has it",
        f"Nobody has alert {state.id} now.",
    )


def _reply(state: AlertState, command: Reply, now: datetime) -> Transition:
    text = command.text.strip()
    if not text:
        raise Rejected("invalid", "A reply needs a text.", "text")
    return _user_transition(
        state, state, command, now, EventKind.REPLIED, "replied", f"Your reply is on alert {state.id}.", {"text": text}
    )


def _hold(state: AlertState, command: Hold, now: datetime) -> Transition:
    _require_active(state, now)
    if command.until <= now:
        raise Rejected("invalid", "A hold ends in the future.", "until")
    if command.until - now > MAX_HOLD:
        raise Rejected("invalid", "A hold lasts a year at most.", "until")
    if state.status is AlertStatus.ON_HOLD and state.hold_until == command.until:
        return Transition(state, describe_state(state, now))
    after = replace(state, status=AlertStatus.ON_HOLD, hold_until=command.until, reminded_user_ids=frozenset())
    duration = describe(command.until - now)
    action_text = "set the hold to" if state.status is AlertStatus.ON_HOLD else "put it on hold for"
    answer = f"Alert {state.id} is on hold for {duration}."
    data: dict[str, object] = {"until": command.until.isoformat()}
    return _user_transition(
        state, after, command, now, EventKind.PUT_ON_HOLD, f"{action_text} {duration}", answer, data
    )


def _resume(state: AlertState, command: Resume, now: datetime) -> Transition:
    _require_active(state, now)
    if state.status is not AlertStatus.ON_HOLD:
        return Transition(state, f"Alert {state.id} is not on hold.")
    after = replace(state, status=initial_state(state), hold_until=None)
    if command.actor.user_id is None and state.hold_until is not None and state.hold_until <= now:
        return _system_transition(state, after, now, EventKind.RESUMED, "The hold is over.", command)
    return _user_transition(
        state, after, command, now, EventKind.RESUMED, "ended the hold", f"The hold of alert {state.id} is over."
    )


def _end(state: AlertState, command: Close | Cancel, now: datetime, status: AlertStatus) -> Transition:
    verb, kind = ("closed", EventKind.CLOSED) if status is AlertStatus.CLOSED else ("cancelled", EventKind.CANCELLED)
    if state.status in TERMINAL:
        last = state.last_event
        is_own = last is not None and command.actor.is_same(last.actor_kind, last.actor_id, last.actor_name)
        if is_own and state.status is status:
            return Transition(state, f"You {verb} alert {state.id} already.")
        raise Rejected(f"already_{state.status}", describe_state(state, now))
    after = replace(
        state, status=status, closed_at=now, hold_until=None, reminded_user_ids=frozenset(), holds_key=False
    )
    return _user_transition(state, after, command, now, kind, f"{verb} it", f"Alert {state.id} is {verb}.")


def _merge(state: AlertState, command: Merge, now: datetime) -> Transition:
    into = command.into
    if into.id == state.id:
        raise Rejected("invalid", "An alert cannot be merged into itself.", "into")
    if state.status is AlertStatus.MERGED and state.merged_into == into.id:
        return Transition(state, f"Alert {state.id} is merged into {into.id} already.")
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
    transition = _user_transition(
        state,
        after,
        command,
        now,
        EventKind.MERGED,
        f"merged it into alert {into.id}",
        f"Alert {state.id} is merged into {into.id}.",
        data,
    )
    parent_event = NewEvent(
        into.id,
        EventKind.MERGED_INTO_THIS,
        now,
        command.actor,
        f"{command.actor.name} merged alert {state.id} into this one.",
        command.via,
        {"alert_id": state.id},
    )
    child_reason = f"{command.actor.name} merged alert {state.id}, and this one with it, into alert {into.id}."
    child_events = tuple(
        NewEvent(child, EventKind.UPDATED, now, command.actor, child_reason, command.via, {"into": into.id})
        for child in state.children
    )
    moves = tuple((child, into.id) for child in state.children)
    return replace(transition, events=(*transition.events, parent_event, *child_events), child_moves=moves)


def _reopen(state: AlertState, command: Reopen, now: datetime) -> Transition:
    _require_person(command, "reopen an alert")
    if state.status is AlertStatus.MERGED:
        raise Rejected("merged", describe_state(state, now))
    if state.status not in TERMINAL:
        raise Rejected("not_closed", describe_state(state, now))
    if state.closed_at is not None and now - state.closed_at > REOPEN_WINDOW:
        raise Rejected(
            "too_late",
            f"Alert {state.id} ended {describe_ago(state.closed_at, now)}; only the last 24 hours can be reopened.",
        )
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
    return _user_transition(
        state, after, command, now, EventKind.REOPENED, "reopened it", f"Alert {state.id} is open again."
    )


def _require_active(state: AlertState, now: datetime, *, with_advice: bool = False) -> None:
    if state.status in ACTIVE:
        return
    code = "merged" if state.status is AlertStatus.MERGED else f"already_{state.status}"
    advice = " Nothing to do." if with_advice and state.status in TERMINAL else ""
    raise Rejected(code, describe_state(state, now) + advice)


def _require_person(command: BaseCommand, action_text: str) -> int:
    if command.actor.user_id is None:
        raise Rejected("needs_person", f"Only a person whom Tocsin knows can {action_text}: sign in first.")
    return command.actor.user_id


def _user_transition(
    before: AlertState,
    after: AlertState,
    command: BaseCommand,
    now: datetime,
    kind: EventKind,
    action_text: str,
    answer: str,
    data: Mapping[str, object] | None = None,
) -> Transition:
    """Returns the transition with its single event, which stores the values that an undo restores."""
    note = command.note.strip()
    reason = f"{command.actor.name} {action_text}: {note}" if note else f"{command.actor.name} {action_text}."
    event_data = {**(data or {}), **({"note": note} if note else {}), **undo.undo_data(before, after)}
    return Transition(after, answer, (NewEvent(before.id, kind, now, command.actor, reason, command.via, event_data),))


def _system_transition(
    before: AlertState,
    after: AlertState,
    now: datetime,
    kind: EventKind,
    reason: str,
    command: BaseCommand | None = None,
    data: Mapping[str, object] | None = None,
) -> Transition:
    """Returns a transition made by Tocsin itself."""
    return Transition(after, reason, (undo.system_event(before.id, kind, now, reason, command, data),))
