"""Describes workflows, triggers and actions in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from tocsin.alerts import reasons as alert_reasons
from tocsin.core.reasons import Reason, ReasonType, Term, translatable
from tocsin.workflows import reasons
from tocsin.workflows.definition.definition import NameLookup, Trigger, WorkflowAction, WorkflowDefinition
from tocsin.workflows.states import ActionKind, SlaMoment, TriggerKind

_EVENTS: Mapping[TriggerKind, ReasonType] = {
    TriggerKind.OPENED: reasons.WHEN_OPENED,
    TriggerKind.UPDATED: reasons.WHEN_UPDATED,
    TriggerKind.STATUS_CHANGED: reasons.WHEN_STATUS_CHANGED,
    TriggerKind.ACKNOWLEDGED: reasons.WHEN_ACKNOWLEDGED,
    TriggerKind.ASSIGNED: reasons.WHEN_ASSIGNED,
    TriggerKind.ESCALATED: reasons.WHEN_ESCALATED,
    TriggerKind.EXHAUSTED: reasons.WHEN_EXHAUSTED,
    TriggerKind.REPLY: reasons.WHEN_REPLIED,
    TriggerKind.CLOSED: reasons.WHEN_CLOSED,
    TriggerKind.MANUAL: reasons.WHEN_PRESSED,
}

MOMENTS: Mapping[SlaMoment, ReasonType] = {
    SlaMoment.RESPOND_BY: reasons.RESPOND_BY,
    SlaMoment.FIX_BY: reasons.FIX_BY,
    SlaMoment.OPENING: reasons.TIME_LIMIT,
}

#: The actions' names, in the editor and where one failed.
ACTION_NAMES: Mapping[ActionKind, str] = {
    ActionKind.NOTIFY: translatable("Notify"),
    ActionKind.ADD_RESPONDERS: translatable("Add responders"),
    ActionKind.ESCALATE: translatable("Escalate now"),
    ActionKind.START_POLICY: translatable("Start policy"),
    ActionKind.SET_PRIORITY: translatable("Set priority"),
    ActionKind.SET_TAGS: translatable("Set tags"),
    ActionKind.REPLY: translatable("Add note"),
    ActionKind.HOLD: translatable("Snooze"),
    ActionKind.CLOSE: translatable("Close"),
    ActionKind.HALO: translatable("Update HaloITSM ticket"),
    ActionKind.CALL: translatable("Call outbound integration"),
    ActionKind.OPEN_ALERT: translatable("Create alert"),
    ActionKind.WAIT: translatable("Wait"),
}


def describe_workflow(plan: WorkflowDefinition, name_of: NameLookup) -> Reason:
    """The workflow without its conditions: "When an alert is created: notify Carol by email and close the alert." """
    actions = tuple(describe_action(action, name_of) for action in plan.actions)
    return reasons.WORKFLOW(trigger=describe_trigger(plan.trigger), actions=actions)


def describe_trigger(trigger: Trigger) -> Reason:
    """Describes the trigger."""
    span = timedelta(seconds=trigger.span)
    match trigger.on:
        case TriggerKind.UNACKNOWLEDGED:
            return reasons.WHEN_UNACKNOWLEDGED(duration=span)
        case TriggerKind.UNASSIGNED:
            return reasons.WHEN_UNASSIGNED(duration=span)
        case TriggerKind.BEFORE_SLA:
            return reasons.BEFORE_MOMENT(duration=span, moment=_moment(trigger))
        case TriggerKind.AFTER_SLA if trigger.span:
            return reasons.AFTER_MOMENT(duration=span, moment=_moment(trigger))
        case TriggerKind.AFTER_SLA:
            return reasons.AT_MOMENT(moment=_moment(trigger))
        case TriggerKind.EVERY:
            return reasons.EVERY(interval=span)
        case _:
            return _EVENTS[trigger.on]()


def _moment(trigger: Trigger) -> Reason:
    if trigger.moment is SlaMoment.OPENING:
        return reasons.AFTER_CREATION(duration=timedelta(seconds=trigger.within))
    return MOMENTS[trigger.moment]()


def describe_action(action: WorkflowAction, name_of: NameLookup) -> Reason:
    """Describes an action."""
    span = timedelta(seconds=action.span)
    match action.do:
        case ActionKind.NOTIFY:
            return describe_notify(action, _recipients(action, name_of))
        case ActionKind.START_POLICY:
            return reasons.START_POLICY(policy=name_of("policies", action.policy or 0))
        case ActionKind.ADD_RESPONDERS:
            return describe_add_responders(_recipients(action, name_of))
        case ActionKind.ESCALATE:
            return reasons.ESCALATE()
        case ActionKind.SET_PRIORITY:
            return reasons.SET_PRIORITY(priority=Term(action.priority or ""))
        case ActionKind.SET_TAGS:
            changes = [alert_reasons.TAG_VALUE(name=name, value=value) for name, value in action.tags.items()]
            changes += [alert_reasons.TAG_REMOVED(name=name) for name in action.remove]
            return reasons.SET_TAGS(changes=tuple(changes))
        case ActionKind.HOLD:
            return reasons.HOLD(duration=span)
        case ActionKind.CLOSE:
            return reasons.CLOSE()
        case ActionKind.REPLY:
            return reasons.REPLY()
        case ActionKind.CALL:
            return reasons.CALL(integration=name_of("outbound", action.outbound or 0))
        case ActionKind.HALO:
            return reasons.WRITE_STATUS(status=action.status) if action.status else reasons.WRITE_ON_TICKET()
        case ActionKind.OPEN_ALERT:
            return reasons.OPEN_ALERT()
        case ActionKind.WAIT:
            return reasons.WAIT(duration=span)


def describe_notify(action: WorkflowAction, recipients: tuple[Reason | str, ...]) -> Reason:
    """Describes an action that notifies these recipients."""
    listed_recipients = recipients or (reasons.NOBODY(),)
    if action.by:
        return reasons.NOTIFY_BY(recipients=listed_recipients, method=action.by)
    return reasons.NOTIFY_BY_EMAIL(recipients=listed_recipients)


def describe_add_responders(recipients: tuple[Reason | str, ...]) -> Reason:
    """Describes an action that pages these recipients."""
    return reasons.ADD_RESPONDERS(recipients=recipients or (reasons.NOBODY(),))


def _recipients(action: WorkflowAction, name_of: NameLookup) -> tuple[Reason | str, ...]:
    roles = tuple(Term(role) for role in action.roles)
    recipients: list[Reason | str] = [name_of("users", number) for number in action.users]
    for number in action.groups:
        group = name_of("groups", number)
        recipients.append(reasons.GROUP_ROLES(group=group, roles=roles) if roles else group)
    recipients += [reasons.GROUP_CONTACTS()] if action.contacts else []
    recipients += [reasons.GROUP_MANAGERS()] if action.managers else []
    recipients += [reasons.THE_ASSIGNEE()] if action.owner else []
    recipients += [reasons.EVERYBODY_PAGED()] if action.paged else []
    return tuple(recipients)


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence: "Alice, Bob and Carol"."""
    *first, last = list(names) or ["nobody"]
    return f"{', '.join(first)} and {last}" if first else last
