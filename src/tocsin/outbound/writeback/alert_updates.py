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
_FROM_OUTSIDE = frozenset({CommandChannel.INBOUND, CommandChannel.HALO})

#: A step fired on request is already covered by the user's own command.
_ASKED_FOR = "(asked for)"


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """One update for other systems."""

    alert_id: int
    event: OutboundEvent
    who: str
    at: datetime
    #: The user who caused it, if any.
    who_id: int | None = None
    #: Replaces the integration's own text when the event is a variation, such as unassigning.
    text: str = ""
    #: Whether status, team and priority are set too; not for a variation.
    is_whole: bool = True
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
        yield from _of_engine(change)
    elif change.command.via not in _FROM_OUTSIDE and change.command.actor.kind is not ActorKind.INTEGRATION:
        found = _of_command(change, change.command)
        if found is not None:
            yield found


def _of_engine(change: AlertChange) -> Iterator[AlertUpdate]:
    """Updates from the escalation engine: a further step, or exhaustion."""
    for event in change.events:
        if event.via is not CommandChannel.POLICY:
            continue
        if event.kind is EventKind.ESCALATION_FINISHED:
            yield _plain(OutboundEvent.EXHAUSTED, event)
        elif event.kind is EventKind.STEP_FIRED and _ASKED_FOR not in event.reason and _is_further(event):
            yield _plain(OutboundEvent.ESCALATE, event)


def _is_further(event: NewEvent) -> bool:
    """Whether the step is not the first one of the first pass."""
    return (event.data.get("step"), event.data.get("pass")) != (1, 1)


def _plain(kind: OutboundEvent, event: NewEvent) -> AlertUpdate:
    return AlertUpdate(event.alert_id, kind, "Tocsin", event.at, values={"what": event.reason})


def _of_command(change: AlertChange, command: Command) -> AlertUpdate | None:
    after, actor = change.after, command.actor
    at = change.events[-1].at if change.events else None
    if at is None:
        return None
    what = change.events[0].reason
    note = _sentence(command.note)

    def told(event: OutboundEvent, text: str = "", *, sets_agent: bool = False, **values: object) -> AlertUpdate:
        return AlertUpdate(
            change.alert_id, event, actor.name, at, actor.user_id, text, not text, sets_agent,
            values={"what": what, "note": note, "owner": after.owner_name, **values},
        )  # fmt: skip

    match command:
        case Acknowledge():
            return _with_agent(
                told(OutboundEvent.ACKNOWLEDGE, sets_agent=not after.is_owned), actor.user_id, actor.name
            )
        case Unacknowledge():
            return told(OutboundEvent.ACKNOWLEDGE, "<who> took the acknowledgement back at <time>.<note>")
        case ExpireAcknowledgement():
            return told(OutboundEvent.ACKNOWLEDGE, "<what>")
        case Assign():
            own = command.user_id is not None and command.user_id == actor.user_id
            text = "" if own else "<who> assigned this to <owner> at <time>.<note>"
            found = told(OutboundEvent.ASSIGN, text, sets_agent=True)
            return _whole(_with_agent(found, after.owner_id, after.owner_name))
        case Unassign():
            return told(OutboundEvent.ASSIGN, "<who> gave this back at <time>: nobody has it.<note>", sets_agent=True)
        case Escalate():
            return _whole(told(OutboundEvent.ESCALATE, "<who> asked at <time> to wake the next person.<note>"))
        case Reply():
            return told(OutboundEvent.REPLY, said=command.text)
        case Hold():
            return told(OutboundEvent.HOLD, until=command.until)
        case Resume():
            return told(OutboundEvent.HOLD, "<who> ended the hold at <time>.<note>")
        case Close():
            return told(OutboundEvent.CLOSE)
        case Cancel():
            return _whole(told(OutboundEvent.CLOSE, "<who> cancelled the alert at <time>: nothing was wrong.<note>"))
        case Merge():
            return told(OutboundEvent.CLOSE, f"<who> merged this into alert {command.into.id} at <time>.<note>")
        case Reopen() | Undo():
            return _back(change, told)


def _sentence(note: str) -> str:
    """A user's note as a sentence with a leading space: " Router restarted." for "router restarted"."""
    said = note.strip()
    return f" {said[0].upper()}{said[1:]}{'.' if said[-1].isalnum() else ''}" if said else ""


def _back(change: AlertChange, told: Callable[..., AlertUpdate]) -> AlertUpdate:
    """Undone commands: a changed assignee is written to the ticket, everything else is only noted."""
    before, after = change.before, change.after
    assert before is not None
    moved = (before.owner_id, before.owner_name) != (after.owner_id, after.owner_name)
    found = told(OutboundEvent.ASSIGN if moved else OutboundEvent.CLOSE, "<who>: <what>", sets_agent=moved)
    return _with_agent(found, after.owner_id, after.owner_name)


def _with_agent(found: AlertUpdate, user_id: int | None, name: str) -> AlertUpdate:
    return replace(found, agent_id=user_id, agent_name=name)


def _whole(found: AlertUpdate) -> AlertUpdate:
    return replace(found, is_whole=True)
