"""Decides what a run does next: act, wait or end, with the reason. Pure.

Runs are bounded: a run passes its actions once, waits only for future times, and ends if too many workflows in a row
caused it or it ran too often.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.validation.durations import describe
from tocsin.inbound.expressions.conditions import RuleMatch
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.workflows.definition.definition import WorkflowAction, WorkflowDefinition, changes_alerts, compiled
from tocsin.workflows.definition.descriptions import MOMENTS
from tocsin.workflows.run import context as known
from tocsin.workflows.run.context import WorkflowFacts
from tocsin.workflows.states import SLA, TIMED, ActionKind, TriggerKind, WorkflowRunStatus

#: A workflow may cause another, which causes a third, which causes a fourth.
MAX_DEPTH = 3
#: Limits of runs per workflow and alert: within a minute, and in total for workflows that do not recur.
MAX_RUNS_PER_MINUTE = 10
MAX_RUNS_PER_ALERT = 200

#: The recheck interval of a run that does not know when to continue, as for a hold without an end.
RECHECK_AFTER = timedelta(minutes=5)

#: Conditions of workflows refer to values by path only.
_NO_MAPPING = MappedFields({}, {}, {})


@dataclass(frozen=True, slots=True)
class OwnerGroup:
    """The group that owns a workflow."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class WorkflowProgress:
    """The progress of a run."""

    cause: str
    depth: int = 0
    is_begun: bool = False
    step: int = 0
    #: Whether a newer run of this workflow exists for the same alert.
    is_superseded: bool = False
    #: Runs of this workflow on this alert that started in the last minute, and in total.
    lately: int = 0
    in_all: int = 0
    #: The SLA moments for which it has already acted.
    moments: frozenset[datetime] = frozenset()
    #: The owning group; None: administrators own it, and it may change every alert.
    owner: OwnerGroup | None = None


@dataclass(frozen=True, slots=True)
class FinishRun:
    """The run ends."""

    status: WorkflowRunStatus
    reason: str


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """The run continues at that time, at `step`."""

    until: datetime
    reason: str
    step: int


@dataclass(frozen=True, slots=True)
class StartActions:
    """The conditions hold: actions are executed from now on."""

    reason: str
    #: The SLA moment that it is for.
    moment: datetime | None = None
    #: When the next run is due, for a recurring workflow.
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunAction:
    """Execute this action, then continue with the next."""

    action: WorkflowAction
    step: int


type EngineStep = FinishRun | WaitUntil | StartActions | RunAction


def decide(
    run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime, *, is_enabled: bool = True
) -> EngineStep:
    """The next step of a due run."""
    ended = WorkflowRunStatus.STOPPED if run.is_begun else WorkflowRunStatus.SKIPPED
    if not is_enabled:
        return FinishRun(ended, "The workflow is switched off.")
    if alert.state.is_test:
        return FinishRun(ended, "The alert is a test: workflows leave it alone.")
    if alert.dry_run:
        return FinishRun(ended, "Its integration is in dry-run mode: workflows leave its alerts alone.")
    if run.owner is not None and run.owner.id not in alert.groups and changes_alerts(plan):
        said = f"The alert is not one of {run.owner.name}: a group's workflow changes only alerts of integrations that"
        return FinishRun(ended, f"{said} the group owns, and alerts that page it.")
    if run.depth > MAX_DEPTH:
        return FinishRun(
            WorkflowRunStatus.STOPPED, f"Workflows caused each other {run.depth} times in a row: it goes no further."
        )
    if not run.is_begun:
        found = _waiting(run, plan, alert, now)
        if found is not None:
            return found
    if plan.stop is not None and (verdict := _ask(plan.stop, run, alert, now)).is_true:
        return FinishRun(ended, f"A stop condition holds: {verdict.reason}.")
    if not run.is_begun:
        return _begin(run, plan, alert, now)
    if run.step >= len(plan.actions):
        return FinishRun(WorkflowRunStatus.DONE, "Everything was done.")
    action = plan.actions[run.step]
    if action.do is ActionKind.WAIT:
        span = timedelta(seconds=action.span)
        return WaitUntil(now + span, f"It waits for {describe(span)}.", run.step + 1)
    return RunAction(action, run.step)


