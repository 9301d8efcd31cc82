"""Read-only views of workflows: manual workflows on an alert, dry run, and problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from msgspec.structs import replace as replace_state

from tocsin.access import boundary
from tocsin.alerts.service import NO_SUCH_ALERT, VisibleAlert
from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, reason_from_json, sentence
from tocsin.outbound.models import Call
from tocsin.people.sql import display_names
from tocsin.workflows import commands, definition
from tocsin.workflows.definition import (
    ON_TERMINAL_ALERTS,
    SLA,
    ActionKind,
    Trigger,
    TriggerKind,
    WorkflowAction,
    WorkflowDefinition,
    WorkflowRunStatus,
    load,
)
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import engine as alert_context
from tocsin.workflows.run import run_store, tasks
from tocsin.workflows.run.engine import (
    FinishRun,
    OwnerGroup,
    RunAction,
    StartActions,
    WaitUntil,
    WorkflowFacts,
    WorkflowProgress,
    decide,
)
from tocsin.workflows.run.run_store import DueRun
from tocsin.workflows.run.tasks import ActionContext

# ---------- dry run


CAUSE = sentence("Dry run.")


@dataclass(frozen=True, slots=True)
class DryRunResult:
    would_act: bool
    reason: Reason
    #: Whether a terminal alert was evaluated as if just created: active and unassigned.
    as_opened: bool
    #: When the run would be due, for delayed triggers.
    at: datetime | None
    actions: tuple[Reason, ...]
    #: The texts it would send, parallel to `actions`; "" if there is none.
    texts: tuple[str, ...]
    #: The alert's values, for authors of conditions.
    values: Mapping[str, Any]

    @property
    def steps(self) -> list[tuple[Reason, str]]:
        return list(zip(self.actions, self.texts, strict=True))


def dry_run(workflow: Workflow, alert: VisibleAlert, now: datetime) -> DryRunResult:
    """Dry run of a stored workflow. Raises Rejected("not_found") if the alert is gone."""
    owner = commands.owner_of(workflow.group)
    return dry_run_definition(definition.load(workflow.definition), workflow.name, alert, now, owner=owner)


def dry_run_definition(
    plan: WorkflowDefinition, name: str, found: VisibleAlert, now: datetime, *, owner: OwnerGroup | None = None
) -> DryRunResult:
    """Dry run of a possibly unsaved workflow, as if its trigger had just fired. Raises as above."""
    with database.transaction() as connection:
        alert = run_store.facts(connection, [found.id]).get(found.id)
        if alert is None:
            raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(found.id)), "alert")
        as_opened = alert.state.status not in ACTIVE and plan.trigger.on not in ON_TERMINAL_ALERTS
        if as_opened:
            alert = _as_opened(alert)
        # A dry run does not wait.
        moment = alert_context.sla_moment(plan.trigger, alert) if plan.trigger.on in SLA else None
        at = alert_context.due_by(plan.trigger, moment) if moment is not None else now
        progress = WorkflowProgress(CAUSE, owner=owner)
        step = decide(progress, plan, alert, at)
        if isinstance(step, WaitUntil):
            at = step.until
            step = decide(progress, plan, alert, at)
        run = DueRun(0, 0, found.id, name, True, None, progress)
        context = ActionContext(connection, run, alert, now)
        action_texts = tuple(_describe_action(connection, action, alert, at) for action in plan.actions)
        texts = tuple(_text(context, action) for action in plan.actions)
        values = alert_context.payload(alert, CAUSE, now)
    assert not isinstance(step, RunAction), "a run acts once it has begun"
    return DryRunResult(isinstance(step, StartActions), step.reason, as_opened, at, action_texts, texts, values)


def _as_opened(alert: WorkflowFacts) -> WorkflowFacts:
    """The alert as if nobody had responded yet, with its current fields."""
    state = replace_state(
        alert.state, status=AlertStatus.OPEN, owner_id=None, owner_name="", acknowledged={}, closed_at=None,
        hold_until=None,
    )  # fmt: skip
    return replace(alert, state=state, values={**alert.values, "status": "open", "owner": "", "closed_at": ""})


def _describe_action(connection: Connection, action: WorkflowAction, alert: WorkflowFacts, now: datetime) -> Reason:
    """Describes an action with the names of the users it would reach now."""
    if action.do in (ActionKind.NOTIFY, ActionKind.ADD_RESPONDERS):
        is_paging = action.do is ActionKind.ADD_RESPONDERS
        recipients = run_store.resolve_recipients(connection, action, alert, now, first_only=is_paging)
        names = display_names(connection, list(recipients))
        recipient_names = tuple(names[number] for number in recipients if number in names)
        contacts = (sentence("the groups' contacts"),) if action.contacts else ()
        return definition.describe_with_recipients(action, (*recipient_names, *contacts))
    refs = definition.references(WorkflowDefinition(Trigger(TriggerKind.MANUAL), actions=(action,)))
    return definition.describe_action(action, commands.naming(run_store.names_of(connection, refs)))


def _text(context: tasks.ActionContext, action: WorkflowAction) -> str:
    if action.do is ActionKind.NOTIFY:
        subject = context.text(action.subject or tasks.SUBJECT)
        return f"{subject}\n\n{context.text(action.text or tasks.TEXT)}"
    if action.do is ActionKind.OPEN_ALERT:
        return "\n\n".join(text for text in (context.text(action.subject), context.text(action.text)) if text)
    return context.text(action.text)


# ---------- buttons


MAX_RUNS_SHOWN = 30


@dataclass(frozen=True, slots=True)
class WorkflowButton:
    """A manual workflow that can be run on an alert now."""

    workflow: Workflow
    confirm: str
    action_texts: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ActionSummary:
    at: str
    result: Reason
    has_failed: bool
    #: Its queued calls with their current status.
    calls: tuple[Call, ...]
    alert_id: int | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    run: WorkflowRun
    steps: tuple[ActionSummary, ...]

    @property
    def has_failed(self) -> bool:
        return any(step.has_failed or any(call.status == "dead" for call in step.calls) for step in self.steps)


def available_buttons(found: VisibleAlert, now: datetime) -> list[WorkflowButton]:
    """The manual workflows whose conditions hold for an alert, in order; unreadable ones are omitted."""
    rows = list(manual_workflows().filter(is_enabled=True).select_related("group"))
    if not rows:
        return []
    with database.transaction() as connection:
        alert = run_store.facts(connection, [found.id]).get(found.id)
    if alert is None:
        return []
    name_of = commands.naming(commands.names_of(rows, use_display_names=True))
    buttons = []
    for row in rows:
        try:
            plan = load(row.definition)
            is_offered = not isinstance(
                decide(WorkflowProgress(NO_REASON, owner=commands.owner_of(row.group)), plan, alert, now), FinishRun
            )
        except Rejected:
            continue
        if is_offered:
            action_texts = tuple(definition.describe_action(action, name_of) for action in plan.actions)
            buttons.append(WorkflowButton(row, plan.trigger.confirm, action_texts))
    return buttons


def manual_workflows() -> QuerySet[Workflow]:
    """The manual workflows that the viewer may run: those of the own groups, and those of the installation."""
    limit = boundary.current()
    with boundary.unbounded():
        rows = Workflow.objects.filter(trigger=TriggerKind.MANUAL)
        if limit is not None:
            rows = rows.none() if limit.clients else rows.filter(Q(group=None) | Q(group__in=limit.groups))
    return boundary.limited_by_hand(rows)


def workflow_history(alert: VisibleAlert) -> list[RunSummary]:
    """The workflow runs of an alert, newest first, without those that were skipped."""
    rows = (
        WorkflowRun.objects.filter(alert=alert.id).exclude(status=WorkflowRunStatus.SKIPPED).select_related("workflow")
    )
    return summarize_runs(list(rows.order_by("-pk")[:MAX_RUNS_SHOWN]))


def summarize_runs(runs: Sequence[WorkflowRun]) -> list[RunSummary]:
    """The runs with the current status of their calls, in one query."""
    numbers = {number for run in runs for step in run.steps for number in step.get("calls", ())}
    calls = Call.objects.in_bulk(numbers) if numbers else {}
    return [RunSummary(run, tuple(_summarize_action(step, calls) for step in run.steps)) for run in runs]


def _summarize_action(step: dict[str, Any], calls: dict[int, Call]) -> ActionSummary:
    return ActionSummary(
        str(step.get("at", "")),
        reason_from_json(step.get("result", "")),
        bool(step.get("failed")),
        tuple(calls[number] for number in step.get("calls", ()) if number in calls),
        step.get("alert"),
    )


# ---------- health


_STUCK = """
SELECT w.id, w.name, count(*) AS runs,
       (array_agg(r.reason ORDER BY r.id DESC))[1] AS reason
