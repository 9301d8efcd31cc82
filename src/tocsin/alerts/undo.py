"""Reverses an actor's own last command: the data that an event stores for that, and the conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts.commands import SYSTEM, Acknowledged, AlertState, BaseCommand, LastEvent, NewEvent, Transition
from tocsin.alerts.commands import Undo as UndoCommand
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind
from tocsin.core.errors import Rejected

#: How long a command can be undone.
UNDO_WINDOW = timedelta(minutes=1)

_UNDOABLE = {
    EventKind.ACKNOWLEDGED: "the acknowledgement",
    EventKind.UNACKNOWLEDGED: "taking back the acknowledgement",
    EventKind.ASSIGNED: "the assignment",
    EventKind.UNASSIGNED: "giving it back",
    EventKind.PUT_ON_HOLD: "the hold",
    EventKind.RESUMED: "the end of the hold",
    EventKind.CLOSED: "the closing",
    EventKind.CANCELLED: "the cancelling",
    EventKind.MERGED: "the merge",
}

#: Commands with an effect outside Tocsin cannot be undone.
_NOT_UNDOABLE = {
    EventKind.REPLIED: "A reply cannot be taken back: it may have been read.",
    EventKind.ESCALATED: "An escalation cannot be taken back: somebody may have been woken.",
    EventKind.REOPENED: "A reopening is not undone; close the alert instead.",
    EventKind.UNDONE: "That was already undone; do it again instead.",
    EventKind.MERGED_INTO_THIS: "Undo the merge on the alert that was merged into this one.",
    EventKind.OPENED: "There is nothing to undo; cancel the alert instead.",
}

_FIELDS = ("status", "owner_id", "owner_name", "hold_until", "closed_at", "merged_into")


def undo(state: AlertState, command: UndoCommand, now: datetime) -> Transition:
    """Returns the state before the actor's own last command, given within a minute and with nothing else since.

    `state.deleted_user_ids` holds the users deleted in the meantime. Raises Rejected: `not_possible`, `too_late`,
    `key_taken`.
    """
    last = state.last_event
    if last is None or command.actor.user_id is None:
        raise Rejected("not_possible", f"There is nothing of yours to undo on alert {state.id}.")
    if last.actor_id != command.actor.user_id:
        raise Rejected(
            "not_possible", f"{last.actor_name} changed alert {state.id} after you; there is nothing of yours to undo."
        )
    if last.kind not in _UNDOABLE:
        raise Rejected("not_possible", _NOT_UNDOABLE.get(last.kind, "That cannot be taken back."))
    if now - last.at > UNDO_WINDOW:
        raise Rejected("too_late", "Undo works for one minute.")
    before = _restore(state, last.data.get("before"))
    _reject_deleted_users(state, before)
    holds_key = before.status in ACTIVE or (before.status is AlertStatus.MERGED and not state.is_parent_ended)
    if holds_key and not state.holds_key:
        require_key(state)
    before = replace(before, holds_key=holds_key)
    action_text = _UNDOABLE[last.kind]
    reason = f"{command.actor.name} took back {action_text}."
    data = {"undone": str(last.kind), **({"note": command.note} if command.note else {})}
    event = NewEvent(state.id, EventKind.UNDONE, now, command.actor, reason, command.via, data)
    child_ids = last.data.get("moved") if last.kind is EventKind.MERGED else None
    moves = tuple((int(child), state.id) for child in child_ids) if isinstance(child_ids, list) else ()
    events = [event]
    if last.kind is EventKind.MERGED and state.merged_into is not None:
        timeline_text = f"{command.actor.name} took back merging alert {state.id} into this one."
        events.append(
            NewEvent(
                state.merged_into,
                EventKind.UPDATED,
                now,
                command.actor,
                timeline_text,
                command.via,
                {"undone": "merged"},
            )
        )
        timeline_text = (
            f"{command.actor.name} took back merging alert {state.id} and this one into alert {state.merged_into}: "
            f"this one is merged into alert {state.id} again."
        )
        events += [
            NewEvent(child, EventKind.UPDATED, now, command.actor, timeline_text, command.via, {"undone": "merged"})
            for child, _parent in moves
        ]
    children = tuple(child for child, _parent in moves) or before.children
    return Transition(
        replace(before, children=children), f"Undone: {action_text} of alert {state.id}.", tuple(events), moves
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
        raise Rejected(
            "not_possible",
            f"Whoever answered alert {state.id} then has no account any more; it cannot go back to them.",
        )


def require_key(state: AlertState) -> None:
    """Raises `Rejected("key_taken")` if a newer active alert holds this alert's dedup key."""
    if state.key_owner_id is not None:
        raise Rejected(
            "key_taken", f"Alert {state.key_owner_id} is open for the same problem; act on that one instead."
        )


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
    reason: str,
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
