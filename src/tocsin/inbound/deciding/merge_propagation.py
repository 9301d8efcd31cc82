"""Propagates a message of a merged alert to its parent, beyond counting it there. Pure."""

from __future__ import annotations

from dataclasses import replace as replace_state
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import Actor, NewEvent
from tocsin.alerts.states import ACTIVE, ActorKind, CommandChannel, EventKind, Priority
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding.start_paging import PagingChange, start_paging
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext
from tocsin.inbound.enums import MessageStatus


class ParentUpdate(Struct, frozen=True):
    """The parent after the message, and the changes to it."""

    parent: ActiveAlert
    changes: tuple[AlertChange, ...] = ()
    #: The effect of an opening message on a parent that has paged nobody so far.
    woken: PagingChange | None = None


def propagate_to_parent(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    parent: ActiveAlert,
    child: ActiveAlert,
    status: MessageStatus,
    risen: Priority | None,
    now: datetime,
) -> ParentUpdate:
    """Raises the parent's priority if the child's rises above it, which pages by the parent's policy; and makes a
    parent that has paged nobody so far start paging for an opening message. `risen` is the child's new priority, if it
    rose."""
    state = parent.state
    if state.status not in ACTIVE:
        return ParentUpdate(parent)
    woken = start_paging(door, arrival, reading, parent, now) if status is MessageStatus.APPENDED else None
    waking = woken.waking if woken is not None else None
    events: tuple[NewEvent, ...] = ()
    after = state
    if risen is not None and risen.is_above(state.priority):
        after = replace_state(state, priority=risen)
        said = f"Alert {child.state.id}, which is merged into this one, is {risen} now; it was {state.priority}."
        data = {"changes": {"priority": [str(state.priority), str(risen)]}}
        actor = Actor(ActorKind.INTEGRATION, door.shown_source)
        events = (NewEvent(state.id, EventKind.UPDATED, now, actor, said, CommandChannel.INBOUND, data),)
    if not events and waking is None:
        return ParentUpdate(parent, woken=woken)
    paging = woken.paging if woken is not None else None
    change = AlertChange(state, after, events, paging=paging, waking=waking, was_dry_run=parent.is_dry_run)
    return ParentUpdate(replace(parent, state=after, pages=parent.pages or paging is not None), (change,), woken)
