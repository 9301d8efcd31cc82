"""Describes workflows, triggers and actions in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from tocsin.core.validation.durations import describe
from tocsin.workflows.definition.definition import NameLookup, Trigger, WorkflowAction, WorkflowDefinition
from tocsin.workflows.states import ActionKind, SlaMoment, TriggerKind

_EVENTS = {
    TriggerKind.OPENED: "When an alert opens",
    TriggerKind.UPDATED: "When an alert is updated",
    TriggerKind.STATUS_CHANGED: "When the status of an alert or its ticket changes",
    TriggerKind.ACKNOWLEDGED: "When somebody acknowledges",
    TriggerKind.ASSIGNED: "When somebody takes it, or is given it",
    TriggerKind.ESCALATED: "When a further step of its policy fires",
    TriggerKind.EXHAUSTED: "When the policy ends and nobody answered",
    TriggerKind.REPLY: "When somebody replies",
    TriggerKind.CLOSED: "When it is closed or cancelled",
    TriggerKind.MANUAL: "When somebody presses the button",
}

MOMENTS = {
    SlaMoment.RESPOND_BY: "the respond-by time",
    SlaMoment.FIX_BY: "the fix-by time",
    SlaMoment.OPENING: "its time limit",
}


def describe_workflow(plan: WorkflowDefinition, name_of: NameLookup) -> str:
    """The workflow as a sentence without its conditions: "When an alert opens: tell Carol by e-mail, close it." """
    return f"{describe_trigger(plan.trigger)}: {', '.join(describe_action(one, name_of) for one in plan.actions)}."


def describe_trigger(trigger: Trigger) -> str:
    """Describes the trigger."""
    span = describe(timedelta(seconds=trigger.span))
    match trigger.on:
        case TriggerKind.UNACKNOWLEDGED:
            return f"When nobody has acknowledged for {span}"
        case TriggerKind.UNASSIGNED:
            return f"When nobody has it for {span}"
        case TriggerKind.BEFORE_SLA:
            return f"{span} before {_moment(trigger)}"
        case TriggerKind.AFTER_SLA:
            return f"{span} after {_moment(trigger)}" if trigger.span else f"At {_moment(trigger)}"
        case TriggerKind.EVERY:
            return f"Every {span} while the alert lives"
        case _:
            return _EVENTS[trigger.on]


def _moment(trigger: Trigger) -> str:
    if trigger.moment is SlaMoment.OPENING:
        return f"{describe(timedelta(seconds=trigger.within))} from the opening"
    return MOMENTS[trigger.moment]


def describe_action(action: WorkflowAction, name_of: NameLookup) -> str:
    """Describes an action."""
    span = describe(timedelta(seconds=action.span))
    match action.do:
        case ActionKind.NOTIFY:
            return f"tell {_recipients(action, name_of)}{f' by {action.by}' if action.by else ' by e-mail'}"
        case ActionKind.START_POLICY:
            return f"start policy {name_of('policies', action.policy or 0)}"
        case ActionKind.ADD_RESPONDERS:
            return f"page {_recipients(action, name_of)} too"
        case ActionKind.ESCALATE:
            return "wake the next person"
        case ActionKind.SET_PRIORITY:
            return f"make it {action.priority}"
        case ActionKind.SET_TAGS:
            assignments = [f"{key} = {value}" for key, value in action.tags.items()]
            return f"set tags {', '.join([*assignments, *(f'no {name}' for name in action.remove)])}"
        case ActionKind.HOLD:
            return f"put it on hold for {span}"
        case ActionKind.CLOSE:
            return "close it"
        case ActionKind.REPLY:
            return "reply on it"
        case ActionKind.CALL:
            return f"call {name_of('outbound', action.outbound or 0)}"
        case ActionKind.HALO:
            return "write on the ticket" + (f", status {action.status}" if action.status else "")
        case ActionKind.OPEN_ALERT:
            return "open another alert"
        case ActionKind.WAIT:
            return f"wait {span}"


def _recipients(action: WorkflowAction, name_of: NameLookup) -> str:
    roles = f" ({', '.join(action.roles)})" if action.roles else ""
    names = [name_of("users", number) for number in action.users]
    names += [f"{name_of('groups', number)}{roles}" for number in action.groups]
    names += ["their contacts"] if action.contacts else []
    names += ["the owner"] if action.owner else []
    names += ["everybody paged"] if action.paged else []
    return listed(names)


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence: "Alice, Bob and Carol"."""
    *first, last = list(names) or ["nobody"]
    return f"{', '.join(first)} and {last}" if first else last
