"""Which live alerts still need a user, for whoever wants to delete one."""

from __future__ import annotations

from tocsin.alerts.models import Alert
from tocsin.alerts.states import LIVE

_SHOWN = 10


def needs_user(user_id: int) -> list[str]:
    """The live alerts that the user owns, oldest first, as words."""
    owned = Alert.objects.filter(owner=user_id, status__in=sorted(LIVE)).order_by("id")
    return [f"alert #{number}" for number in owned.values_list("pk", flat=True)[:_SHOWN]]
