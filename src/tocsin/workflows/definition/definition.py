"""The definition of a workflow: trigger, conditions and actions. Pure.

Stored with ids, edited with names: `specs` parses them, `write` formats them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import msgspec

from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.core.validation import durations
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.people.member_roles import MemberRole
from tocsin.workflows import reasons
from tocsin.workflows.states import CHANGES, SLA, ActionKind, SlaMoment, TriggerKind

MAX_ACTIONS = 20
#: The default limit of outward actions (calls, notes, alerts) per `LIMIT_SPAN`.
LIMIT = 200
LIMIT_SPAN = timedelta(minutes=10)
MAX_LIMIT = 10_000
MIN_SPAN = timedelta(minutes=1)
MAX_SPAN = timedelta(days=90)


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """What starts a workflow."""

    on: TriggerKind
    #: In seconds: how long unacknowledged, how long before or after the moment, or the interval.
    span: int = 0
    moment: SlaMoment = SlaMoment.FIX_BY
    #: In seconds from the alert's creation, for `moment: opening`.
    within: int = 0
    #: The confirmation text of a manual workflow.
    confirm: str = ""


class WorkflowAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action. Which fields apply depends on `do`."""

    do: ActionKind
    users: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    #: Only members of the groups who hold one of these roles now; empty: everybody.
    roles: tuple[MemberRole, ...] = ()
    owner: bool = False
    #: The managers of the groups that the alert pages.
    managers: bool = False
    #: Everybody who was paged about the alert.
    paged: bool = False
    #: Also the groups' own contacts, such as chat channels.
    contacts: bool = False
    #: The label of the contact method; empty: e-mail.
    by: str = ""
    subject: str = ""
    text: str = ""
    policy: int | None = None
    outbound: int | None = None
    priority: Priority | None = None
    tags: dict[str, str] = {}
    remove: tuple[str, ...] = ()
    #: In seconds.
    span: int = 0
    status: str = ""
    public: bool = False


class WorkflowDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A complete workflow."""

    trigger: Trigger
    start: Any = None
    stop: Any = None
    actions: tuple[WorkflowAction, ...] = ()
    #: How many calls, ticket notes and alerts it may create per `LIMIT_SPAN`.
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class WorkflowReferences:
    """The ids of everything that a definition refers to."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    policies: frozenset[int] = frozenset()
    outbound: frozenset[int] = frozenset()


type NameLookup = Callable[[str, int], str]

#: The keys of each action, besides `do`.
KEYS: Mapping[ActionKind, tuple[str, ...]] = {
    ActionKind.NOTIFY: ("users", "groups", "roles", "contacts", "managers", "owner", "paged", "by", "subject", "text"),
    ActionKind.START_POLICY: ("policy",),
    ActionKind.ADD_RESPONDERS: ("users", "groups", "roles", "managers"),
    ActionKind.ESCALATE: (),
    ActionKind.SET_PRIORITY: ("priority",),
    ActionKind.SET_TAGS: ("tags", "remove"),
    ActionKind.HOLD: ("for",),
    ActionKind.CLOSE: ("text",),
    ActionKind.REPLY: ("text",),
    ActionKind.CALL: ("outbound",),
    ActionKind.HALO: ("text", "status", "public"),
    ActionKind.OPEN_ALERT: ("subject", "text", "priority", "policy", "users"),
    ActionKind.WAIT: ("for",),
}

#: The key of a trigger's duration.
SPANS: Mapping[TriggerKind, str] = {
    TriggerKind.UNACKNOWLEDGED: "for",
    TriggerKind.UNASSIGNED: "for",
    TriggerKind.BEFORE_SLA: "by",
    TriggerKind.AFTER_SLA: "by",
    TriggerKind.EVERY: "every",
}


def load(stored: Mapping[str, Any]) -> WorkflowDefinition:
    """Parses a stored definition. Raises Rejected("unreadable") if this release does not know it."""
    try:
        definition = msgspec.convert(stored, WorkflowDefinition)
        for condition in (definition.start, definition.stop):
            if condition is not None:
                compiled(condition)
    except (msgspec.ValidationError, Rejected) as problem:
        raise Rejected("unreadable", reasons.UNREADABLE(error=str(problem))) from problem
    return definition


def to_stored(definition: WorkflowDefinition) -> dict[str, Any]:
    """The definition as plain JSON for its row."""
    return dict(msgspec.to_builtins(definition))


def changes_alerts(plan: WorkflowDefinition) -> bool:
    """Whether any action changes the alert, its paging or its ticket."""
    return any(action.do in CHANGES for action in plan.actions)


def write(definition: WorkflowDefinition, name_of: NameLookup) -> dict[str, Any]:
    """Formats the definition with names, so that `WorkflowDefinitionSpec` reads it back."""
    written: dict[str, Any] = {"trigger": _written_trigger(definition.trigger)}
    conditions = {"start": definition.start, "stop": definition.stop}
    written |= {key: condition for key, condition in conditions.items() if condition is not None}
    written |= {"actions": [_written_action(action, name_of) for action in definition.actions]}
    return written if definition.limit == LIMIT else written | {"limit": definition.limit}


def _written_trigger(trigger: Trigger) -> dict[str, Any] | str:
    written: dict[str, Any] = {"on": str(trigger.on)}
    if trigger.span:
        written[SPANS[trigger.on]] = durations.write(timedelta(seconds=trigger.span))
    if trigger.on in SLA:
        written["moment"] = str(trigger.moment)
        if trigger.moment is SlaMoment.OPENING:
            written["within"] = durations.write(timedelta(seconds=trigger.within))
    if trigger.confirm:
        written["confirm"] = trigger.confirm
    return written if len(written) > 1 else str(trigger.on)


def _written_action(action: WorkflowAction, name_of: NameLookup) -> dict[str, Any]:
    written: dict[str, Any] = {"do": str(action.do)}
    for key in KEYS[action.do]:
        value: Any = getattr(action, "span" if key == "for" else key)
        if not value:
            continue
        match key:
            case "users" | "groups":
                written[key] = [name_of(key, number) for number in value]
            case "policy":
                written[key] = name_of("policies", value)
            case "outbound":
                written[key] = name_of("outbound", value)
            case "for":
                written[key] = durations.write(timedelta(seconds=value))
            case "roles" | "remove":
                written[key] = [str(one) for one in value]
            case "priority":
                written[key] = str(value)
            case _:
                written[key] = value
    return written


def references(definition: WorkflowDefinition) -> WorkflowReferences:
    """The ids of everything it refers to."""
    actions = definition.actions
    return WorkflowReferences(
        frozenset(number for action in actions for number in action.users),
        frozenset(number for action in actions for number in action.groups),
        frozenset(action.policy for action in actions if action.policy is not None),
        frozenset(action.outbound for action in actions if action.outbound is not None),
    )


def compiled(condition: object) -> CompiledCondition:
    """A compiled condition on an alert's facts. Cached, because many runs share it."""
    return _compiled(msgspec.json.encode(condition))


@lru_cache(maxsize=500)
def _compiled(condition: bytes) -> CompiledCondition:
    return compile_condition(msgspec.json.decode(condition), "condition")
