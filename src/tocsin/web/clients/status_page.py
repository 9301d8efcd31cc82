"""The status page of a client: what its observers see, by a token in the URL and without a session. Read-only.

Any API token that is limited to clients opens it, so it ends with the token. The token must not leave the page: no
answer is stored, framed or named as a referrer, and none sets a cookie.
"""

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
from tocsin.core.db.row_security import viewer_transaction
from tocsin.core.errors import Rejected
from tocsin.people import permissions
from tocsin.reports import response_times
from tocsin.reports.counted_alerts import NO_FILTER, GroupBy
from tocsin.reports.period import Period
from tocsin.resources import visibility
from tocsin.web.clients import views
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import moment_of, render_view
from tocsin.web.ui.forms import user_zone

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
        clients = views.require_observer()
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
def open_alerts(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the active alerts."""
    return "clients/alerts.html", {**views.list_context(request, is_open=True), "is_refreshed": True}


@_page
def history(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the closed alerts."""
    return "clients/alerts.html", views.list_context(request, is_open=False)


@_page
def alert(request: HttpRequest, number: int) -> tuple[str, dict[str, Any]]:
    """Render one alert with its public timeline."""
    return "clients/alert.html", {**views.alert_context(number), "is_refreshed": True}


@_page
def reports(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the response times of the last 30 days, against the 30 days before, by priority."""
    period = Period.last_days(_REPORT_DAYS, moment_of(request), user_zone())
    with viewer_transaction() as connection:
        report = response_times.load_response_times(connection, period, GroupBy.PRIORITY, period.bucket, NO_FILTER)
    return "clients/reports.html", {"title": _("Reports"), "report": report, "days": _REPORT_DAYS}


def _verify(request: HttpRequest, secret: str) -> ApiToken:
    try:
        found = tokens.verify(secret, now=moment_of(request), address=request.META.get("REMOTE_ADDR") or None)
    except Rejected:
        found = None
    if found is None:
        raise Http404("There is no such status page.")
    return found
