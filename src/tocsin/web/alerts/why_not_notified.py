"""Who was not called about an alert, and why: one press away from the alert."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.alerts.models import Alert
from tocsin.core.db import database
from tocsin.escalation.actions import why_not_paged
from tocsin.web.http.request import SignedInRequest, page


@require_safe
def not_called(request: SignedInRequest, number: int) -> HttpResponse:
    """Everybody whom the alert's groups and policy know and who was not called."""
    alert = Alert.objects.filter(pk=number).first()
    if alert is None:
        raise Http404(_("There is no alert %(number)s.") % {"number": number})
    with database.transaction() as connection:
        people = why_not_paged.of_alert(connection, number)
    return page(request, "alerts/not_called.html", {"alert": alert, "people": people})