FROM workflows_run r JOIN workflows_workflow w ON w.id = r.workflow_id
WHERE r.status = 'stuck' GROUP BY w.id, w.name ORDER BY w.name
"""


_REPORTED_FOR = "interval '1 day'"

_LIMITED = database.literal(f"""
SELECT w.id, w.name, l.refused FROM workflows_limit l JOIN workflows_workflow w ON w.id = l.workflow_id
WHERE w.is_enabled AND l.refused_at > clock_timestamp() - {_REPORTED_FOR} ORDER BY w.name
""")


@dataclass(frozen=True, slots=True)
class WorkflowProblem:
    """One problem: `unreadable`, `stuck` or `limited`."""

    workflow_id: int
    name: str
    kind: str
    reason: Reason


def with_runs(rows: QuerySet[Workflow]) -> QuerySet[Workflow]:
    """Annotates workflows with `stuck`, the number of stuck runs, and `ran_at`, the last run's creation.

    Cheap however many runs there are: both read one end of an index.
    """
    runs = WorkflowRun.objects.filter(workflow=OuterRef("pk")).order_by()
    stuck = runs.filter(status=WorkflowRunStatus.STUCK).values("workflow").annotate(number=Count("pk")).values("number")
    return rows.annotate(
        stuck=Coalesce(Subquery(stuck, output_field=IntegerField()), 0),
        ran_at=Subquery(runs.order_by("-pk").values("created_at")[:1]),
    )


def find_problems(connection: Connection) -> Iterator[WorkflowProblem]:
    for row in database.rows(
        connection, "SELECT id, name, definition FROM workflows_workflow WHERE is_enabled ORDER BY name"
    ):
        try:
            definition.load(row["definition"])
        except Rejected as problem:
            reason = sentence("Workflow {workflow} does not run: {why}", workflow=row["name"], why=problem.reason)
            yield WorkflowProblem(row["id"], row["name"], "unreadable", reason)
    for row in database.rows(connection, _STUCK):
        reason = sentence(
            "Workflow {workflow}: 1 run is stuck. {why}",
            "Workflow {workflow}: {count} runs are stuck. {why}",
            count=row["runs"],
            workflow=row["name"],
            why=reason_from_json(row["reason"]),
        )
        yield WorkflowProblem(row["id"], row["name"], "stuck", reason)
    for row in database.rows(connection, _LIMITED):
        reason = sentence(
            "Workflow {workflow} reached its limit, and 1 action was skipped. It may be in a loop with another "
            "system. Check its log.",
            "Workflow {workflow} reached its limit, and {count} actions were skipped. It may be in a loop with "
            "another system. Check its log.",
            count=row["refused"],
            workflow=row["name"],
        )
        yield WorkflowProblem(row["id"], row["name"], "limited", reason)
