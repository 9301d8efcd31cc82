"""Commands that senders of the compatible endpoints give for an alert.

The actor is the user whom the sender names, if known, else the sending system. A command that changes nothing (any
more) is not an error, because senders do not know the alert's state. A command for a merged alert applies to the alert
that it was merged into.
"""

from __future__ import annotations

import logging
from datetime import datetime

from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Actor, Assign, Command
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel
from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration

log = logging.getLogger(__name__)


def user_of(integration: CompiledIntegration, name: str) -> Actor | None:
    """Returns the user with that e-mail address, username or name as an actor; None if unknown."""
    user = integration.directory.users.get(name.strip().casefold()) if name else None
    return Actor(ActorKind.USER, user[1], user[0]) if user is not None else None


def note_of(integration: CompiledIntegration, note: str) -> str:
    """Returns a note that names the sending system."""
    source, text = integration.display_source, note.strip()[:1000]
    return f"{source}: {text}" if text else f"by {source}"


def acknowledge(integration: CompiledIntegration, alert: FoundAlert, user_name: str, note: str, now: datetime) -> None:
    """Acknowledges the alert for a known user. Otherwise assigns it to the external name, unless it is assigned
    already.

    Either stops further paging.
    """
    user = user_of(integration, user_name)
    if user is not None:
        apply(alert, Acknowledge(actor=user, note=note_of(integration, note), via=CommandChannel.INBOUND), now)
    elif not service.load_state(resolve_merged(alert)).is_owned:
        name = (user_name.strip() or integration.display_source)[:100]
        note = note_of(integration, note or "acknowledged there")
        apply(alert, Assign(actor=integration.actor, name=name, note=note, via=CommandChannel.INBOUND), now)


def apply(alert: FoundAlert, command: Command, now: datetime) -> None:
    """Gives a command for the alert, or for the one that it was merged into."""
    try:
        service.apply_command(resolve_merged(alert), command, now=now)
    except Rejected as rejected:
        log.info("An order about alert %s changes nothing: %s", alert.id, rejected.detail, extra={"alert_id": alert.id})


def resolve_merged(alert: FoundAlert) -> FoundAlert:
    """Returns the alert that this one was merged into, else the alert itself."""
    state = service.load_state(alert)
    if state.status is not AlertStatus.MERGED or state.merged_into is None:
        return alert
    return FoundAlert.by_tocsin(state.merged_into)
