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
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel
from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration

log = logging.getLogger(__name__)


def user_of(integration: CompiledIntegration, name: str) -> Actor | None:
    """Returns the user with that e-mail address, username or name as an actor; None if unknown."""
    user = integration.directory.users.get(name.strip().casefold()) if name else None
    return Actor(ActorKind.USER, user[1], user[0]) if user is not None else None


def acknowledge(integration: CompiledIntegration, alert: FoundAlert, user_name: str, note: str, now: datetime) -> None:
    """Acknowledges the alert for a known user. Otherwise assigns it to the external name, unless it is assigned
    already.

    Either stops further paging.
    """
    user = user_of(integration, user_name)
    if user is not None:
        _act(alert, Acknowledge(actor=user, note=_attributed_note(integration, note), via=CommandChannel.INBOUND), now)
    elif not service.load_state(_resolve_merged(alert)).is_owned:
        name = user_name.strip() or integration.display_source
        assignment_note = _attributed_note(integration, note or "acknowledged there")
        _act(
            alert,
            Assign(actor=integration.actor, name=name[:100], note=assignment_note, via=CommandChannel.INBOUND),
            now,
        )


def unacknowledge(
    integration: CompiledIntegration, alert: FoundAlert, user_name: str, note: str, now: datetime
) -> None:
    """Reverts `acknowledge`."""
    user = user_of(integration, user_name)
    if user is not None:
        _act(
            alert,
            Unacknowledge(actor=user, note=_attributed_note(integration, note), via=CommandChannel.INBOUND),
            now,
        )
        return
    state = service.load_state(_resolve_merged(alert))
    if state.owner_id is None and state.is_owned:
        _act(
            alert,
            Unassign(actor=integration.actor, note=_attributed_note(integration, note), via=CommandChannel.INBOUND),
            now,
        )


def assign(
    integration: CompiledIntegration, alert: FoundAlert, assignee: str, user_name: str, note: str, now: datetime
) -> None:
    """Assigns the alert to a user, or to an external name."""
    owner = user_of(integration, assignee)
    name, user_id = (owner.name, owner.user_id) if owner is not None else (assignee.strip()[:100], None)
    actor = user_of(integration, user_name) or integration.actor
    _act(
        alert,
        Assign(
            actor=actor,
            name=name,
            user_id=user_id,
            note=_attributed_note(integration, note),
            via=CommandChannel.INBOUND,
        ),
        now,
    )


def snooze(
    integration: CompiledIntegration, alert: FoundAlert, until: datetime, user_name: str, note: str, now: datetime
) -> None:
    """Puts the alert on hold until then."""
    actor = user_of(integration, user_name) or integration.actor
    _act(
        alert,
        Hold(actor=actor, until=until, note=_attributed_note(integration, note), via=CommandChannel.INBOUND),
        now,
    )


def escalate(integration: CompiledIntegration, alert: FoundAlert, user_name: str, note: str, now: datetime) -> None:
    """Pages the next step now."""
    actor = user_of(integration, user_name) or integration.actor
    _act(alert, Escalate(actor=actor, note=_attributed_note(integration, note), via=CommandChannel.INBOUND), now)


def add_note(integration: CompiledIntegration, alert: FoundAlert, text: str, user_name: str, now: datetime) -> None:
    """Adds a note to the timeline."""
    actor = user_of(integration, user_name) or integration.actor
    if text.strip():
        _act(alert, Reply(actor=actor, text=text[:4000], via=CommandChannel.INBOUND), now)


def _act(alert: FoundAlert, command: Command, now: datetime) -> None:
    try:
        service.apply_command(_resolve_merged(alert), command, now=now)
    except Rejected as rejected:
        log.info("An order about alert %s changes nothing: %s", alert.id, rejected.detail, extra={"alert_id": alert.id})


def _resolve_merged(alert: FoundAlert) -> FoundAlert:
    """Returns the alert that this one was merged into, else the alert itself."""
    state = service.load_state(alert)
    if state.status is not AlertStatus.MERGED or state.merged_into is None:
        return alert
    return FoundAlert.by_tocsin(state.merged_into)


def _attributed_note(integration: CompiledIntegration, note: str) -> str:
    return (
        f"{integration.display_source}: {note.strip()[:1000]}" if note.strip() else f"by {integration.display_source}"
    )
