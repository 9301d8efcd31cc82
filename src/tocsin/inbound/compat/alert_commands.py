"""Commands that senders of the compatible endpoints give for an alert: acknowledge, assign, snooze, note, escalate.

The actor is the user whom the sender names, if known, else the sending system. A command that changes nothing (any
more) is not an error, because senders do not know the alert's state. A command for a merged alert applies to the alert
that it was merged into.
"""

from __future__ import annotations

import logging
from datetime import datetime

from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Actor, Assign, Command, Escalate, Hold, Reply, Unacknowledge, Unassign
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel
from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.deciding.decide import actor_of

log = logging.getLogger(__name__)


def user_of(door: CompiledIntegration, name: str) -> Actor | None:
    """Returns the user with that e-mail address, username or name as an actor; None if unknown."""
    found = door.directory.users.get(name.strip().casefold()) if name else None
    return Actor(ActorKind.USER, found[1], found[0]) if found is not None else None


def acknowledge(door: CompiledIntegration, alert_id: int, by: str, note: str, now: datetime) -> None:
    """Acknowledges the alert for a known user. Otherwise assigns it to the external name, unless it is assigned
    already.

    Either stops further paging.
    """
    user = user_of(door, by)
    if user is not None:
        _act(alert_id, Acknowledge(actor=user, note=_note(door, note), via=CommandChannel.INBOUND), now)
    elif not service.state_of(_meant(alert_id)).is_owned:
        name = by.strip() or door.shown_source
        said = _note(door, note or "acknowledged there")
        _act(alert_id, Assign(actor=actor_of(door), name=name[:100], note=said, via=CommandChannel.INBOUND), now)


def unacknowledge(door: CompiledIntegration, alert_id: int, by: str, note: str, now: datetime) -> None:
    """Reverts `acknowledge`."""
    user = user_of(door, by)
    if user is not None:
        _act(alert_id, Unacknowledge(actor=user, note=_note(door, note), via=CommandChannel.INBOUND), now)
        return
    state = service.state_of(_meant(alert_id))
    if state.owner_id is None and state.is_owned:
        _act(alert_id, Unassign(actor=actor_of(door), note=_note(door, note), via=CommandChannel.INBOUND), now)


def assign(door: CompiledIntegration, alert_id: int, to: str, by: str, note: str, now: datetime) -> None:
    """Assigns the alert to a user, or to an external name."""
    owner = user_of(door, to)
    name, user_id = (owner.name, owner.user_id) if owner is not None else (to.strip()[:100], None)
    actor = user_of(door, by) or actor_of(door)
    _act(
        alert_id,
        Assign(actor=actor, name=name, user_id=user_id, note=_note(door, note), via=CommandChannel.INBOUND),
        now,
    )


def snooze(door: CompiledIntegration, alert_id: int, until: datetime, by: str, note: str, now: datetime) -> None:
    """Puts the alert on hold until then."""
    actor = user_of(door, by) or actor_of(door)
    _act(alert_id, Hold(actor=actor, until=until, note=_note(door, note), via=CommandChannel.INBOUND), now)


def escalate(door: CompiledIntegration, alert_id: int, by: str, note: str, now: datetime) -> None:
    """Pages the next step now."""
    actor = user_of(door, by) or actor_of(door)
    _act(alert_id, Escalate(actor=actor, note=_note(door, note), via=CommandChannel.INBOUND), now)


def add_note(door: CompiledIntegration, alert_id: int, text: str, by: str, now: datetime) -> None:
    """Adds a note to the timeline."""
    actor = user_of(door, by) or actor_of(door)
    if text.strip():
        _act(alert_id, Reply(actor=actor, text=text[:4000], via=CommandChannel.INBOUND), now)


def _act(alert_id: int, command: Command, now: datetime) -> None:
    try:
        service.apply_command(_meant(alert_id), command, now=now)
    except Rejected as rejected:
        log.info("An order about alert %s changes nothing: %s", alert_id, rejected.detail)


def _meant(alert_id: int) -> int:
    """Returns the alert that this one was merged into, else the alert itself."""
    state = service.state_of(alert_id)
    return state.merged_into if state.status is AlertStatus.MERGED and state.merged_into is not None else alert_id


def _note(door: CompiledIntegration, note: str) -> str:
    return f"{door.shown_source}: {note.strip()[:1000]}" if note.strip() else f"by {door.shown_source}"
