"""The SLA of active alerts: until when somebody must respond, and until when the problem must be fixed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def next_targets(alerts: Sequence[Alert], acknowledged_ids: Collection[int], now: datetime) -> dict[int, SlaTarget]:
    """Return the next target of active alerts, by id: the response until somebody acknowledged or was assigned, then
    the resolution. Alerts without one are absent."""
    if not alerts:
        return {}
    with database.transaction() as connection:
        moments = loader.load_sla_moments(connection, [alert.pk for alert in alerts])
    targets: dict[int, SlaTarget] = {}
    for alert in alerts:
        is_answered = alert.pk in acknowledged_ids or alert.status == AlertStatus.ASSIGNED
        own = moments.get(alert.pk, {})
        if not is_answered and (respond_by := own.get(SlaMoment.RESPOND_BY)) is not None:
            is_breached = respond_by <= now
            label = _("response was due") if is_breached else _("respond within")
            targets[alert.pk] = SlaTarget(label, respond_by, is_breached)
        elif (fix_by := own.get(SlaMoment.FIX_BY)) is not None:
            is_breached = fix_by <= now
            label = _("resolution was due") if is_breached else _("resolve within")
            targets[alert.pk] = SlaTarget(label, fix_by, is_breached)
    return targets
