"""Shows who was not paged about an alert, and why."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.core.db import database
from tocsin.escalation.actions import why_not_paged
from tocsin.web.http.objects import find_visible_alert
from tocsin.web.http.request import SignedInRequest, render_view


@require_safe
def why_not_notified(request: SignedInRequest, number: int) -> HttpResponse:
    """Render every user of the alert's groups and policy who was not paged, with the reason."""
    alert = find_visible_alert(number)
    with database.transaction() as connection:
        people = why_not_paged.explain_for_alert(connection, alert)
    return render_view(request, "alerts/why_not_notified.html", {"alert": alert.row, "people": people})
