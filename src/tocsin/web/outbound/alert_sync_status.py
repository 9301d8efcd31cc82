"""What of an alert is still to be written on its ticket, or could not be: for the alert's page."""

from __future__ import annotations

from tocsin.outbound.models import Call
from tocsin.outbound.states import WAITING, CallStatus


def unsent(alert_id: int) -> list[Call]:
    """Its calls that wait or failed, oldest first; at most ten."""
    wanted = [*WAITING, CallStatus.DEAD]
    rows = Call.objects.filter(alert=alert_id, status__in=wanted).select_related("integration__standing")
    return list(rows.order_by("pk")[:10])
