"""Opening an alert by hand."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Action
from tocsin.alerts.commands import open_by_hand
from tocsin.alerts.openings import NewAlert
from tocsin.alerts.orders import NewEvent
from tocsin.alerts.reactors import Paging, PagingMode
from tocsin.alerts.states import EventKind, Priority, Via
from tocsin.escalation.models import Policy
from tocsin.web.alerts.forms import NewAlertForm
from tocsin.web.guard import alert_actor, needs
from tocsin.web.request import Request, page

#: What an alert opened by hand names as its source.
SOURCE = "manual"


@require_http_methods(["GET", "HEAD", "POST"])
@needs(Action.ACT)
def new_alert(request: Request) -> HttpResponse:
    """Asks what is wrong and who should hear of it; then pages at once."""
    form = NewAlertForm(request.POST or None, initial={"policy": Policy.objects.first()})
    if request.method == "POST" and form.is_valid():
        return redirect("alert", _open(request, form.cleaned_data))
    return page(request, "alerts/new.html", {"form": form}, status=422 if form.errors else 200)


def _open(request: Request, data: dict[str, Any]) -> int:
    actor = alert_actor(request.user)
    alert = NewAlert(
        id=0,
        priority=Priority(data["priority"]),
        subject=data["subject"],
        opened_at=request.now,
        source=SOURCE,
        source_name=request.user.username,
        columns={name: data[name] for name in ("client", "long_text") if data[name]},
    )
    event = NewEvent(0, EventKind.OPENED, request.now, actor, f"{actor.name} opened it by hand.", Via.WEB)
    return open_by_hand(alert, _paging(data), event, now=request.now)


def _paging(data: dict[str, Any]) -> Paging:
    policy: Policy | None = data["policy"]
    users = tuple(user.pk for user in data["users"])
    groups = tuple(group.pk for group in data["groups"])
    if policy is None and not users:
        reason = "It was opened by hand without an escalation policy and without recipient users: it pages nobody."
        return Paging(PagingMode.RECORD, None, users, groups, reason)
    named = f"by the policy {policy.name}" if policy else "the recipient users"
    reason = f"It was opened by hand, to page {named}."
    return Paging(PagingMode.PAGE, policy.current_id if policy else None, users, groups, reason)
