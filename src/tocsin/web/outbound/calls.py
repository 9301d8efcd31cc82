"""The call log of an outbound integration: pending, sent and permanently failed calls, and sending the last again."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.outbound import commands
from tocsin.outbound.models import Call, Exchange
from tocsin.outbound.states import WAITING, CallStatus
from tocsin.resources.registry import OUTBOUND_INTEGRATIONS
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.objects import find_editable, find_object, find_row
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.outbound.views import frame
from tocsin.web.ui.pagination import paginate_by_number


@require_safe
def log(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the integration's calls, newest first."""
    row = find_object(OUTBOUND_INTEGRATIONS, number)
    status_filter = request.GET.get("show", "")
    rows = Call.objects.filter(integration=row).select_related("alert")
    if status_filter == "dead":
        rows = rows.filter(status=CallStatus.DEAD)
    elif status_filter == "waiting":
        rows = rows.filter(status__in=WAITING)
    text = request.GET.get("q", "").strip()
    if text:
        rows = rows.filter(ticket=text.lstrip("#"))
    result = paginate_by_number(rows, request.GET.get("cursor", ""))
    context = {
        **frame(request, row, "log"),
        "rows": result.rows,
        "pagination": result,
        "status_filter": status_filter,
        "q": text,
        "dead_count": Call.objects.filter(integration=row, status=CallStatus.DEAD).count(),
        "tabs": [("", _("All")), ("waiting", _("Waiting")), ("dead", _("Failed"))],
    }
    return render_view(request, "outbound/log.html", context, partials=("list",))


@require_safe
@requires(Permission.MANAGE_ROUTING)
def call(request: SignedInRequest, number: int, call_id: int) -> HttpResponse:
    """Render one call with its HTTP exchanges, secrets removed."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    outbound_call = _call(number, call_id)
    exchanges = list(Exchange.objects.filter(call=outbound_call).order_by("-pk")[:40])
    return render_view(
        request, "outbound/call.html", {**frame(request, row, "log"), "call": outbound_call, "exchanges": exchanges}
    )


@require_POST
@requires(Permission.MANAGE_ROUTING)
def act(request: SignedInRequest, number: int, call_id: int, verb: str) -> HttpResponse:
    """Send a failed call again, or drop a call."""
    find_editable(request, OUTBOUND_INTEGRATIONS, number)
    outbound_call = _call(number, call_id)
    try:
        if verb == "send-again":
            commands.send_again(outbound_call, actor=actor(request), now=request.now)
            messages.success(request, _("It is sent again."))
        else:
            commands.drop(outbound_call, actor=actor(request), now=request.now)
            messages.success(request, _("It is not sent."))
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    return redirect("outbound_log", number)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def send_all_again(request: SignedInRequest, number: int) -> HttpResponse:
    """Send all permanently failed calls again."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    count = commands.send_all_again(row, actor=actor(request), now=request.now)
    text = ngettext("%(count)d is sent again.", "%(count)d are sent again.", count)
    messages.success(request, text % {"count": count})
    return redirect("outbound_log", number)


def _call(number: int, call_id: int) -> Call:
    return find_row(Call.objects.filter(integration=number).select_related("alert"), call_id, "outbound call")
