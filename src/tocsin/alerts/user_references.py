"""Which live alerts still need a user, for whoever wants to delete one."""

from __future__ import annotations

from django.db.models import Q

from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE

_SHOWN = 10


def needs_user(user_id: int) -> list[str]:
    """The live alerts that the user owns or has acknowledged, oldest first, as words."""
    theirs = Q(owner=user_id) | Q(acknowledgements__user=user_id)
    live = Alert.objects.filter(theirs, status__in=sorted(ACTIVE)).order_by("id").distinct()
    return [f"alert #{number}" for number in live.values_list("pk", flat=True)[:_SHOWN]]
