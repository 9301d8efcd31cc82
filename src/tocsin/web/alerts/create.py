"""Form that opens an alert manually."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission
from tocsin.alerts.states import CommandChannel, Priority
from tocsin.escalation.actions.manual_alerts import ManualAlert, open_alert
from tocsin.escalation.models import Policy
from tocsin.people.models import Group
from tocsin.simulate.manual_alert import preview
from tocsin.web.alerts.forms import NewAlertForm
from tocsin.web.http.authorization import alert_actor, requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.integrations import simulation_view


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.RESPOND)
def new_alert(request: SignedInRequest) -> HttpResponse:
    """Ask for the problem and its recipients, then open the alert and page at once."""
    form = NewAlertForm(request.POST or None, initial=_initial())
    context: dict[str, Any] = {"form": form}
    status = 422 if form.errors else 200
    if request.method == "POST" and form.is_valid():
        manual_alert = _manual_alert(form.cleaned_data)
        if "anyway" in request.POST:
            return redirect("alert", _open(request, manual_alert))
        simulation = preview(manual_alert, request.now)
        if "preview" not in request.POST:
            if simulation.pages:
                return redirect("alert", _open(request, manual_alert))
            # A user who opens an alert expects a page to go out, so an alert that would page nobody needs a
            # confirmation.
            context["needs_confirmation"], status = True, 422
        paged = simulation_view.pages_by_delay(simulation.pages)
        context |= {
            "simulation": simulation,
            "paged": paged[: simulation_view.MAX_MOMENTS],
            "has_more": len(paged) > simulation_view.MAX_MOMENTS,
            "problems": dict.fromkeys(page.problem for page in simulation.pages if page.problem),
        }
    return render_view(request, "alerts/new.html", context, status=status)


def _initial() -> dict[str, Any]:
    """Preselect the first escalation policy, and the group if there is only one."""
    groups = list(Group.objects.all()[:2])
    return {"policy": Policy.objects.first(), "groups": groups if len(groups) == 1 else []}


def _open(request: SignedInRequest, manual_alert: ManualAlert) -> int:
    return open_alert(
        manual_alert,
        actor=alert_actor(request.user),
        username=request.user.username,
        via=CommandChannel.WEB,
        now=request.now,
    )


def _manual_alert(data: dict[str, Any]) -> ManualAlert:
    return ManualAlert(
        subject=data["subject"],
        priority=Priority(data["priority"]),
        policy=data["policy"],
        user_ids=tuple(user.pk for user in data["users"]),
        group_ids=tuple(group.pk for group in data["groups"]),
        columns={name: data[name] for name in ("client", "long_text") if data[name]},
    )
