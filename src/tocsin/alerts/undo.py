"""Reverses an actor's own last command: the data that an event stores for that, and the conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tocsin.alerts import reasons
from tocsin.alerts.commands import SYSTEM, Acknowledged, AlertState, BaseCommand, LastEvent, NewEvent, Transition
from tocsin.alerts.commands import Undo as UndoCommand
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import AlertRef, Person, Reason, ReasonType

#: How long a command can be undone.
UNDO_WINDOW = timedelta(minutes=1)

_UNDOABLE = {
    EventKind.ACKNOWLEDGED: reasons.ACKNOWLEDGEMENT,
    EventKind.UNACKNOWLEDGED: reasons.UNACKNOWLEDGEMENT,
    EventKind.ASSIGNED: reasons.ASSIGNMENT,
    EventKind.UNASSIGNED: reasons.UNASSIGNMENT,
    EventKind.PUT_ON_HOLD: reasons.SNOOZE,
    EventKind.RESUMED: reasons.SNOOZE_END,
    EventKind.CLOSED: reasons.CLOSE,
    EventKind.CANCELLED: reasons.CANCEL,
    EventKind.MERGED: reasons.MERGE,
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
    reason = reasons.UNDONE(actor=actor, command=undone)
    event = NewEvent(state.id, EventKind.UNDONE, now, command.actor, reason, command.via, data)
    child_ids = last.data.get("moved") if last.kind is EventKind.MERGED else None
    moves = tuple((int(child), state.id) for child in child_ids) if isinstance(child_ids, list) else ()
    merge_events: tuple[NewEvent, ...] = ()
    if last.kind is EventKind.MERGED and state.merged_into is not None:
        merge_events = _merge_undone_events(state, state.merged_into, command, [child for child, _ in moves], now)
    children = tuple(child for child, _parent in moves) or before.children
    answer = reasons.COMMAND_UNDONE(command=undone, alert=alert)
    return Transition(replace(before, children=children), answer, (event, *merge_events), moves)


def _merge_undone_events(
    state: AlertState, into: int, command: UndoCommand, child_ids: Sequence[int], now: datetime
) -> tuple[NewEvent, ...]:
    """The entries of an undone merge on the parent, and on the alerts that had moved to it."""
    actor, alert = command.actor.person, AlertRef(state.id)
    parent_reason = reasons.MERGE_UNDONE(actor=actor, alert=alert)
    child_reason = reasons.MERGE_ALONG_UNDONE(actor=actor, alert=alert, into=AlertRef(into))
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
