"""What client observers see: the alerts and reports of their clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.access import boundary, tokens
from tocsin.access.models import ApiToken
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE, INACTIVE
from tocsin.core.db.row_security import viewer_transaction
from tocsin.core.errors import Rejected
from tocsin.people import permissions
from tocsin.reports import alert_reports
from tocsin.reports.alert_reports import PUBLIC_EVENTS, public_timeline
from tocsin.reports.counted_alerts import NO_FILTER, GroupBy, Period
from tocsin.resources import visibility
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import SignedInRequest, find_row, moment_of, render_view
from tocsin.web.ui import object_list
from tocsin.web.ui.forms import user_zone

# ---------- views
# The pages of client observers: open alerts, history, and one alert. Read-only, without anything internal.
#
# `web.clients` shows the same without a session.


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
    page = object_list.paginate_by_number([rows], request.GET.get("cursor", ""))
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


# ---------- status page
# The status page of a client: what its observers see, by a token in the URL and without a session. Read-only.
#
# Any API token that is limited to clients opens it, so it ends with the token. The token must not leave the page: no
# answer is stored, framed or named as a referrer, and none sets a cookie.


_REPORT_DAYS = 30
#: A page that shows the present loads itself again this often, without a script. Readers can stop it.
_REFRESH_SECONDS = 60

type _Page = Callable[..., tuple[str, dict[str, Any]]]


def _page(page: _Page) -> Callable[..., HttpResponse]:
    """Decorate a function that returns a template with its variables to render it for the token in the URL."""

    @wraps(page)
    @login_not_required
    @require_safe
    def view(request: HttpRequest, token: str, **arguments: Any) -> HttpResponse:
        found = _verify(request, token)
        boundary.enter(visibility.boundary_of(permissions.viewer(found.user, found.limits)))
        clients = require_observer()
        home = reverse("status_page", args=[token])
        with timezone.override(zone(found.user.time_zone)):
            template, context = page(request, **arguments)
            frame = {"layout": "clients/status.html", "home": home, "token": token, "clients": clients}
            is_still = "still" in request.GET
            response = render_view(request, template, {**frame, "is_still": is_still, **context})
        if context.get("is_refreshed") and not is_still:
            response["Refresh"] = f"{_REFRESH_SECONDS}"
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response

    return view


@_page
def open_alerts_status_page(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the active alerts."""
    return "clients/alerts.html", {**list_context(request, is_open=True), "is_refreshed": True}


@_page
def history_status_page(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the closed alerts."""
    return "clients/alerts.html", list_context(request, is_open=False)


@_page
def alert_status_page(request: HttpRequest, number: int) -> tuple[str, dict[str, Any]]:
    """Render one alert with its public timeline."""
    return "clients/alert.html", {**alert_context(number), "is_refreshed": True}


@_page
def reports(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the response times of the last 30 days, against the 30 days before, by priority."""
    period = Period.last_days(_REPORT_DAYS, moment_of(request), user_zone())
    with viewer_transaction() as connection:
        report = alert_reports.load_response_times(connection, period, GroupBy.PRIORITY, period.bucket, NO_FILTER)
    return "clients/reports.html", {"title": _("Reports"), "report": report, "days": _REPORT_DAYS}


def _verify(request: HttpRequest, secret: str) -> ApiToken:
    try:
        found = tokens.verify(secret, now=moment_of(request), address=request.META.get("REMOTE_ADDR") or None)
    except Rejected:
        found = None
    if found is None:
        raise Http404("There is no such status page.")
    return found
