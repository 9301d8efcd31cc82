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
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.inbound.admin import delayed_alerts, drafts, presets, versions
from tocsin.inbound.admin.presets import PresetKind
from tocsin.inbound.enums import HeartbeatHealth as Beat
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.heartbeats import monitor
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.models import NOT_UNDERSTOOD_CODE, DelayedAlert, InboundMessage, Integration, MaintenanceWindow
from tocsin.simulate import backtest
from tocsin.simulate.backtest_diff import BacktestTotals
from tocsin.simulate.chain import simulate_integration
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
    has_messages: bool,
    beat: monitor.HeartbeatStatus | None = None,
) -> IntegrationHealth:
    """Return the integration's health badge; for a heartbeat integration, the heartbeat's state."""
    if integration.mode == IntegrationMode.DISABLED:
        return IntegrationHealth(_("disabled"), "quiet")
    match beat.health if beat is not None else None:
        case Beat.LATE:
            return IntegrationHealth(_("overdue"), "now")
        case Beat.FAILED:
            return IntegrationHealth(_("failed"), "now")
        case Beat.UP:
            return IntegrationHealth(_("up"), "ok")
        case Beat.RUNNING:
            return IntegrationHealth(_("job running"), "ok")
        case Beat.NEW:
            return IntegrationHealth(_("waiting for the first ping"), "wait")
        case None:
            pass
    if today is None:
        return IntegrationHealth(_("no messages today") if has_messages else _("waiting for the first message"), "wait")
    text = _("receiving, %(count)s today") % {"count": counted(today[0], MAX_COUNTED_MESSAGES)}
    return (
        IntegrationHealth(text, "ok")
        if integration.mode == IntegrationMode.PAGE
        else IntegrationHealth(f"{text}, {_('dry run')}", "wait")
    )


def would_page(integration: Integration, message: InboundMessage) -> str:
    """Return whom the message would page first, evaluated at its arrival: "Alice Andersson, now"; "" for nobody."""
    try:
        compiled = drafts.compile_stored(integration)
    except Rejected:
        return ""
    simulation = simulate_integration(compiled, bytes(message.raw), message.content_type, message.received_at, limit=1)
    return simulation_view.would_page(simulation.outcomes[0]) if simulation.outcomes else ""


def describe_preset(integration: Integration) -> str:
    """Summarize the "Which tickets page?" setting in a few words."""
    routes = integration.current_version.definition.get("routes") if integration.current_version else None
    preset = presets.preset_of(
        versions.describe_version(integration.current_version).get("routes")
        if routes and integration.current_version
        else None
    )
    match preset.kind if preset is not None else None:
        case PresetKind.ALL:
            return _("none") if not routes else _("custom routes")
        case PresetKind.URGENT:
            return _("critical and high")
        case PresetKind.OUTSIDE_SUPPORT_HOURS:
            return _("outside %(hours)s") % {"hours": preset.hours if preset else ""}
        case PresetKind.SELECTED:
            return ", ".join((*preset.types, *preset.clients)) if preset else ""
        case None:
            return _("custom routes")


def dry_run_totals(integration: Integration, now: datetime) -> BacktestTotals | None:
    """Return how often a dry-run integration would have paged in the last seven days; None for other modes."""
    if integration.mode != IntegrationMode.DRY_RUN:
        return None
    rows = Alert.objects.filter(integration=integration.pk, dry_run=True, is_test=False, opened_at__gte=now - 7 * DAY)
    is_night, totals = backtest.night_of(integration), BacktestTotals()
    for opened_at in rows.values_list("opened_at", flat=True):
        totals.pages += 1
        totals.at_night += is_night(opened_at)
    return totals


def suppressed_count(integration: Integration, now: datetime) -> dict[str, Any]:
    """Return the integration's delayed alerts and the active maintenance windows that may affect it."""
    rows = DelayedAlert.objects.filter(integration=integration)
    delayed = delayed_alerts.list_delayed(rows, _MAX_DELAYED_ALERTS)
    windows = MaintenanceWindow.objects.filter(Q(integrations=[]) | Q(integrations__contains=[integration.pk]))
    return {
        "waiting": delayed,
        "waiting_count": len(delayed) if len(delayed) < _MAX_DELAYED_ALERTS else rows.count(),
        "active_windows": maintenance_windows.active_windows(now, windows),
    }


def count_not_understood(integration: Integration, now: datetime) -> int:
    """Return how many messages of the last seven days say too little to know what they want."""
    rows = InboundMessage.objects.filter(integration=integration, reason_code=NOT_UNDERSTOOD_CODE, test=False)
    return rows.filter(pk__gte=first_uuid7(now - 7 * DAY)).count()


def problem_of(integration: Integration) -> Reason:
    """Return why the configuration is unusable, or `NO_REASON`."""
    try:
        compiled = drafts.compile_stored(integration)
    except Rejected:
        return NO_REASON
    return compiled.problem.reason if compiled.problem is not None else NO_REASON
