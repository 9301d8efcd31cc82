"""The pages of client observers: open alerts, history, and one alert. Read-only, without anything internal.

`web.clients.status_page` shows the same without a session.
"""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE, INACTIVE
from tocsin.reports.public_timeline import PUBLIC_EVENTS, public_timeline
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import pagination

_COLUMNS = ("id", "status", "priority", "subject", "client", "opened_at", "closed_at")


@require_safe
def open_alerts(request: SignedInRequest) -> HttpResponse:
    """Render the active alerts of the observer's clients."""
    return _render(request, "clients/alerts.html", list_context(request, is_open=True), "list")


@require_safe
def history(request: SignedInRequest) -> HttpResponse:
    """Render the closed alerts of the observer's clients."""
    return _render(request, "clients/alerts.html", list_context(request, is_open=False), "list")


@require_safe
def alert(request: SignedInRequest, number: int) -> HttpResponse:
    """Render one alert with its public timeline."""
    return _render(request, "clients/alert.html", alert_context(number), "state")


def _render(request: SignedInRequest, template: str, context: dict[str, Any], partial: str) -> HttpResponse:
    layout = {"layout": "base.html", "home": reverse("client_alerts")}
    return render_view(request, template, {**layout, **context}, partials=(partial,))


def list_context(request: HttpRequest, *, is_open: bool) -> dict[str, Any]:
    """Return the variables of `clients/alerts.html`: a page of the active or the closed alerts."""
    require_observer()
    rows = Alert.objects.filter(status__in=sorted(ACTIVE if is_open else INACTIVE)).only(*_COLUMNS)
    page = pagination.paginate_by_number([rows], request.GET.get("cursor", ""))
    title = _("Alerts") if is_open else _("History")
    return {"title": title, "rows": page.rows, "pagination": page, "is_open": is_open}


def alert_context(number: int) -> dict[str, Any]:
    """Return the variables of `clients/alert.html`. Raises Http404."""
    require_observer()
    row = find_row(Alert.objects.only(*_COLUMNS), number, "alert")
    events = AlertEvent.objects.filter(alert=row, kind__in=list(PUBLIC_EVENTS)).order_by("at", "pk")
    return {"alert": row, "entries": public_timeline(events.values_list("at", "kind"))}


def require_observer() -> tuple[str, ...]:
    """Return the names of the clients to which the viewer is limited. Raises Http404 without such a limit."""
    limit = boundary.current()
    if limit is None or not limit.clients:
        raise Http404
    return limit.clients
