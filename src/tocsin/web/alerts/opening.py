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
from tocsin.simulate.by_hand import preview
from tocsin.web.alerts.forms import NewAlertForm
from tocsin.web.guard import alert_actor, needs
from tocsin.web.integrations import outcomes
from tocsin.web.request import Request, page


@require_http_methods(["GET", "HEAD", "POST"])
@needs(Action.ACT)
def new_alert(request: Request) -> HttpResponse:
    """Asks what is wrong and who should hear of it; then pages at once."""
    form = NewAlertForm(request.POST or None, initial={"policy": Policy.objects.first()})
    context: dict[str, Any] = {"form": form}
    if request.method == "POST" and form.is_valid():
        new = _by_hand(form.cleaned_data)
        if "preview" not in request.POST:
            return redirect("alert", _open(request, new))
        played = preview(new, request.now)
        paged = outcomes.paged(played.pages)
        context |= {
            "played": played,
            "paged": paged[: outcomes.MOST],
            "has_more": len(paged) > outcomes.MOST,
            "problems": dict.fromkeys(page.problem for page in played.pages if page.problem),
        }
    return page(request, "alerts/new.html", context, status=422 if form.errors else 200)


def _open(request: Request, new: ByHand) -> int:
    return open_alert(
        new, actor=alert_actor(request.user), username=request.user.username, via=Via.WEB, now=request.now
    )


def _by_hand(data: dict[str, Any]) -> ByHand:
    return ByHand(
        subject=data["subject"],
        priority=Priority(data["priority"]),
        policy=data["policy"],
        user_ids=tuple(user.pk for user in data["users"]),
        group_ids=tuple(group.pk for group in data["groups"]),
        columns={name: data[name] for name in ("client", "long_text") if data[name]},
    )
