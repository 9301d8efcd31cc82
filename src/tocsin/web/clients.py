"""What client observers see, read-only and without anything internal: the alerts and reports of their clients.

The same pages are the status page of a client, which a token in the URL opens without a session. Below them, the tables
that route by client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from tocsin.access import boundary, tokens
from tocsin.access.models import ApiToken
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus
from tocsin.core.db.base import viewer_transaction
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import specs as commands
from tocsin.inbound.models import ClientTable
from tocsin.people import permissions
from tocsin.reports import alert_reports
from tocsin.reports.alert_reports import PUBLIC_EVENTS, public_timeline
from tocsin.reports.counted_alerts import NO_FILTER, GroupBy, Period
from tocsin.resources import visibility
from tocsin.resources.registry import CLIENT_TABLES
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import SignedInRequest, find_row, moment_of, render_view
from tocsin.web.ui import object_list
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import CodeField, SpecForm, field_error_text, problems_of, show_rejection, user_zone
from tocsin.web.ui.object_list import ObjectList

_COLUMNS = ("id", "status", "priority", "subject", "client", "opened_at", "closed_at")
_REPORT_DAYS = 30
#: A page that shows the present loads itself again this often, without a script. Readers can stop it.
_REFRESH_SECONDS = 60

type _Page = Callable[..., tuple[str, dict[str, Any]]]


def _for_observers(page: _Page) -> Callable[..., HttpResponse]:
    """Return the view of a page for observers who are signed in."""

    @wraps(page)
    @require_safe
    def view(request: SignedInRequest, **arguments: Any) -> HttpResponse:
        _require_observer()
        template, context = page(request, **arguments)
        layout = {"layout": "base.html", "home": reverse("client_alerts")}
        return render_view(request, template, {**layout, **context}, partials=("list", "state"))

    return view


def _on_status_page(page: _Page) -> Callable[..., HttpResponse]:
    """Return the view of a page for the token in the URL.

    Any API token that is limited to clients opens it, so it ends with the token. The token must not leave the page: no
    answer is stored, framed or named as a referrer, and none sets a cookie.
    """

    @wraps(page)
    @login_not_required
    @require_safe
    def view(request: HttpRequest, token: str, **arguments: Any) -> HttpResponse:
        found = _verify(request, token)
        boundary.enter(visibility.boundary_of(permissions.viewer(found.user, found.limits)))
        clients = _require_observer()
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


def _alerts(request: HttpRequest, title: str, statuses: Iterable[AlertStatus]) -> tuple[str, dict[str, Any]]:
    rows = Alert.objects.filter(status__in=sorted(statuses)).only(*_COLUMNS)
    page = object_list.paginate_by_number([rows], request.GET.get("cursor", ""))
    is_open = statuses is ACTIVE
    context = {"title": title, "rows": page.rows, "pagination": page, "is_open": is_open, "is_refreshed": is_open}
    return "clients/alerts.html", context


def _open_alerts(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the active alerts of the clients."""
    return _alerts(request, _("Alerts"), ACTIVE)


def _history(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render their closed alerts."""
    return _alerts(request, _("History"), INACTIVE)


def _alert(request: HttpRequest, number: int) -> tuple[str, dict[str, Any]]:
    """Render one alert with its public timeline."""
    row = find_row(Alert.objects.only(*_COLUMNS), number, "alert")
    events = AlertEvent.objects.filter(alert=row, kind__in=list(PUBLIC_EVENTS)).order_by("at", "pk")
    entries = public_timeline(events.values_list("at", "kind"))
    return "clients/alert.html", {"alert": row, "entries": entries, "is_refreshed": True}


def _reports(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Render the response times of the last 30 days, against the 30 days before, by priority."""
    period = Period.last_days(_REPORT_DAYS, moment_of(request), user_zone())
    with viewer_transaction() as connection:
        report = alert_reports.load_response_times(connection, period, GroupBy.PRIORITY, period.bucket, NO_FILTER)
    return "clients/reports.html", {"title": _("Reports"), "report": report, "days": _REPORT_DAYS}


open_alerts, open_alerts_status_page = _for_observers(_open_alerts), _on_status_page(_open_alerts)
history, history_status_page = _for_observers(_history), _on_status_page(_history)
alert, alert_status_page = _for_observers(_alert), _on_status_page(_alert)
reports = _on_status_page(_reports)


def _require_observer() -> tuple[str, ...]:
    """Return the names of the clients to which the viewer is limited. Raises Http404 without such a limit."""
    limit = boundary.current()
    if limit is None or not limit.clients:
        raise Http404
    return limit.clients


def _verify(request: HttpRequest, secret: str) -> ApiToken:
    try:
        found = tokens.verify(secret, now=moment_of(request), address=request.META.get("REMOTE_ADDR") or None)
    except Rejected:
        found = None
    if found is None:
        raise Http404("There is no such status page.")
    return found


# ---------- client tables
# Client tables for routing.


#: Maximum size of an uploaded file.
MAX_FILE_BYTES = 2_000_000


_ROW = re.compile(r"clients\[(\d+)\]")


class ClientTableForm(SpecForm):
    """A client table, pasted or uploaded."""

    clients = CodeField()
    file = forms.FileField(
        label=gettext_lazy("Or a CSV file"),
        required=False,
        help_text=gettext_lazy("Replaces the rows above."),
    )
    layout = ("name", "group")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        clients = self.current.get("clients")
        self.initial["clients"] = commands.to_csv(clients) if clients else "client, group, policy, numbers\n"

    def clean_file(self) -> str:
        """Return the file's text, or "" without a file."""
        upload = self.cleaned_data.get("file")
        if upload is None:
            return ""
        if upload.size > MAX_FILE_BYTES:
            raise forms.ValidationError(_("This file is too large for a client table."))
        try:
            return str(upload.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise forms.ValidationError(_("This file is not UTF-8 text; save it as CSV UTF-8.")) from None

    def spec(self) -> dict[str, Any]:
        """Return the table in spec form. Raises Rejected, naming the row."""
        text = self.cleaned_data["file"] or self.cleaned_data["clients"]
        self.entered = commands.from_csv(text)
        return {**super().spec(), "clients": self.entered}

    def show(self, rejected: Rejected) -> None:
        """Name the client in each problem, because a row number is hard to find in a pasted table."""
        for problem in problems_of(rejected):
            row = _ROW.match(problem.field or "")
            if row is None:
                show_rejection(self, problem)
            else:
                client = self.entered[int(row[1])].get("client", "–")
                self.add_error("clients", f"{client}: {field_error_text(problem)}")


_LIST = ObjectList(
    CLIENT_TABLES,
    rows_template="client_tables/rows.html",
    empty_title=gettext_lazy("No client tables yet"),
    empty_text=gettext_lazy("A client table maps each client to its group. Routes refer to it by name."),
    icon="users-group",
    add_view="new_client_table",
    add_label=gettext_lazy("New table"),
    template="client_tables/list.html",
)


@require_safe
def client_table_list(request: SignedInRequest) -> HttpResponse:
    """Render every table with its number of clients."""
    return _LIST.render(request, _LIST.matching(request))


class ClientTablePage(ObjectPage[ClientTable]):
    """The CSV form."""

    template = "client_tables/edit.html"
    form_type = ClientTableForm
    new_title = gettext_lazy("New client table")
    shows_use = True

    def message(self, saved: ClientTable) -> str:
        count = len(saved.clients)
        return ngettext("Saved: %(count)s client.", "Saved: %(count)s clients.", count) % {"count": count}


edit_client_table = ClientTablePage(_LIST)
