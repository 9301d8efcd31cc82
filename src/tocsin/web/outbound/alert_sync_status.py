"""Updates of an alert that were not yet written to its ticket, for the alert view."""

from __future__ import annotations

from tocsin.outbound.models import Call
from tocsin.outbound.states import WAITING, CallStatus


def unsent(alert_id: int) -> list[Call]:
    """Return the alert's pending and failed calls, oldest first, at most ten."""
    statuses = [*WAITING, CallStatus.DEAD]
    rows = Call.objects.filter(alert=alert_id, status__in=statuses).select_related("integration__status")
    return list(rows.order_by("pk")[:10])
