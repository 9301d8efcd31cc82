"""An integration's health, its pending alerts and how its messages ended. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from tocsin.alerts.models import Alert
from tocsin.catalogue.kinds import IntegrationKind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import delayed_alerts, drafts, presets, versions
from tocsin.inbound.admin.presets import PresetKind
from tocsin.inbound.enums import HeartbeatHealth as Beat
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.heartbeats import monitor
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.models import DelayedAlert, InboundMessage, Integration, MaintenanceWindow
from tocsin.simulate import backtest
from tocsin.simulate.backtest_diff import BacktestTotals, is_night
from tocsin.simulate.chain import simulate_door
from tocsin.web.integrations import simulation_view
from tocsin.web.ui.capped_counts import DAY, MAX_COUNTED_MESSAGES, counted

#: Maximum number of delayed alerts shown.
_MAX_DELAYED_ALERTS = 20


@dataclass(frozen=True, slots=True)
class IntegrationHealth:
    """An integration's health in a few words, with its colour."""

    text: str
    tone: str


def kind_of(integration: Integration) -> IntegrationKind | None:
    """Return the integration's type, or None if this version does not know it."""
    return load_kinds().get(integration.kind)


def health(
    integration: Integration,
    today: tuple[int, datetime] | None,
    has_any: bool,
    beat: monitor.HeartbeatStatus | None = None,
) -> IntegrationHealth:
    """Return the integration's health badge; for a heartbeat integration, the heartbeat's state."""
    if integration.mode == IntegrationMode.DISABLED:
        return IntegrationHealth(_("switched off"), "quiet")
    match beat.health if beat is not None else None:
        case Beat.LATE:
            return IntegrationHealth(_("silent"), "now")
        case Beat.FAILED:
            return IntegrationHealth(_("failed"), "now")
        case Beat.UP:
            return IntegrationHealth(_("beats"), "ok")
        case Beat.RUNNING:
            return IntegrationHealth(_("runs"), "ok")
        case Beat.NEW:
            return IntegrationHealth(_("waits for its first beat"), "wait")
        case None:
            pass
    if today is None:
        return IntegrationHealth(_("silent today") if has_any else _("waiting for the first message"), "wait")
    text = _("receiving, %(count)s today") % {"count": counted(today[0], MAX_COUNTED_MESSAGES)}
    return (
        IntegrationHealth(text, "ok")
        if integration.mode == IntegrationMode.PAGE
        else IntegrationHealth(f"{text}, {_('dry run')}", "wait")
    )


def would_page(integration: Integration, message: InboundMessage) -> str:
    """Return whom the message would page first, evaluated at its arrival: "Alice Andersson, now"; "" for nobody."""
    try:
        door = drafts.compile_stored(integration)
    except Rejected:
        return ""
    found = simulate_door(door, bytes(message.raw), message.content_type, message.received_at, most=1)
    return simulation_view.would_page(found.outcomes[0]) if found.outcomes else ""


def which_page(integration: Integration) -> str:
    """Summarize the "Which tickets page?" setting in a few words."""
    routes = integration.current_version.definition.get("routes") if integration.current_version else None
    answer = presets.answer_of(
        versions.describe_version(integration.current_version).get("routes")
        if routes and integration.current_version
        else None
    )
    match answer.which if answer is not None else None:
        case PresetKind.ALL:
            return _("all new ones") if not routes else _("by its routes")
        case PresetKind.URGENT:
            return _("critical and high")
        case PresetKind.OUTSIDE:
            return _("outside %(hours)s") % {"hours": answer.hours if answer else ""}
        case PresetKind.THESE:
            return ", ".join((*answer.types, *answer.clients)) if answer else ""
        case None:
            return _("by its routes")


def dry_run_totals(integration: Integration, now: datetime) -> BacktestTotals | None:
    """Return how often a dry-run integration would have paged in the last seven days; None for other modes."""
    if integration.mode != IntegrationMode.DRY_RUN:
        return None
    rows = Alert.objects.filter(integration=integration.pk, dry_run=True, is_test=False, opened_at__gte=now - 7 * DAY)
    zone, found = backtest.zone_of(integration), BacktestTotals()
    for at in rows.values_list("opened_at", flat=True):
        found.pages += 1
        found.at_night += is_night(at, zone)
    return found


def suppressed_count(integration: Integration, now: datetime) -> dict[str, Any]:
    """Return the integration's delayed alerts and the active maintenance windows that may affect it."""
    rows = DelayedAlert.objects.filter(integration=integration)
    shown = delayed_alerts.list_delayed(rows, _MAX_DELAYED_ALERTS)
    windows = MaintenanceWindow.objects.filter(Q(integrations=[]) | Q(integrations__contains=[integration.pk]))
    return {
        "waiting": shown,
        "waiting_count": len(shown) if len(shown) < _MAX_DELAYED_ALERTS else rows.count(),
        "in_force": maintenance_windows.in_force(now, windows),
    }


def problem_of(integration: Integration) -> str:
    """Return why the configuration is unusable, or ""."""
    try:
        door = drafts.compile_stored(integration)
    except Rejected:
        return ""
    return door.problem.detail if door.problem is not None else ""
