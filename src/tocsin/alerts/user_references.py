"""Finds the active alerts that reference a user, which prevent the user's deletion."""

from __future__ import annotations

from django.db.models import Q

from tocsin.alerts.models import Alert
from tocsin.alerts.reasons import ALERT_REFERENCE
from tocsin.alerts.states import ACTIVE
from tocsin.core.reasons import AlertRef, Reason

_MAX_LISTED = 10


def alerts_using_user(user_id: int) -> list[Reason]:
    """Returns descriptions of the active alerts that the user owns or has acknowledged, oldest first."""
    condition = Q(owner=user_id) | Q(acknowledgements__user=user_id)
    active = Alert.objects.filter(condition, status__in=sorted(ACTIVE)).order_by("id").distinct()
    return [ALERT_REFERENCE(alert=AlertRef(alert_id)) for alert_id in active.values_list("pk", flat=True)[:_MAX_LISTED]]
