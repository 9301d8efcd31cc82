"""Previews a maintenance window: which alerts of the last day it would have suppressed.

Replays stored messages with the live code. The window's times are ignored; its integrations, groups, tags and condition
are tested. Sends and stores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core.errors import Rejected
from tocsin.inbound.admin import drafts
from tocsin.inbound.maintenance.windows import CompiledWindow
from tocsin.inbound.models import Integration
from tocsin.simulate import backtest
from tocsin.simulate.replay_state import ReplayState

DAY = timedelta(days=1)

#: Limits: messages per integration, integrations, and listed alerts.
MAX_MESSAGES_PER_INTEGRATION = 1_000
_MAX_INTEGRATIONS = 20
MAX_ALERTS_LISTED = 20


@dataclass(frozen=True, slots=True)
class AffectedAlert:
    """One alert the window applies to."""

    message_id: UUID
    received_at: datetime
    integration: str
    subject: str


@dataclass(frozen=True, slots=True)
class MaintenancePreview:
    """`opened`: alerts opened in that time; `count`: how many of them the window applies to."""

    opened: int
    count: int
    alerts: tuple[AffectedAlert, ...]
    #: The number of integrations not examined.
    left_out: int = 0


def suppressed_alerts(window: CompiledWindow, now: datetime) -> MaintenancePreview:
    """The affected alerts of the day before `now`, newest first."""
    rows = Integration.objects.exclude(mode="disabled").order_by("pk")
    if window.integrations:
        rows = rows.filter(pk__in=window.integrations)
    integrations = list(rows)
    opened, found = 0, []
    for integration in integrations[:_MAX_INTEGRATIONS]:
        of_it, alerts = _of(integration, window, now)
        opened += of_it
        found += alerts
    found.sort(key=lambda one: one.received_at, reverse=True)
    return MaintenancePreview(
        opened, len(found), tuple(found[:MAX_ALERTS_LISTED]), max(0, len(integrations) - _MAX_INTEGRATIONS)
    )


def _of(integration: Integration, window: CompiledWindow, now: datetime) -> tuple[int, list[AffectedAlert]]:
    door = drafts.compile_stored(integration)
    about = window.for_door(door.id, door.reader.mapping.names)
    if about is None or door.problem is not None:
        return 0, []
    world, opened, found = ReplayState(replace(door, windows=())), 0, []
    for arrived in backtest.messages(integration, door, now - DAY, limit=MAX_MESSAGES_PER_INTEGRATION):
        came = world.take(arrived)
        if came.opening is None or came.mapped is None or isinstance(arrived.element, Rejected):
            continue
        opened += 1
        if about.catches(arrived.element.payload, came.mapped, came.opening.paging.recipient_groups):
            subject = came.opening.alert.subject
            found.append(AffectedAlert(arrived.id, arrived.received_at, integration.name, subject))
    return opened, found
