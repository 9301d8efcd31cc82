"""Decides what a run does next: act, wait or end, with the reason. Pure.

Runs are bounded: a run passes its actions once, waits only for future times, and ends if too many workflows in a row
caused it or it ran too often.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.reasons import Person, Reason, as_reason
from tocsin.escalation.run.run_status import describe_end
from tocsin.inbound.expressions.conditions import RuleMatch
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.workflows import reasons
from tocsin.workflows.definition.definition import WorkflowAction, WorkflowDefinition, changes_alerts, compiled
from tocsin.workflows.definition.descriptions import MOMENTS
from tocsin.workflows.run import context as alert_context
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

    cause: Reason
    depth: int = 0
    is_started: bool = False
    step: int = 0
    #: Whether a newer run of this workflow exists for the same alert.
    is_superseded: bool = False
    #: Runs of this workflow on this alert that started in the last minute, and in total.
    runs_last_minute: int = 0
    run_count: int = 0
    #: The SLA moments for which it has already acted.
    moments: frozenset[datetime] = frozenset()
    #: The owning group; None: administrators own it, and it may change every alert.
    owner: OwnerGroup | None = None
    #: When its trigger fired.
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FinishRun:
    """The run ends."""

    status: WorkflowRunStatus
    reason: Reason


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """The run continues at that time, at `step`."""

    until: datetime
    reason: Reason
    step: int


@dataclass(frozen=True, slots=True)
class StartActions:
    """The conditions hold: actions are executed from now on."""

    reason: Reason
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
    end_status = WorkflowRunStatus.STOPPED if run.is_started else WorkflowRunStatus.SKIPPED
    if not is_enabled:
        return FinishRun(end_status, reasons.DISABLED())
    if alert.state.is_test:
        return FinishRun(end_status, reasons.TEST_ALERT())
    if alert.dry_run:
        return FinishRun(end_status, reasons.DRY_RUN_ALERT())
    if run.owner is not None and run.owner.id not in alert.groups and changes_alerts(plan):
        return FinishRun(end_status, reasons.FOREIGN_ALERT(group=run.owner.name))
    if run.depth > MAX_DEPTH:
        return FinishRun(WorkflowRunStatus.STOPPED, reasons.CHAIN_TOO_LONG(count=run.depth))
    if not run.is_started:
        step = _check_trigger(run, plan, alert, now)
        if step is not None:
            return step
    if plan.stop is not None and (rule_match := _evaluate(plan.stop, run, alert, now)).is_true:
        return FinishRun(end_status, reasons.STOP_CONDITION_HOLDS(why=as_reason(rule_match.reason)))
    if not run.is_started:
        return _begin(run, plan, alert, now)
    if run.step >= len(plan.actions):
        return FinishRun(WorkflowRunStatus.DONE, reasons.DONE())
    action = plan.actions[run.step]
    has_waited = run.step > 0 and plan.actions[run.step - 1].do is ActionKind.WAIT
    if (has_waited or action.do is ActionKind.WAIT) and _has_alert_ended_since(run, alert):
        return FinishRun(WorkflowRunStatus.STOPPED, reasons.WAIT_ENDED(why=describe_end(alert.state)))
    if action.do is ActionKind.WAIT:
        span = timedelta(seconds=action.span)
        return WaitUntil(now + span, reasons.WAITS(duration=span), run.step + 1)
    return RunAction(action, run.step)


def _has_alert_ended_since(run: WorkflowProgress, alert: WorkflowFacts) -> bool:
    """Whether the alert ended after the run's trigger fired. A run that the end itself triggered may wait."""
    if alert.state.status in ACTIVE:
        return False
    return run.created_at is None or alert.state.closed_at is None or run.created_at < alert.state.closed_at


def _check_trigger(
    run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime
) -> EngineStep | None:
    """Why a run that has not started does not start now; None when only the conditions are left to check."""
    kind = plan.trigger.on
    if kind in TIMED:
        if run.is_superseded:
            return FinishRun(WorkflowRunStatus.SKIPPED, reasons.NEWER_RUN())
        if alert.state.status not in ACTIVE:
            return FinishRun(WorkflowRunStatus.SKIPPED, describe_end(alert.state))
    if kind is TriggerKind.UNACKNOWLEDGED and alert.has_responder:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.ANSWERED_IN_TIME(users=_responders(alert)))
    if kind is TriggerKind.UNASSIGNED and alert.state.is_owned:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.ASSIGNED_IN_TIME(user=alert.state.owner))
    if kind in (TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED) and alert.state.status is AlertStatus.ON_HOLD:
        until = alert.state.hold_until
        if until is None or until <= now:
            until = now + RECHECK_AFTER
        return WaitUntil(until, reasons.ALERT_ON_HOLD(), 0)
    if kind in SLA and (step := _check_sla_moment(run, plan, alert, now)) is not None:
        return step
    if run.runs_last_minute >= MAX_RUNS_PER_MINUTE:
        return FinishRun(WorkflowRunStatus.STOPPED, reasons.TOO_OFTEN(count=run.runs_last_minute))
    if run.run_count >= MAX_RUNS_PER_ALERT and kind not in (TriggerKind.EVERY, TriggerKind.MANUAL):
        return FinishRun(WorkflowRunStatus.STOPPED, reasons.TOO_MANY_RUNS(count=run.run_count))
    return None


def _check_sla_moment(
    run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime
) -> EngineStep | None:
    trigger = plan.trigger
    moment = alert_context.sla_moment(trigger, alert)
    name = MOMENTS[trigger.moment]()
    if moment is None:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.NO_MOMENT(moment=name))
    if moment in run.moments:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.MOMENT_HANDLED(moment=name, at=moment))
    span = timedelta(seconds=trigger.span)
    is_before = trigger.on is TriggerKind.BEFORE_SLA
    if is_before and moment <= now:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.MOMENT_PAST(moment=name, at=moment))
    due = moment - span if is_before else moment + span
    return WaitUntil(due, reasons.WAITS_FOR_MOMENT(moment=name, at=moment), 0) if due > now else None


def _begin(run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime) -> EngineStep:
    trigger = plan.trigger
    next_at = now + timedelta(seconds=trigger.span) if trigger.on is TriggerKind.EVERY else None
    rule_match = _evaluate(plan.start, run, alert, now)
    if not rule_match.is_true:
        if next_at is not None:
            return WaitUntil(next_at, reasons.CONDITIONS_FAIL_NOW(why=as_reason(rule_match.reason)), 0)
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.CONDITIONS_FAIL(why=as_reason(rule_match.reason)))
    if plan.start is None:
        reason = reasons.NO_CONDITIONS()
    else:
        reason = reasons.CONDITIONS_HOLD(why=as_reason(rule_match.reason))
    return StartActions(reason, alert_context.sla_moment(trigger, alert) if trigger.on in SLA else None, next_at)


def _evaluate(condition: object, run: WorkflowProgress, alert: WorkflowFacts, now: datetime) -> RuleMatch:
    return compiled(condition).evaluate(alert_context.payload(alert, run.cause, now), _NO_MAPPING)


def _responders(alert: WorkflowFacts) -> tuple[Person, ...]:
    if alert.state.is_owned:
        return (alert.state.owner,)
    return tuple(Person(entry.name, user_id) for user_id, entry in alert.state.acknowledged.items())
