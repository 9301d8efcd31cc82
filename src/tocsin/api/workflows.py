"""Workflows: configuration, runs with the reason for each action or skip, and dry runs against an alert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.service import find_alert
from tocsin.api.alerts import require_response
from tocsin.api.alerts import routes as routes_alerts
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    narrowed,
    page,
    require,
    via_of,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, show_reason
from tocsin.outbound import writeback
from tocsin.outbound.states import CallStatus
from tocsin.resources import registry
from tocsin.resources.resource import find
from tocsin.workflows import commands, definition, views
from tocsin.workflows.definition import TriggerKind, WorkflowRunStatus, load
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.views import DryRunResult, RunSummary

_NO_SUCH_RUN = Text("{workflow} has no run {run}.")


class WorkflowRunFilters(PaginationQuery):
    status: WorkflowRunStatus | None = None
    alert_id: Number | None = None


class WorkflowCallSchema(BaseModel):
    """A call that an action made, in its current state."""

    id: int
    status: CallStatus
    result: ReasonSchema | None
    error: ReasonSchema | None


class WorkflowStepSchema(BaseModel):
    """An action that was taken."""

    at: datetime
    said: ReasonSchema | None
    failed: bool
    calls: list[WorkflowCallSchema]
    alert: int | None = Field(description="The alert that it opened.")


class WorkflowRunSchema(BaseModel):
    """One evaluation of a workflow for one alert: why it acted or not, and the result of each action."""

    id: int
    workflow: str
    alert_id: int
    status: WorkflowRunStatus
    cause: ReasonSchema | None
    reason: ReasonSchema | None
    user: str | None
    steps: list[WorkflowStepSchema]
    error: str = Field(description="A fault in Tocsin itself, while it is retried.")
    created_at: datetime
    started_at: datetime | None
    due_at: datetime | None
    ended_at: datetime | None


class WorkflowDryRunBody(BaseModel):
    alert: int


class MoveWorkflowBody(BaseModel):
    #: Number of positions to move down; negative to move up.
    by: int


class WorkflowDryRunActionSchema(BaseModel):
    """An action that would run: what it does, and the text that it would write or send."""

    does: ReasonSchema
    text: str


class WorkflowDryRunResponse(BaseModel):
    """The outcome of a dry run. Nothing was written or sent."""

    would_act: bool
    verdict: ReasonSchema
    #: Whether an alert that has ended was evaluated in the state in which it opened.
    as_opened: bool
    at: datetime | None
    actions: list[WorkflowDryRunActionSchema]


class WorkflowFields(BaseModel):
    """What is shown of a workflow besides its settings."""

    sentence: ReasonSchema = Field(description="What it does.")
    stuck: int = Field(description="Number of runs that are stuck.")
    ran_at: datetime | None


def _show(workflows: Sequence[Workflow], _principal: Principal) -> Iterator[dict[str, Any]]:
    names = commands.names_of(workflows)
    for row in workflows:
        sentence = definition.describe_workflow(load(row.definition), commands.naming(names))
        yield {
            **commands.workflow_spec(row, names),
            "sentence": show_reason(sentence),
            "stuck": getattr(row, "stuck", 0),
            "ran_at": getattr(row, "ran_at", None),
        }


WORKFLOWS = ApiResource(
    registry.WORKFLOWS,
    filters={"trigger": (TriggerKind, "trigger"), "enabled": (bool, "is_enabled")},
    show=_show,
    read_only=WorkflowFields,
)
routes = WORKFLOWS.routes


_Workflow = Annotated[dict[str, Any], WORKFLOWS.schema.changes.annotation]


class WorkflowDraftBody(BaseModel):
    """A workflow, saved or not, and the alert for the dry run."""

    alert: int
    workflow: _Workflow


class WorkflowTemplateSchema(BaseModel):
    """A workflow that is ready to begin with."""

    key: str
    about: str
    workflow: _Workflow


@routes.get(
    "/ready-made",
    Permission.VIEW_ALERTS,
    answers=list[WorkflowTemplateSchema],
    summary="Workflows that are ready to begin with",
)
def list_ready_made(request: HttpRequest) -> list[dict[str, Any]]:
    """Each `workflow` is a body for POST. Insert an escalation policy, outbound integration or group where it requires
    one."""
    return [
        {"key": template.key, "about": template.about, "workflow": {"name": template.name, **template.spec}}
        for template in definition.workflow_templates(has_halo=True)
    ]


@routes.post(
    "/test",
    Permission.MANAGE_ROUTING,
    answers=WorkflowDryRunResponse,
    summary="Try a workflow that is not saved against an alert",
)
def test_draft(request: HttpRequest, body: WorkflowDraftBody) -> dict[str, Any]:
    principal = caller(request)
    group = body.workflow.get("group")
    owner = registry.GROUPS.find(str(group)) if group else None
    require(principal, Permission.MANAGE_ROUTING, owner.pk if owner else None)
    definition = {name: value for name, value in WORKFLOWS.spec_of(body.workflow).items() if name not in _IGNORED_KEYS}
    plan = commands.read_definition(definition)
    name = str(body.workflow.get("name") or "The workflow")
    alert, owned_by = find_alert(body.alert, "alert"), commands.owner_of(owner)
    return _show_dry_run(views.dry_run_definition(plan, name, alert, principal.now, owner=owned_by))


@routes.post(
    "/{id}/test", Permission.VIEW_ALERTS, answers=WorkflowDryRunResponse, summary="Try it against an alert: a dry run"
)
def test_workflow(request: HttpRequest, id: str, body: WorkflowDryRunBody) -> dict[str, Any]:
    return _show_dry_run(views.dry_run(WORKFLOWS.find(id), find_alert(body.alert, "alert"), caller(request).now))


@routes.post("/{id}/move", Permission.MANAGE_ROUTING, status=204, answers=None, summary="Move it in the order")
def move(request: HttpRequest, id: str, body: MoveWorkflowBody) -> None:
    principal = caller(request)
    row = WORKFLOWS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    commands.move(row, body.by, actor=audit_actor_of(principal), now=principal.now)


@routes.get(
    "/{id}/runs", Permission.VIEW_ALERTS, answers=PaginatedList[WorkflowRunSchema], summary="Its runs, newest first"
)
def list_runs(request: HttpRequest, id: str, query: Query[WorkflowRunFilters]) -> dict[str, Any]:
    rows = WorkflowRun.objects.filter(workflow=WORKFLOWS.find(id)).select_related("workflow")
    rows = narrowed(rows, query, "status", "alert_id")
    return page(rows, query, lambda some: [show_run(run) for run in views.summarize_runs(some)], newest_first=True)


@routes.get("/{id}/runs/{int:run_id}", Permission.VIEW_ALERTS, answers=WorkflowRunSchema, summary="One run")
def one_run(request: HttpRequest, id: str, run_id: int) -> dict[str, Any]:
    return show_run(views.summarize_runs([_run(WORKFLOWS.find(id), run_id)])[0])


@routes.post(
    "/{id}/runs/{int:run_id}/try-again",
    Permission.MANAGE_ROUTING,
    status=204,
    answers=None,
    summary="Try a stuck run again",
)
def try_again(request: HttpRequest, id: str, run_id: int) -> None:
    principal = caller(request)
    row = WORKFLOWS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    commands.try_again(_run(row, run_id), actor=audit_actor_of(principal), now=principal.now)


@routes.post(
    "/{id}/runs/{int:run_id}/end", Permission.MANAGE_ROUTING, status=204, answers=None, summary="End a run that waits"
)
def end(request: HttpRequest, id: str, run_id: int) -> None:
    principal = caller(request)
    row = WORKFLOWS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    commands.abandon(_run(row, run_id), actor=audit_actor_of(principal), now=principal.now)


def show_run(summary: RunSummary) -> dict[str, Any]:
    """Return a run as the API shows it."""
    run = summary.run
    steps = [
        {
            "at": step.at,
            "said": show_reason(step.result),
            "failed": step.has_failed,
            "calls": [show(WorkflowCallSchema, call) for call in step.calls],
            "alert": step.alert_id,
        }
        for step in summary.steps
    ]
    return show(WorkflowRunSchema, run, workflow=run.workflow.name, user=run.user_name or None, steps=steps)


def _run(row: Workflow, run_id: int) -> WorkflowRun:
    run = WorkflowRun.objects.filter(workflow=row, pk=run_id).select_related("workflow").first()
    if run is None:
        raise Rejected("not_found", _NO_SUCH_RUN(workflow=row.name, run=str(run_id)))
    return run


def _show_dry_run(result: DryRunResult) -> dict[str, Any]:
    actions = [
        {"does": show_reason(description), "text": text}
        for description, text in zip(result.actions, result.texts, strict=True)
    ]
    return show(WorkflowDryRunResponse, result, verdict=show_reason(result.reason), actions=actions)


#: Keys of a body that do not affect the workflow's behaviour.
_IGNORED_KEYS = frozenset({"name", "group", "enabled", "order"})


register(WORKFLOWS)


# ---------- manual workflows
# Manual workflows on an alert: list, run, results of all workflows; and creating a ticket.


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


@routes_alerts.get(
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
        for item in views.available_buttons(alert, caller(request).now)
    ]


@routes_alerts.post(
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
    row = find(views.manual_workflows(), button, label="button")
    run = commands.run_manual_workflow(row, alert, principal.user, str(via_of(principal)), now=principal.now)
    return show_run(views.summarize_runs([run])[0])


@routes_alerts.post(
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
    return {"call": writeback.create_ticket(alert, audit_actor_of(principal), principal.now)}


@routes_alerts.get(
    "/{int:id}/workflow-runs",
    Permission.VIEW_ALERTS,
    answers=list[WorkflowRunSchema],
    summary="What workflows did on it",
)
def list_workflow_runs(request: HttpRequest, id: int) -> list[dict[str, Any]]:
    """Newest first. Runs that did nothing because the conditions did not match are omitted; each workflow's own log
    lists them."""
    return [show_run(summary) for summary in views.workflow_history(find_alert(id))]
