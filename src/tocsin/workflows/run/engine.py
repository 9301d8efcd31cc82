"""Decides what a run does next: act, wait or end, with the reason. Pure.

Runs are bounded: a run passes its actions once, waits only for future times, and ends if too many workflows in a row
caused it or it ran too often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from tocsin.alerts.commands import AlertChange, AlertState, NewEvent
from tocsin.alerts.states import ACTIVE, AlertStatus, EventKind
from tocsin.core.reasons import NO_REASON, Person, Reason, as_reason, translatable
from tocsin.escalation.run.run_state import describe_end
from tocsin.inbound.conditions import RuleMatch
from tocsin.inbound.fields import MappedFields
from tocsin.workflows import reasons
from tocsin.workflows.definition import (
    MOMENTS,
    SLA,
    TIMED,
    ActionKind,
    SlaMoment,
    Trigger,
    TriggerKind,
    WorkflowAction,
    WorkflowDefinition,
    WorkflowRunStatus,
    changes_alerts,
    compiled,
)

# ---------- triggers
# Maps an alert change to the triggers it fires, each with a reason. Pure.


_BY_EVENT: Mapping[EventKind, TriggerKind] = {
    EventKind.UPDATED: TriggerKind.UPDATED,
    EventKind.ACKNOWLEDGED: TriggerKind.ACKNOWLEDGED,
    EventKind.ASSIGNED: TriggerKind.ASSIGNED,
    EventKind.ESCALATION_EXHAUSTED: TriggerKind.EXHAUSTED,
    EventKind.REPLIED: TriggerKind.REPLY,
    EventKind.CLOSED: TriggerKind.CLOSED,
    EventKind.CANCELLED: TriggerKind.CLOSED,
}

_AT_OPENING = (TriggerKind.OPENED, TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY, *SLA)

_MOMENTS = ("custom.respond_by", "custom.fix_by")


def fired_triggers(change: AlertChange) -> dict[TriggerKind, Reason]:
    """The triggers with what happened. Timed triggers start waiting.

    A dry-run alert counts as opened when it starts to page.
    """
    reason = next((as_reason(event.reason) for event in change.events), NO_REASON)
    if change.before is None:
        return dict.fromkeys(_AT_OPENING, reason)
    opening_triggers: dict[TriggerKind, Reason] = {}
    if change.is_opening:
        opening_triggers = dict.fromkeys(
            _AT_OPENING, as_reason(change.paging_start.reason) if change.paging_start is not None else reason
        )
    # Another policy may have another SLA.
    fired: dict[TriggerKind, Reason] = dict.fromkeys(SLA, reason) if change.paging is not None else {}
    for event in change.events:
        kind = _BY_EVENT.get(event.kind)
        if event.kind is EventKind.STEP_FIRED and (event.data.get("step"), event.data.get("pass")) != (1, 1):
            kind = TriggerKind.ESCALATED
        if kind is not None and not _is_own_write(event) and event.alert_id == change.alert_id:
            fired.setdefault(kind, as_reason(event.reason))
        changes = event.data.get("changes")
        if isinstance(changes, Mapping):
            if any(name in changes for name in _MOMENTS):
                fired |= dict.fromkeys(SLA, as_reason(event.reason))
            if "source_status" in changes and "source_status" not in _own_changes(event):
                fired[TriggerKind.STATUS_CHANGED] = as_reason(event.reason)
    return fired | _by_state(change.before, change.after, reason) | opening_triggers


def _is_own_write(event: NewEvent) -> bool:
    """Whether the event consists only of Tocsin's own changes at the source."""
    changes = event.data.get("changes")
    return isinstance(changes, Mapping) and bool(changes) and _own_changes(event) >= set(changes)


def _own_changes(event: NewEvent) -> frozenset[str]:
    """The changes in a message that Tocsin itself made at the source."""
    names = event.data.get("own")
    return frozenset(names) if isinstance(names, list) else frozenset()


def _by_state(before: AlertState, after: AlertState, reason: Reason) -> dict[TriggerKind, Reason]:
    fired: dict[TriggerKind, Reason] = {}
    if before.status is not after.status or before.acknowledged != after.acknowledged:
        fired[TriggerKind.STATUS_CHANGED] = reason
    if after.status not in ACTIVE:
        return fired
    is_reactivated = before.status not in ACTIVE
    if (is_reactivated or is_acknowledged(before)) and not is_acknowledged(after):
        fired[TriggerKind.UNACKNOWLEDGED] = reason
    if (is_reactivated or before.is_owned) and not after.is_owned:
        fired[TriggerKind.UNASSIGNED] = reason
    if is_reactivated:
        fired |= dict.fromkeys((TriggerKind.EVERY, *SLA), reason)
    return fired


def is_acknowledged(alert: AlertState) -> bool:
    """Whether the alert is acknowledged or assigned."""
    return bool(alert.acknowledged) or alert.is_owned


def due_at(trigger: Trigger, now: datetime) -> datetime:
    """When a run of this trigger is first due. SLA moments are looked up immediately."""
    if trigger.on in (TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY):
        return now + timedelta(seconds=trigger.span)
    return now


# ---------- context
# The values of an alert that conditions and texts can use, and its SLA moments. Pure.


