"""The Test tab: simulates a payload with the production code, and sends real samples."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.access.roles import Permission
from tocsin.core.config import environment
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.inbound.admin import sample as samples
from tocsin.inbound.admin import secrets
from tocsin.inbound.admin.drafts import compile_stored
from tocsin.inbound.email import imap_poller
from tocsin.simulate.chain import simulate_integration
from tocsin.web.http.authorization import actor, require, requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.integrations import payloads, simulation_view
from tocsin.web.integrations.forms import IntegrationTestForm
from tocsin.web.integrations.views import find, frame

#: Maximum number of messages shown for a payload that is an array.
MAX_MESSAGES_SHOWN = 20


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.TEST_INTEGRATIONS)
def test(request: SignedInRequest, number: int) -> HttpResponse:
    """Show the outcome of a payload. Nothing is stored or sent."""
    row, kind = find(number)
    require(request, Permission.TEST_INTEGRATIONS, row.group_id)
    if kind is None:
        return render_view(request, "integrations/unknown.html", frame(request, row, kind, "test"))
    payload = payloads.message_payload_or_default(row, kind, request.GET.get("message", ""))
    choices = payloads.choices(row, kind)
    form = IntegrationTestForm(
        request.POST or None, choices=choices, initial={"chosen": payload.key, "payload": payload.text}
    )
    context: dict[str, Any] = {**frame(request, row, kind, "test"), "outcome_views": [], "problem": ""}
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        payload = payloads.find_payload(row, kind, data["chosen"], data["payload"])
        if payload.key != payloads.PASTED:
            # Show the payload that is actually simulated.
            form = IntegrationTestForm({**request.POST.dict(), "payload": payload.text}, choices=choices)
            form.is_valid()
        try:
            simulation = simulate_integration(
                compile_stored(row),
                payload.body,
                payload.content_type,
                data["at"] or request.now,
                limit=MAX_MESSAGES_SHOWN,
            )
        except Rejected as rejected:
            context["problem"] = rejected.reason.localized()
        else:
            context |= {
                "outcome_views": simulation_view.outcome_views(simulation.outcomes),
                "at": data["at"],
                "problem": simulation.partial.localized() if simulation.partial else "",
            }
    context["form"] = form
    return render_view(request, "integrations/test.html", context, partials=("result",))


@require_POST
@requires(Permission.MANAGE_ROUTING)
def mailbox(request: SignedInRequest, number: int) -> HttpResponse:
    """Sign in to the integration's mailbox and report the waiting messages."""
    row, _kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    imap = secrets.credentials_of(row).get("imap", {})
    try:
        report = imap_poller.check_mailbox(imap.get("mailbox", ""), imap.get("password", ""))
    except (Rejected, Permanent, Temporary) as error:
        messages.error(request, error.full_reason.localized())
    else:
        messages.success(request, report.localized())
    return redirect("integration_security", number)


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def sample(request: SignedInRequest, number: int) -> HttpResponse:
    """Post a sample through the public webhook URL. Its alert is marked TEST and pages only the user who sent it."""
    row, _kind = find(number)
    require(request, Permission.TEST_INTEGRATIONS, row.group_id)
    sample_name = request.POST.get("sample") or request.POST.get("chosen", "").partition("sample:")[2]
    try:
        sent = samples.send_sample(row, actor(request), sample_name or None, now=request.now)
    except (Rejected, Permanent, Temporary) as error:
        messages.error(request, error.full_reason.localized())
        return redirect("integration_test", number)
    text = _("%(url)s responded in %(ms)d ms: %(status)s. %(reason)s")
    values = {
        "url": environment.current().public_url,
        "ms": sent.took,
        "status": sent.status,
        "reason": sent.reason.localized(),
    }
    messages.success(request, text % values)
    return redirect("alert", sent.alert_id) if sent.alert_id else redirect("message", sent.message_id)
