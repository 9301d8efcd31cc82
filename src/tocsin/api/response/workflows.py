"""Workflows: configuration, runs with the reason for each action or skip, and dry runs against an alert."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, caller, changer, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.errors import Rejected
from tocsin.core.validation.object_reader import ObjectReader as Reading
from tocsin.people.models import Group
from tocsin.workflows import commands
from tocsin.workflows.definition import descriptions, templates
from tocsin.workflows.models import Run, Workflow
from tocsin.workflows.views import buttons, dry_run, health
from tocsin.workflows.views.buttons import RunSummary
from tocsin.workflows.views.dry_run import DryRunResult

routes = AuthorizedRouter("workflows")

EXAMPLE = {
    "name": "Not acknowledged in 5 minutes",
    "trigger": {"on": "unacknowledged", "for": "5m"},
    "start": {"field": "priority", "operator": "one of", "value": ["critical", "high"]},
    "actions": [
        {"do": "notify", "groups": ["Service Desk"], "roles": ["manager"], "subject": "Nobody answers: <subject>"},
        {"do": "halo", "text": "Nobody has acknowledged this for 5 minutes."},
    ],
}


class WorkflowFilters(PaginationQuery):
    name: str | None = None
    trigger: str | None = None
    enabled: bool | None = None


class WorkflowRunFilters(PaginationQuery):
    status: str | None = None
    alert_id: int | None = None


class WorkflowRunSchema(BaseModel):
    """One evaluation of a workflow for one alert: why it acted or not, and the result of each action."""

    id: int
    workflow: str
    alert_id: int
    status: str
    cause: str
    reason: str
    user: str | None
    #: The actions taken: `at`, `said`, `failed`, `calls` with their current state, `alert` if one was opened.
    steps: list[dict[str, Any]]
    error: str
    created_at: datetime
    begun_at: datetime | None
    due_at: datetime | None
    ended_at: datetime | None


class WorkflowDryRunBody(BaseModel):
    alert: int


class WorkflowDraftBody(BaseModel):
    """A workflow, saved or not, and the alert for the dry run."""

    alert: int
    workflow: dict[str, Any]


class MoveWorkflowBody(BaseModel):
    #: Number of positions to move down; negative to move up.
    by: int


class WorkflowDryRunResponse(BaseModel):
    """The outcome of a dry run. Nothing was written or sent."""

    would_act: bool
    verdict: str
    #: Whether an alert that has ended was evaluated in the state in which it opened.
    as_opened: bool
    at: datetime | None
    actions: list[dict[str, str]]


@routes.get("", Permission.SEE, answers=PaginatedList[dict[str, Any]], summary="Workflows")
def list_workflows(request: HttpRequest, query: Query[WorkflowFilters]) -> dict[str, Any]:
    """Sorted by id. `order` is the position in the order of evaluation."""
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.trigger is not None:
        rows = rows.filter(trigger=query.trigger)
    if query.enabled is not None:
        rows = rows.filter(is_enabled=query.enabled)
    return page(rows, query, _show_many)


@routes.get(
    "/ready-made", Permission.SEE, answers=list[dict[str, Any]], summary="Workflows that are ready to begin with"
)
def list_ready_made(request: HttpRequest) -> list[dict[str, Any]]:
    """Each `workflow` is a body for POST. Insert an escalation policy, outbound integration or group where it requires
    one."""
    return [
        {"key": one.key, "about": one.about, "workflow": {"name": one.name, **one.spec}}
        for one in templates.workflow_templates(has_halo=True)
    ]


@routes.post(
    "/test",
    Permission.ROUTING,
    answers=WorkflowDryRunResponse,
    summary="Try a workflow that is not saved against an alert",
)
def test_draft(request: HttpRequest, body: WorkflowDraftBody) -> dict[str, Any]:
    who = caller(request)
    group = body.workflow.get("group")
    owner = find(Group.objects.all(), str(group), what="group") if group else None
    require(who, Permission.ROUTING, owner.pk if owner else None)
    wanted = {name: value for name, value in body.workflow.items() if name not in _BESIDE}
    read = Reading(wanted)
    plan = commands.read_definition(read)
    read.finish()
    name = str(body.workflow.get("name") or "The workflow")
    return _trial(dry_run.against(plan, name, body.alert, who.now, owner=commands.owner_of(owner)))


@routes.post("/{id}/test", Permission.SEE, answers=WorkflowDryRunResponse, summary="Try it against an alert: a dry run")
def test_workflow(request: HttpRequest, id: str, body: WorkflowDryRunBody) -> dict[str, Any]:
    return _trial(dry_run.dry_run(WORKFLOWS.find(id), body.alert, caller(request).now))


@routes.post("/{id}/move", Permission.ROUTING, status=204, answers=None, summary="Move it in the order")
def move(request: HttpRequest, id: str, body: MoveWorkflowBody) -> None:
    who = caller(request)
    commands.move(WORKFLOWS.find_own(id, who, Permission.ROUTING), body.by, actor=changer(who), now=who.now)


@routes.get("/{id}/runs", Permission.SEE, answers=PaginatedList[WorkflowRunSchema], summary="Its runs, newest first")
def list_runs(request: HttpRequest, id: str, query: Query[WorkflowRunFilters]) -> dict[str, Any]:
    rows = Run.objects.filter(workflow=WORKFLOWS.find(id)).select_related("workflow")
    if query.status is not None:
        rows = rows.filter(status=query.status)
    if query.alert_id is not None:
        rows = rows.filter(alert=query.alert_id)
    return page(rows, query, lambda found: [show_run(one) for one in buttons.stories(found)], newest_first=True)


@routes.get("/{id}/runs/{int:run_id}", Permission.SEE, answers=WorkflowRunSchema, summary="One run")
def one_run(request: HttpRequest, id: str, run_id: int) -> dict[str, Any]:
    return show_run(buttons.stories([_run(WORKFLOWS.find(id), run_id)])[0])


@routes.post(
    "/{id}/runs/{int:run_id}/try-again", Permission.ROUTING, status=204, answers=None, summary="Try a stuck run again"
)
def try_again(request: HttpRequest, id: str, run_id: int) -> None:
    who = caller(request)
    row = WORKFLOWS.find_own(id, who, Permission.ROUTING)
    commands.try_again(_run(row, run_id), actor=changer(who), now=who.now)


@routes.post(
    "/{id}/runs/{int:run_id}/end", Permission.ROUTING, status=204, answers=None, summary="End a run that waits"
)
def end(request: HttpRequest, id: str, run_id: int) -> None:
    who = caller(request)
    row = WORKFLOWS.find_own(id, who, Permission.ROUTING)
    commands.abandon(_run(row, run_id), actor=changer(who), now=who.now)


def show_run(story: RunSummary) -> dict[str, Any]:
    """Return a run as the API shows it."""
    run = story.run
    names = ("id", "alert_id", "status", "cause", "reason", "error", "created_at", "begun_at", "due_at", "ended_at")
    steps = [
        {
            "at": step.at,
            "said": step.said,
            "failed": step.failed,
            "calls": [
                {"id": call.pk, "status": call.status, "result": call.result, "error": call.error}
                for call in step.calls
            ],
            "alert": step.alert,
        }
        for step in story.steps
    ]
    shown = {name: getattr(run, name) for name in names}
    return {**shown, "workflow": run.workflow.name, "user": run.user_name or None, "steps": steps}


def _run(row: Workflow, number: int) -> Run:
    found = Run.objects.filter(workflow=row, pk=number).select_related("workflow").first()
    if found is None:
        raise Rejected("not_found", f"{row.name} has no run {number}.")
    return found


def _trial(found: DryRunResult) -> dict[str, Any]:
    actions = [{"does": does, "text": text} for does, text in zip(found.actions, found.texts, strict=True)]
    return {
        "would_act": found.would_act,
        "verdict": found.verdict,
        "as_opened": found.as_opened,
        "at": found.at,
        "actions": actions,
    }


#: Keys of a body that do not affect the workflow's behaviour.
_BESIDE = frozenset({"id", "name", "group", "enabled", "order", "sentence", "stuck", "ran_at"})


def _rows() -> QuerySet[Workflow]:
    return health.with_runs(Workflow.objects.select_related("group"))


def _show_many(rows: Sequence[Workflow]) -> list[dict[str, Any]]:
    names = commands.names_of(rows)
    return [_shown(row, names) for row in rows]


def _show(row: Workflow, _who: Principal | None = None) -> dict[str, Any]:
    return _shown(row, commands.names_of([row]))


def _shown(row: Workflow, names: commands.WorkflowNamesById) -> dict[str, Any]:
    plan = commands.readable(row)
    sentence = (
        "It cannot be read."
        if plan is None
        else descriptions.describe_workflow(plan, lambda noun, n: names[noun].get(n, f"#{n}"))
    )
    return {
        "id": row.pk,
        **commands.workflow_spec(row, names),
        "sentence": sentence,
        "stuck": getattr(row, "stuck", 0),
        "ran_at": getattr(row, "ran_at", None),
    }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Workflow | None) -> Workflow:
    return commands.save_workflow(
        spec, existing=existing, actor=changer(caller), now=caller.now,
        may_call=lambda group: caller.viewer.may(Permission.ROUTING, group),
    )  # fmt: skip


def _delete(row: Workflow, actor: AuditActor, who: Principal) -> None:
    commands.delete_workflow(row, actor=actor, now=who.now)


WORKFLOWS = ApiResource(
    routes=routes,
    what="workflow",
    action=Permission.ROUTING,
    rows=_rows,
    spec_of=commands.workflow_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner=lambda row: row.group_id,
    example=EXAMPLE,
    shown_only=frozenset({"id", "sentence", "stuck", "ran_at"}),
)
register(WORKFLOWS)
