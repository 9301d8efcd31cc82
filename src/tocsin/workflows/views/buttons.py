"""Manual workflows offered on an alert, and its workflow runs, for the web and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from tocsin.access import boundary
from tocsin.alerts.service import VisibleAlert
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, reason_from_json
from tocsin.outbound.models import Call
from tocsin.workflows import commands
from tocsin.workflows.definition import descriptions
from tocsin.workflows.definition.definition import load
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import loader
from tocsin.workflows.run.engine import FinishRun, WorkflowProgress, decide
from tocsin.workflows.states import TriggerKind, WorkflowRunStatus

#: The maximum number of runs shown per alert.
MAX_RUNS_SHOWN = 30


@dataclass(frozen=True, slots=True)
class WorkflowButton:
    """A manual workflow that can be run on an alert now."""

    workflow: Workflow
    #: The confirmation text.
    confirm: str
    #: Descriptions of its actions.
    action_texts: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ActionSummary:
    """One executed action of a run."""

    at: str
    result: Reason
    has_failed: bool
    #: Its queued calls with their current status.
    calls: tuple[Call, ...]
    alert_id: int | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run with its executed actions."""

    run: WorkflowRun
    steps: tuple[ActionSummary, ...]

    @property
    def has_failed(self) -> bool:
        """Whether any action or call failed."""
        return any(step.has_failed or any(call.status == "dead" for call in step.calls) for step in self.steps)


def available_buttons(found: VisibleAlert, now: datetime) -> list[WorkflowButton]:
    """The manual workflows whose conditions hold for an alert, in order; unreadable ones are omitted."""
    rows = list(manual_workflows().filter(is_enabled=True).select_related("group"))
    if not rows:
        return []
    with database.transaction() as connection:
        alert = loader.facts(connection, [found.id]).get(found.id)
    if alert is None:
        return []
    names = commands.names_of(rows, use_display_names=True)
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
            action_texts = tuple(
                descriptions.describe_action(action, lambda noun, number: names[noun].get(number, f"#{number}"))
                for action in plan.actions
            )
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