#: The fields offered in conditions, with labels. Tags and custom fields go by their own names.
LABELS: Mapping[str, str] = {
    "status": translatable("state of the alert"),
    "acknowledged": translatable("whether acknowledged"),
    "acknowledged_by": translatable("acknowledged by"),
    "owner": translatable("owner"),
    "priority": translatable("priority"),
    "subject": translatable("subject"),
    "client": translatable("client"),
    "site": translatable("site"),
    "team": translatable("team"),
    "integration": translatable("integration"),
    "source": translatable("source"),
    "source_name": translatable("source name"),
    "source_id": translatable("ticket or source id"),
    "source_status": translatable("status at the source"),
    "source_agent": translatable("agent at the source"),
    "requester": translatable("requester"),
    "short_text": translatable("short text"),
    "long_text": translatable("long text"),
    "count": translatable("messages counted"),
    "minutes_open": translatable("minutes since the opening"),
    "what": translatable("what happened"),
    "ticket_type": translatable("ticket type"),
    "category": translatable("category"),
    "vip": translatable("VIP"),
}


@dataclass(frozen=True, slots=True)
class WorkflowFacts:
    """An alert as a run sees it."""

    state: AlertState
    #: As returned by `outbound.delivery.queue.load_alert_values`.
    values: Mapping[str, Any]
    dry_run: bool = False
    custom: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The time zone of dates without an offset.
    zone: str = "UTC"
    #: The SLA of the active policy by moment, as durations from the alert's creation.
    sla: Mapping[str, timedelta] = field(default_factory=dict)
    #: The group that owns the alert's integration, and the groups it pages.
    groups: frozenset[int] = frozenset()
    #: The groups that it pages, in their order; if it pages none, the one that owns its integration.
    recipient_groups: tuple[int, ...] = ()

    @property
    def has_responder(self) -> bool:
        return is_acknowledged(self.state)

    @property
    def responder_names(self) -> str:
        return self.state.owner_name or " and ".join(one.name for one in self.state.acknowledged.values())


def payload(facts: WorkflowFacts, cause: Reason, now: datetime) -> dict[str, Any]:
    """All values for conditions by name; tags and custom fields also as `tags^name` and `custom^name`."""
    acknowledged = [one.name for one in facts.state.acknowledged.values()]
    return {
        **facts.custom,
        **facts.tags,
        **facts.values,
        "tags": dict(facts.tags),
        "custom": dict(facts.custom),
        "acknowledged": bool(acknowledged),
        "acknowledged_by": acknowledged,
        "minutes_open": int((now - facts.state.opened_at) / timedelta(minutes=1)),
        "what": str(cause),
    }


def sla_moment(trigger: Trigger, facts: WorkflowFacts) -> datetime | None:
    """The trigger's SLA moment in UTC: the ticket's, or else the policy's; None if the alert has neither."""
    if trigger.moment is SlaMoment.OPENING:
        return facts.state.opened_at + timedelta(seconds=trigger.within)
    key = str(trigger.moment)
    ticket_moment = moment_of(facts.custom.get(key, ""), facts.zone)
    return (
        ticket_moment if ticket_moment is not None or key not in facts.sla else facts.state.opened_at + facts.sla[key]
    )


def moment_of(text: str, zone: str) -> datetime | None:
    """Parses a ticket's date (ISO 8601; in `zone` if it has no offset); None if it is invalid.

    Halo writes years before 1971 for "not set".
    """
    try:
        parsed = datetime.fromisoformat(text.strip())
        if parsed.year < 1971:
            return None
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


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
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class WorkflowProgress:
    cause: Reason
    depth: int = 0
    is_started: bool = False
    step: int = 0
    #: Whether a newer run of this workflow exists for the same alert.
    is_superseded: bool = False
    #: Runs of this workflow on this alert that started in the last minute, and in total.
    runs_last_minute: int = 0
    run_count: int = 0
    moments: frozenset[datetime] = frozenset()
    #: The owning group; None: administrators own it, and it may change every alert.
    owner: OwnerGroup | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FinishRun:
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
    moment: datetime | None = None
    #: When the next run is due, for a recurring workflow.
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunAction:
    action: WorkflowAction
    step: int


type EngineStep = FinishRun | WaitUntil | StartActions | RunAction


def decide(
    run: WorkflowProgress, plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime, *, is_enabled: bool = True
) -> EngineStep:
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
    moment = sla_moment(trigger, alert)
    name = MOMENTS[trigger.moment]()
    if moment is None:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.NO_MOMENT(moment=name))
    if moment in run.moments:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.MOMENT_HANDLED(moment=name, at=moment))
    if trigger.on is TriggerKind.BEFORE_SLA and moment <= now:
        return FinishRun(WorkflowRunStatus.SKIPPED, reasons.MOMENT_PAST(moment=name, at=moment))
    due = due_by(trigger, moment)
    return WaitUntil(due, reasons.WAITS_FOR_MOMENT(moment=name, at=moment), 0) if due > now else None


def due_by(trigger: Trigger, moment: datetime) -> datetime:
    """When a run of this trigger is due for an SLA moment."""
    span = timedelta(seconds=trigger.span)
    return moment - span if trigger.on is TriggerKind.BEFORE_SLA else moment + span


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
    return StartActions(reason, sla_moment(trigger, alert) if trigger.on in SLA else None, next_at)


def _evaluate(condition: object, run: WorkflowProgress, alert: WorkflowFacts, now: datetime) -> RuleMatch:
    return compiled(msgspec.json.encode(condition)).evaluate(payload(alert, run.cause, now), _NO_MAPPING)


def _responders(alert: WorkflowFacts) -> tuple[Person, ...]:
    if alert.state.is_owned:
        return (alert.state.owner,)
    return tuple(Person(entry.name, user_id) for user_id, entry in alert.state.acknowledged.items())
