"""Opening an alert by hand."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Action
from tocsin.alerts.states import Priority, Via
from tocsin.escalation.by_hand import ByHand, open_alert
from tocsin.escalation.models import Policy
from tocsin.web.alerts.forms import NewAlertForm
from tocsin.web.guard import alert_actor, needs
from tocsin.web.request import Request, page


@require_http_methods(["GET", "HEAD", "POST"])
@needs(Action.ACT)
def new_alert(request: Request) -> HttpResponse:
    """Asks what is wrong and who should hear of it; then pages at once."""
    form = NewAlertForm(request.POST or None, initial={"policy": Policy.objects.first()})
    if request.method == "POST" and form.is_valid():
        return redirect("alert", _open(request, form.cleaned_data))
    return page(request, "alerts/new.html", {"form": form}, status=422 if form.errors else 200)


def _open(request: Request, data: dict[str, Any]) -> int:
    new = ByHand(
        subject=data["subject"],
        priority=Priority(data["priority"]),
        policy=data["policy"],
        user_ids=tuple(user.pk for user in data["users"]),
        group_ids=tuple(group.pk for group in data["groups"]),
        columns={name: data[name] for name in ("client", "long_text") if data[name]},
    )
    return open_alert(
        new, actor=alert_actor(request.user), username=request.user.username, via=Via.WEB, now=request.now
    )
