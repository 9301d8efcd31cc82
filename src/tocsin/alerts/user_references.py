"""Finds the active alerts that reference a user, which prevent the user's deletion."""

from __future__ import annotations

from django.db.models import Q

from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE

_SHOWN = 10


def alerts_using_user(user_id: int) -> list[str]:
    """Returns descriptions of the active alerts that the user owns or has acknowledged, oldest first."""
    theirs = Q(owner=user_id) | Q(acknowledgements__user=user_id)
    live = Alert.objects.filter(theirs, status__in=sorted(ACTIVE)).order_by("id").distinct()
    return [f"alert #{number}" for number in live.values_list("pk", flat=True)[:_SHOWN]]
