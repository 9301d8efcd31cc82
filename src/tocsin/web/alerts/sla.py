"""The SLA of active alerts: until when somebody must respond, and until when the problem must be fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from tocsin.alerts.models import Alert
from tocsin.alerts.states import AlertStatus
from tocsin.core.db import database
from tocsin.workflows.run import loader
from tocsin.workflows.states import SlaMoment


@dataclass(frozen=True, slots=True)
class SlaTarget:
    """The next target of an alert."""

    label: str
    at: datetime
    is_breached: bool


type SlaMoments = Mapping[SlaMoment, datetime]


def load_moments(alerts: Sequence[Alert]) -> dict[int, SlaMoments]:
    """Return until when the alerts must be answered and fixed, by id. Alerts without an SLA are absent."""
    if not alerts:
        return {}
    with database.transaction() as connection:
        return {**loader.load_sla_moments(connection, [alert.pk for alert in alerts])}


def next_targets(alerts: Sequence[Alert], acknowledged_ids: Collection[int], now: datetime) -> dict[int, SlaTarget]:
    """Return the next target of active alerts, by id. Alerts without one are absent."""
    moments = load_moments(alerts)
    targets = {
        alert.pk: next_target(alert, moments[alert.pk], alert.pk in acknowledged_ids, now)
        for alert in alerts
        if alert.pk in moments
    }
    return {number: target for number, target in targets.items() if target is not None}


def next_target(alert: Alert, moments: SlaMoments, is_acknowledged: bool, now: datetime) -> SlaTarget | None:
    """Return the next target of an active alert: the response until somebody acknowledged or was assigned, then the
    resolution."""
    is_answered = is_acknowledged or alert.status == AlertStatus.ASSIGNED
    if not is_answered and (respond_by := moments.get(SlaMoment.RESPOND_BY)) is not None:
        is_breached = respond_by <= now
        return SlaTarget(_("response was due") if is_breached else _("respond within"), respond_by, is_breached)
    if (fix_by := moments.get(SlaMoment.FIX_BY)) is not None:
        is_breached = fix_by <= now
        return SlaTarget(_("resolution was due") if is_breached else _("resolve within"), fix_by, is_breached)
    return None
