"""Propagates a message of a merged alert to its parent, beyond counting it there. Pure."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import NewEvent
from tocsin.alerts.states import ACTIVE, CommandChannel, EventKind, Priority
from tocsin.core.reasons import AlertRef, Term
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import reasons
from tocsin.inbound.deciding.start_paging import PagingChange, start_paging
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext
from tocsin.inbound.enums import MessageStatus


class ParentUpdate(Struct, frozen=True):
    """The parent after the message, and the changes to it."""

    parent: ActiveAlert
    changes: tuple[AlertChange, ...] = ()
    #: The effect of an opening message on a parent that has paged nobody so far.
    paging_change: PagingChange | None = None


def propagate_to_parent(
    context: MessageContext,
    event: NormalizedEvent,
    parent: ActiveAlert,
    child: ActiveAlert,
    status: MessageStatus,
    new_priority: Priority | None,
) -> ParentUpdate:
    """Raises the parent's priority if the child's rises above it, which pages by the parent's policy; and makes a
    parent that has paged nobody so far start paging for an opening message. `new_priority` is the child's new priority,
    if it rose."""
    state = parent.state
    if state.status not in ACTIVE:
        return ParentUpdate(parent)
    paging_change = start_paging(context, event, parent) if status is MessageStatus.APPENDED else None
    paging_start = paging_change.paging_start if paging_change is not None else None
    events: tuple[NewEvent, ...] = ()
    new_state = state
    if new_priority is not None and new_priority.is_above(state.priority):
        new_state = replace(state, priority=new_priority)
        reason = reasons.CHILD_PRIORITY_RAISED(
            child=AlertRef(child.state.id), priority=Term(new_priority), previous=Term(state.priority)
        )
        data = {"changes": {"priority": [str(state.priority), str(new_priority)]}}
        actor, via = context.integration.actor, CommandChannel.INBOUND
        events = (NewEvent(state.id, EventKind.UPDATED, context.now, actor, reason, via, data),)
    if not events and paging_start is None:
        return ParentUpdate(parent, paging_change=paging_change)
    paging = paging_change.paging if paging_change is not None else None
    change = AlertChange(
        state, new_state, events, paging=paging, paging_start=paging_start, was_dry_run=parent.is_dry_run
    )
    return ParentUpdate(
        replace(parent, state=new_state, is_paging=parent.is_paging or paging is not None), (change,), paging_change
    )
