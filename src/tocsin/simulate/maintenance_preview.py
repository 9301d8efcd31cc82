"""Previews a maintenance window: which alerts of the last day it would have suppressed.

Replays stored messages with the live code. The window's times are ignored; its integrations, groups, tags and condition
are tested. Sends and stores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.inbound.admin import drafts
from tocsin.inbound.maintenance.windows import CompiledWindow
from tocsin.inbound.models import Integration
from tocsin.inbound.storage.stored_messages import MessageBudget
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
    skipped_integrations: int = 0
    #: Why messages were left out; `NO_REASON` if none was.
    partial: Reason = NO_REASON


def suppressed_alerts(window: CompiledWindow, now: datetime) -> MaintenancePreview:
    """The affected alerts of the day before `now`, newest first."""
    rows = Integration.objects.exclude(mode="disabled").order_by("pk")
    if window.integrations:
        rows = rows.filter(pk__in=window.integrations)
    integrations = list(rows)
    opened, affected, budget = 0, [], MessageBudget()
    for integration in integrations[:_MAX_INTEGRATIONS]:
        opened_count, alerts = _affected_alerts(integration, window, now, budget)
        opened += opened_count
        affected += alerts
    affected.sort(key=lambda alert: alert.received_at, reverse=True)
    return MaintenancePreview(
        opened,
        len(affected),
        tuple(affected[:MAX_ALERTS_LISTED]),
        max(0, len(integrations) - _MAX_INTEGRATIONS),
        budget.reason,
    )


def _affected_alerts(
    integration: Integration, window: CompiledWindow, now: datetime, budget: MessageBudget
) -> tuple[int, list[AffectedAlert]]:
    compiled = drafts.compile_stored(integration)
    integration_window = window.for_integration(compiled.id, integration.group_id, compiled.normalizer.mapping.names)
    if integration_window is None or compiled.problem is not None:
        return 0, []
    state, opened, affected = ReplayState(replace(compiled, windows=())), 0, []
    for message in backtest.load_messages(integration, compiled, now - DAY, budget, limit=MAX_MESSAGES_PER_INTEGRATION):
        outcome = state.process(message)
        if outcome.opening is None or outcome.mapped is None or isinstance(message.element, Rejected):
            continue
        opened += 1
        if integration_window.applies_to(
            message.element.payload, outcome.mapped, outcome.opening.paging.recipient_groups
        ):
            subject = outcome.opening.alert.subject
            affected.append(AffectedAlert(message.id, message.received_at, integration.name, subject))
    return opened, affected
