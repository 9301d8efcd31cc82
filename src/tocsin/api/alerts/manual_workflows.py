"""The buttons on an alert (workflows that a person starts), pressing one, and what workflows did on the alert."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from pydantic import BaseModel

from tocsin.access.roles import Permission
from tocsin.api.alerts.alerts import find_alert, routes
from tocsin.api.framework.auth import caller, changer, via_of
from tocsin.api.framework.lookup import find
from tocsin.api.response.workflows import WorkflowRunSchema, show_run
from tocsin.outbound.writeback import alert_ticket
from tocsin.workflows import commands
from tocsin.workflows.models import Workflow
from tocsin.workflows.states import TriggerKind
from tocsin.workflows.views import buttons


class ManualWorkflowSchema(BaseModel):
    """A button that can be pressed now."""

    id: int
    workflow: str
    #: What to ask a person first; empty: nothing.
    confirm: str
    does: list[str]


class OutboundCallResponse(BaseModel):
    call: int


@routes.get(
    "/{int:id}/buttons",
    Permission.SEE,
    answers=list[ManualWorkflowSchema],
    summary="The buttons that can be pressed on it",
)
def list_buttons(request: HttpRequest, id: int) -> list[dict[str, Any]]:
    number = find_alert(id).pk
    return [
        {"id": one.workflow.pk, "workflow": one.workflow.name, "confirm": one.confirm, "does": list(one.does)}
        for one in buttons.offered(number, caller(request).now)
    ]


@routes.post(
    "/{int:id}/buttons/{button}",
    Permission.ACT,
    answers=WorkflowRunSchema,
    summary="Press one; the answer says what was done",
)
def press_button(request: HttpRequest, id: int, button: str) -> dict[str, Any]:
    """Calls to other systems leave a moment later: ask `workflow-runs` what came of them. Refused where its conditions
    do not hold."""
    who = caller(request)
    rows = Workflow.objects.filter(trigger=TriggerKind.MANUAL)
    row = find(rows, button, what="button")
    run = commands.press(row, find_alert(id).pk, who.user, str(via_of(who)), now=who.now)
    return show_run(buttons.stories([run])[0])


@routes.post(
    "/{int:id}/ticket",
    Permission.ACT,
    status=202,
    answers=OutboundCallResponse,
    summary="Have a ticket made in Halo for it",
)
def make_ticket(request: HttpRequest, id: int) -> dict[str, int]:
    """For an alert that came from elsewhere, by an inbound integration that writes back by a HaloITSM: at most one. The
    answer has the number of the call that makes it."""
    who = caller(request)
    alert = find_alert(id)
    return {"call": alert_ticket.make(alert, changer(who), who.now)}


@routes.get(
    "/{int:id}/workflow-runs", Permission.SEE, answers=list[WorkflowRunSchema], summary="What workflows did on it"
)
def list_workflow_runs(request: HttpRequest, id: int) -> list[dict[str, Any]]:
    """Newest first, without those that looked and did nothing: each workflow's own log has them."""
    return [show_run(story) for story in buttons.of_alert(find_alert(id).pk)]
