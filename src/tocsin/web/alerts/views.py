"""The alert list, its badge in the side bar, and bulk commands."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts.commands import Acknowledge, Assign, Close, Command
from tocsin.alerts.service import VisibleAlert, apply_command_to_many, find_alerts
from tocsin.alerts.states import CommandChannel
from tocsin.core.errors import Rejected
from tocsin.inbound.models import Integration
from tocsin.people.models import Group
from tocsin.web.alerts import queries
from tocsin.web.alerts.forms import AlertFilterForm
from tocsin.web.http.authorization import alert_actor, may_respond, requires
from tocsin.web.http.request import SignedInRequest, next_url, render_view
from tocsin.web.ui import pagination
from tocsin.web.ui.choices import PRIORITIES

MAX_BULK_ALERTS = 500

#: Maximum digits of an alert number that fits the database column.
MAX_NUMBER_DIGITS = 18


@require_safe
def alert_list(request: SignedInRequest) -> HttpResponse:
    """Render one tab of the list, filtered and paginated. The URL holds the whole state."""
    tab = request.GET.get("tab", "open")
    if tab not in dict(queries.TABS):
        tab = "open"
    text = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    form = AlertFilterForm(request.GET)
    form.is_valid()
    filters = {name: value for name, value in form.cleaned_data.items() if value}
    rows = queries.filtered(tab, filters, text)
    if filters.get("sort") == "priority" and tab != "closed":
        result = pagination.PaginatedRows(queries.by_priority(rows), "")
    else:
        result = pagination.paginate_by_number(
            rows, request.GET.get("cursor", ""), descending=filters.get("sort") != "oldest"
        )
    counts = queries.active_counts()
    context = {
        "tabs": queries.tabs(tab, counts),
        # Of the shell, which would count again.
        "open_count": counts.needing_answer,
        "tab": tab,
        "text": text,
        "chosen": filters,
        "integrations": Integration.objects.order_by("name").values_list("pk", "name"),
        "groups": Group.objects.order_by("name").values_list("pk", "name"),
        "priorities": PRIORITIES,
        "filter_count": len(filters.keys() - {"sort"}),
        "rows": queries.rows_of(result.rows, request.now),
        "pagination": result,
    }
    return render_view(request, "alerts/list.html", context, partials=("list", "tabs"))


@require_safe
def open_count(request: SignedInRequest) -> HttpResponse:
    """Render the badge beside "Alerts" in the side bar."""
    return render_view(request, "parts/open_count.html", {"open_count": queries.open_count()})


@require_POST
@requires(Permission.RESPOND)
def bulk(request: SignedInRequest) -> HttpResponse:
    """Run one command on every selected alert. A rejected alert does not stop the others."""
    selected = request.POST.getlist("alert")[:MAX_BULK_ALERTS]
    numbers = [int(text) for text in selected if text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS]
    command = _command(request)
    if not numbers or command is None:
        messages.warning(request, _("Choose at least one alert."))
        return redirect(next_url(request, "alerts"))
    outcomes = apply_command_to_many(_answerable(request, numbers), command, now=request.now)
    rejections = [outcome.reason.localized() for outcome in outcomes if isinstance(outcome, Rejected)]
    done_count = len(outcomes) - len(rejections)
    if done_count:
        success_text = ngettext("%(count)d alert updated.", "%(count)d alerts updated.", done_count) % {
            "count": done_count
        }
        messages.success(request, success_text)
    for detail in rejections[:5]:
        messages.warning(request, detail)
    if len(rejections) > 5:
        messages.warning(request, _("%(count)d more were refused.") % {"count": len(rejections) - 5})
    return redirect(next_url(request, "alerts"))


def _answerable(request: SignedInRequest, numbers: list[int]) -> list[VisibleAlert]:
    """Return the alerts that the user sees and may act on."""
    return [alert for alert in find_alerts(numbers) if may_respond(request.viewer, alert)]


def _command(request: SignedInRequest) -> Command | None:
    actor = alert_actor(request.user)
    match request.POST.get("command"):
        case "acknowledge":
            return Acknowledge(actor=actor, via=CommandChannel.WEB)
        case "take":
            return Assign(actor=actor, via=CommandChannel.WEB, name=actor.name, user_id=actor.user_id)
        case "close":
            return Close(actor=actor, via=CommandChannel.WEB)
        case _:
            return None
