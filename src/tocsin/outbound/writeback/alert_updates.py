"""Selects which alert changes other systems are notified of: the event, who caused it, and values for the note. Pure.

Changes caused by the other system itself are never sent back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import (
    Acknowledge,
    Assign,
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
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind
from tocsin.outbound.states import OutboundEvent

#: Channels through which the other system's own changes arrive.
_EXTERNAL_CHANNELS = frozenset({CommandChannel.INBOUND, CommandChannel.HALO})


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """One update for other systems."""

    alert_id: int
    event: OutboundEvent
    actor_name: str
    at: datetime
    #: The user who caused it, if any.
    user_id: int | None = None
    #: Replaces the integration's own text when the event is a variation, such as unassigning.
    text: str = ""
    #: Whether status, team and priority are set too; not for a variation.
    sets_fields: bool = True
    #: Whether the ticket's agent changes: to this user, to this name, or, without both, to unassigned.
    sets_agent: bool = False
    agent_id: int | None = None
    agent_name: str = ""
    #: Values for the note.
    values: Mapping[str, object] = field(default_factory=dict)


def update_for(change: AlertChange) -> Iterator[AlertUpdate]:
    """The updates from one change."""
    if change.before is None or change.after.is_test:
        return
    if change.command is None:
        yield from _engine_updates(change)
    elif change.command.via not in _EXTERNAL_CHANNELS and change.command.actor.kind is not ActorKind.INTEGRATION:
        update = _command_update(change, change.command)
        if update is not None:
            yield update


def _engine_updates(change: AlertChange) -> Iterator[AlertUpdate]:
    """Updates from the escalation engine: a further step, or exhaustion."""
    for event in change.events:
        if event.via is not CommandChannel.POLICY:
            continue
        if event.kind is EventKind.ESCALATION_EXHAUSTED:
            yield _engine_update(OutboundEvent.EXHAUSTED, event)
        # A step fired on request is already covered by the user's own command.
        elif event.kind is EventKind.STEP_FIRED and not event.data.get("requested") and _is_further(event):
            yield _engine_update(OutboundEvent.ESCALATE, event)


def _is_further(event: NewEvent) -> bool:
    """Whether the step is not the first one of the first pass."""
    return (event.data.get("step"), event.data.get("pass")) != (1, 1)


def _engine_update(kind: OutboundEvent, event: NewEvent) -> AlertUpdate:
    return AlertUpdate(event.alert_id, kind, "Tocsin", event.at, values={"what": str(event.reason)})


def _command_update(change: AlertChange, command: Command) -> AlertUpdate | None:
    after, actor = change.after, command.actor
    at = change.events[-1].at if change.events else None
    if at is None:
        return None
    reason = str(change.events[0].reason)
    note = _sentence(str(command.note))

    def make_update(event: OutboundEvent, text: str = "", *, sets_agent: bool = False, **values: object) -> AlertUpdate:
        return AlertUpdate(
            change.alert_id, event, actor.name, at, actor.user_id, text, not text, sets_agent,
            values={"what": reason, "note": note, "owner": after.owner_name, **values},
        )  # fmt: skip

    match command:
        case Acknowledge():
            return _with_agent(
                make_update(OutboundEvent.ACKNOWLEDGE, sets_agent=not after.is_owned), actor.user_id, actor.name
            )
        case Unacknowledge():
            return make_update(OutboundEvent.ACKNOWLEDGE, "<who> took the acknowledgement back at <time>.<note>")
        case ExpireAcknowledgement():
            return make_update(OutboundEvent.ACKNOWLEDGE, "<what>")
        case Assign():
            is_self_assigned = command.user_id is not None and command.user_id == actor.user_id
            text = "" if is_self_assigned else "<who> assigned this to <owner> at <time>.<note>"
            update = make_update(OutboundEvent.ASSIGN, text, sets_agent=True)
            return _with_fields(_with_agent(update, after.owner_id, after.owner_name))
        case Unassign():
            return make_update(
                OutboundEvent.ASSIGN, "<who> gave this back at <time>: nobody has it.<note>", sets_agent=True
            )
        case Escalate():
            return _with_fields(
                make_update(OutboundEvent.ESCALATE, "<who> asked at <time> to wake the next person.<note>")
            )
        case Reply():
            return make_update(OutboundEvent.REPLY, said=command.text)
        case Hold():
            return make_update(OutboundEvent.HOLD, until=command.until)
        case Resume():
            return make_update(OutboundEvent.HOLD, "<who> ended the hold at <time>.<note>")
        case Close():
            return make_update(OutboundEvent.CLOSE)
        case Cancel():
            return _with_fields(
                make_update(OutboundEvent.CLOSE, "<who> cancelled the alert at <time>: nothing was wrong.<note>")
            )
        case Merge():
            return make_update(OutboundEvent.CLOSE, f"<who> merged this into alert {command.into.id} at <time>.<note>")
        case Reopen() | Undo():
            return _undo_update(change, make_update)


def _sentence(note: str) -> str:
    """A user's note as a sentence with a leading space: " Router restarted." for "router restarted"."""
    text = note.strip()
    return f" {text[0].upper()}{text[1:]}{'.' if text[-1].isalnum() else ''}" if text else ""


def _undo_update(change: AlertChange, make_update: Callable[..., AlertUpdate]) -> AlertUpdate:
    """Undone commands: a changed assignee is written to the ticket, everything else is only noted."""
    previous, after = change.before, change.after
    assert previous is not None
    is_reassigned = (previous.owner_id, previous.owner_name) != (after.owner_id, after.owner_name)
    update = make_update(
        OutboundEvent.ASSIGN if is_reassigned else OutboundEvent.CLOSE, "<who>: <what>", sets_agent=is_reassigned
    )
    return _with_agent(update, after.owner_id, after.owner_name)


def _with_agent(update: AlertUpdate, user_id: int | None, name: str) -> AlertUpdate:
    return replace(update, agent_id=user_id, agent_name=name)


def _with_fields(update: AlertUpdate) -> AlertUpdate:
    return replace(update, sets_fields=True)
