"""The pages of client observers: open alerts, history, and one alert. Read-only, without anything internal."""

from __future__ import annotations

from django.http import Http404, HttpResponse
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
    return _list(request, sorted(ACTIVE), _("Alerts"))


@require_safe
def history(request: SignedInRequest) -> HttpResponse:
    """Render the closed alerts of the observer's clients."""
    return _list(request, sorted(INACTIVE), _("History"))


def _list(request: SignedInRequest, statuses: list[str], title: str) -> HttpResponse:
    _require_observer()
    rows = Alert.objects.filter(status__in=statuses).only(*_COLUMNS)
    page = pagination.paginate_by_number([rows], request.GET.get("cursor", ""))
    context = {"title": title, "rows": page.rows, "pagination": page}
    return render_view(request, "clients/alerts.html", context, partials=("list",))


@require_safe
def alert(request: SignedInRequest, number: int) -> HttpResponse:
    """Render one alert with its public timeline."""
    _require_observer()
    row = find_row(Alert.objects.only(*_COLUMNS), number, "alert")
    events = AlertEvent.objects.filter(alert=row, kind__in=list(PUBLIC_EVENTS)).order_by("at", "pk")
    entries = public_timeline(events.values_list("at", "kind"))
    return render_view(request, "clients/alert.html", {"alert": row, "entries": entries}, partials=("state",))


def _require_observer() -> None:
    limit = boundary.current()
    if limit is None or not limit.clients:
        raise Http404