def _waiting(run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime) -> EngineStep | None:
    """Why a run that has not started does not start now; None when only the conditions are left to check."""
    kind = plan.trigger.on
    if kind in TIMED:
        if run.is_superseded:
            return FinishRun(WorkflowRunStatus.SKIPPED, "A newer run of it looks at this alert: the time counts anew.")
        if alert.state.status not in ACTIVE:
            return FinishRun(WorkflowRunStatus.SKIPPED, f"The alert is {str(alert.state.status).replace('_', ' ')}.")
    if kind is TriggerKind.UNACKNOWLEDGED and alert.has_somebody:
        return FinishRun(WorkflowRunStatus.SKIPPED, f"Somebody answered in time: {alert.who}.")
    if kind is TriggerKind.UNASSIGNED and alert.state.is_owned:
        return FinishRun(WorkflowRunStatus.SKIPPED, f"Somebody took it in time: {alert.state.owner_name}.")
    if kind in (TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED) and alert.state.status is AlertStatus.ON_HOLD:
        until = alert.state.hold_until
        if until is None or until <= now:
            until = now + RECHECK_AFTER
        return WaitUntil(until, "The alert is on hold: it looks again at the end of that.", 0)
    if kind in SLA and (found := _moment(run, plan, alert, now)) is not None:
        return found
    if run.lately >= MAX_RUNS_PER_MINUTE:
        return FinishRun(
            WorkflowRunStatus.STOPPED, f"It has acted on this alert {run.lately} times in a minute: no more now."
        )
    if run.in_all >= MAX_RUNS_PER_ALERT and kind not in (TriggerKind.EVERY, TriggerKind.MANUAL):
        return FinishRun(WorkflowRunStatus.STOPPED, f"It has acted on this alert {run.in_all} times: no more.")
    return None


def _moment(run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime) -> EngineStep | None:
    trigger = plan.trigger
    moment = known.sla_moment(trigger, alert)
    named = MOMENTS[trigger.moment]
    if moment is None:
        return FinishRun(WorkflowRunStatus.SKIPPED, f"The alert has no date for {named}.")
    if moment in run.moments:
        return FinishRun(WorkflowRunStatus.SKIPPED, f"It has acted for {named} already, {_said(moment)}.")
    span = timedelta(seconds=trigger.span)
    is_before = trigger.on is TriggerKind.BEFORE_SLA
    if is_before and moment <= now:
        return FinishRun(WorkflowRunStatus.SKIPPED, f"For {named}, {_said(moment)}, it is too late.")
    due = moment - span if is_before else moment + span
    return WaitUntil(due, f"It waits for {named}, {_said(moment)}.", 0) if due > now else None


def _begin(run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime) -> EngineStep:
    trigger = plan.trigger
    again = now + timedelta(seconds=trigger.span) if trigger.on is TriggerKind.EVERY else None
    verdict = _ask(plan.start, run, alert, now)
    if not verdict.is_true:
        said = f"Its conditions do not hold: {verdict.reason}."
        return (
            WaitUntil(again, f"{said} It looks again.", 0)
            if again is not None
            else FinishRun(WorkflowRunStatus.SKIPPED, said)
        )
    reason = "It has no conditions." if plan.start is None else f"Its conditions hold: {verdict.reason}."
    return StartActions(reason, known.sla_moment(trigger, alert) if trigger.on in SLA else None, again)


def _ask(condition: object, run: WorkflowProgress, alert: WorkflowFacts, now: datetime) -> RuleMatch:
    return compiled(condition).test(known.payload(alert, run.cause, now), _NO_MAPPING)


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
