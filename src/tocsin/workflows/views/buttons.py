"""The buttons on an alert, and what workflows did on it: for its page and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.outbound.models import Call
from tocsin.workflows import commands
from tocsin.workflows.definition import descriptions
from tocsin.workflows.definition.definition import load
from tocsin.workflows.models import Run, Workflow
from tocsin.workflows.run import loader
from tocsin.workflows.run.engine import FinishRun, WorkflowProgress, decide
from tocsin.workflows.states import TriggerKind, WorkflowRunStatus

#: So many runs of an alert are shown.
MAX_RUNS_SHOWN = 30


@dataclass(frozen=True, slots=True)
class WorkflowButton:
    """One that can be pressed on an alert now."""

    workflow: Workflow
    #: What it asks first.
    confirm: str
    #: What it does, each as it is said.
    does: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActionSummary:
    """One thing that a run did."""

    at: str
    said: str
    failed: bool
    #: The calls that it queued, as they stand now.
    calls: tuple[Call, ...]
    alert: int | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run with what it did."""

    run: Run
    steps: tuple[ActionSummary, ...]

    @property
    def has_failed(self) -> bool:
        """Whether something that it wanted to do could not be done."""
        return any(step.failed or any(call.status == "dead" for call in step.calls) for step in self.steps)


def offered(alert_id: int, now: datetime) -> list[WorkflowButton]:
    """The buttons of an alert whose conditions hold, in their order; one that cannot be read is left out."""
    rows = list(Workflow.objects.filter(trigger=TriggerKind.MANUAL, is_enabled=True).select_related("group"))
    if not rows:
        return []
    with database.transaction() as connection:
        alert = loader.facts(connection, [alert_id]).get(alert_id)
    if alert is None:
        return []
    names = commands.names_of(rows, shown=True)
    found = []
    for row in rows:
        try:
            plan = load(row.definition)
            is_offered = not isinstance(
                decide(WorkflowProgress("", owner=commands.owner_of(row.group)), plan, alert, now), FinishRun
            )
        except Rejected:
            continue
        if is_offered:
            does = tuple(
                descriptions.action(action, lambda noun, number: names[noun].get(number, f"#{number}"))
                for action in plan.actions
            )
            found.append(WorkflowButton(row, plan.trigger.confirm, does))
    return found


def of_alert(alert_id: int) -> list[RunSummary]:
    """What workflows did on an alert or wait for, newest first; what looked and did nothing is left to the logs."""
    rows = Run.objects.filter(alert=alert_id).exclude(status=WorkflowRunStatus.SKIPPED).select_related("workflow")
    return stories(list(rows.order_by("-pk")[:MAX_RUNS_SHOWN]))


def stories(runs: Sequence[Run]) -> list[RunSummary]:
    """The runs with their calls as they stand now: one statement."""
    numbers = {number for run in runs for step in run.steps for number in step.get("calls", ())}
    calls = Call.objects.in_bulk(numbers) if numbers else {}
    return [RunSummary(run, tuple(_done(step, calls) for step in run.steps)) for run in runs]


def _done(step: dict[str, Any], calls: dict[int, Call]) -> ActionSummary:
    return ActionSummary(
        str(step.get("at", "")),
        str(step.get("said", "")),
        bool(step.get("failed")),
        tuple(calls[number] for number in step.get("calls", ()) if number in calls),
        step.get("alert"),
    )
