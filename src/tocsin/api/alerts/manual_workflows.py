"""Manual workflows on an alert: list, run, results of all workflows; and creating a ticket."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from pydantic import BaseModel

from tocsin.access.roles import Permission
from tocsin.alerts.service import find_alert
from tocsin.api.alerts.alerts import require_response, routes
from tocsin.api.framework.auth import audit_actor_of, caller, via_of
from tocsin.api.reasons import ReasonSchema
from tocsin.api.response.workflows import WorkflowRunSchema, show_run
from tocsin.core.reason_json import show_reason
from tocsin.outbound.writeback import alert_ticket
from tocsin.resources.lookup import find
from tocsin.workflows import commands
from tocsin.workflows.views import buttons


class ManualWorkflowSchema(BaseModel):
    """A manual workflow that can be run on the alert now."""

    id: int
    workflow: str
    #: The question to confirm first; empty if none.
    confirm: str
    #: What it does, one reason for each action.
    does: list[ReasonSchema]


class OutboundCallResponse(BaseModel):
    call: int


@routes.get(
    "/{int:id}/buttons",
    Permission.VIEW_ALERTS,
    answers=list[ManualWorkflowSchema],
    summary="The buttons that can be pressed on it",
)
def list_buttons(request: HttpRequest, id: int) -> list[dict[str, Any]]:
    alert = find_alert(id)
    return [
        {
            "id": item.workflow.pk,
            "workflow": item.workflow.name,
            "confirm": item.confirm,
            "does": [show_reason(reason) for reason in item.action_texts],
        }
        for item in buttons.available_buttons(alert, caller(request).now)
    ]


@routes.post(
    "/{int:id}/buttons/{button}",
    Permission.RESPOND,
    answers=WorkflowRunSchema,
    summary="Press one; the answer says what was done",
)
def press_button(request: HttpRequest, id: int, button: str) -> dict[str, Any]:
    """Calls to other systems are made shortly afterwards; `workflow-runs` shows their results. The request is rejected
    if the workflow's conditions do not match."""
    principal = caller(request)
    alert = require_response(principal, id)
    row = find(buttons.manual_workflows(), button, label="button")
    run = commands.run_manual_workflow(row, alert, principal.user, str(via_of(principal)), now=principal.now)
    return show_run(buttons.summarize_runs([run])[0])


@routes.post(
    "/{int:id}/ticket",
    Permission.RESPOND,
    status=202,
    answers=OutboundCallResponse,
    summary="Have a ticket made in Halo for it",
)
def make_ticket(request: HttpRequest, id: int) -> dict[str, int]:
    """Applies to alerts from another source whose inbound integration writes back to a HaloITSM integration. An alert
    gets at most one ticket. The response contains the number of the call that creates it."""
    principal = caller(request)
    alert = require_response(principal, id)
    return {"call": alert_ticket.create_ticket(alert, audit_actor_of(principal), principal.now)}


@routes.get(
    "/{int:id}/workflow-runs",
    Permission.VIEW_ALERTS,
    answers=list[WorkflowRunSchema],
    summary="What workflows did on it",
)
def list_workflow_runs(request: HttpRequest, id: int) -> list[dict[str, Any]]:
    """Newest first. Runs that did nothing because the conditions did not match are omitted; each workflow's own log
    lists them."""
    return [show_run(summary) for summary in buttons.workflow_history(find_alert(id))]
