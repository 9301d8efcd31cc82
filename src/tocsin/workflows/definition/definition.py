"""The definition of a workflow: trigger, conditions and actions. Pure.

Stored with ids, edited with names: `read` parses a spec, `write` formats one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import msgspec

from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import (
    DURATION_TOO_SHORT,
    NOT_A_CHOICE,
    REQUIRED,
    ObjectReader,
    require_storable,
)
from tocsin.escalation.policy.policy import NO_SUCH_POLICY
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.people.member_roles import MemberRole
from tocsin.people.reasons import NO_SUCH_GROUP, NO_SUCH_USER
from tocsin.workflows import reasons
from tocsin.workflows.states import CHANGES, SLA, ActionKind, SlaMoment, TriggerKind

_NO_ACTIONS = ReasonType("workflow.actions_missing", "at least one action is required.")
_TOO_MANY_ACTIONS = ReasonType("workflow.too_many_actions", "has at most {limit} actions.")
_DURATION_REQUIRED = ReasonType("workflow.duration_missing", "is required, such as {example}.")
_WITHIN_TOO_SHORT = ReasonType("workflow.within_too_short", "is required, and must be longer than `by`.")
_ACTION_REQUIRED = ReasonType("workflow.action_missing", "is required: one of {choices}.")
_RECIPIENTS_REQUIRED = ReasonType(
    "workflow.recipients_missing", "at least one recipient is required: users, groups, owner or paged."
)
_CONTACTS_NEED_GROUP = ReasonType("workflow.contacts_without_group", "requires a group whose contacts are notified.")
_RESPONDERS_REQUIRED = ReasonType("workflow.responders_missing", "users or groups to page are required.")
_NOT_AN_HTTP_CALL = ReasonType("workflow.not_an_http_call", "is not an HTTP call; for HaloITSM use `do: halo`.")
_TAGS_REQUIRED = ReasonType("workflow.tags_missing", "tags to set or names to remove are required.")
_NOTE_OR_STATUS_REQUIRED = ReasonType("workflow.note_or_status_missing", "a note or a status is required.")
_UNKNOWN_INTEGRATION = ReasonType("workflow.unknown_integration", 'there is no outbound integration "{name}".')
_TAGS_EXPECTED = ReasonType("workflow.tags_expected", "must be names with texts.")

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


@dataclass(frozen=True, slots=True)
class WorkflowNames:
    """Resolves names: (noun, name) → id, or None."""

    find: Callable[[str, str], int | None]
    #: The kind of each outbound integration, by id, for `call` and `halo`.
    kinds: Mapping[int, str] = field(default_factory=dict)


type NameLookup = Callable[[str, int], str]

#: The keys of each action, besides `do`.
KEYS: Mapping[ActionKind, tuple[str, ...]] = {
    ActionKind.NOTIFY: ("users", "groups", "roles", "contacts", "owner", "paged", "by", "subject", "text"),
    ActionKind.START_POLICY: ("policy",),
    ActionKind.ADD_RESPONDERS: ("users", "groups", "roles"),
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
        return msgspec.convert(stored, WorkflowDefinition)
    except msgspec.ValidationError as problem:
        raise Rejected("unreadable", reasons.UNREADABLE(error=str(problem))) from problem


def to_stored(definition: WorkflowDefinition) -> dict[str, Any]:
    """The definition as plain JSON for its row."""
    return dict(msgspec.to_builtins(definition))


def read(spec: ObjectReader, names: WorkflowNames) -> WorkflowDefinition:
    """Parses a spec; problems are recorded in it."""
    trigger = _trigger(spec)
    start, stop = _condition(spec, "start"), _condition(spec, "stop")
    actions = tuple(_action(one, names) for one in spec.nested_list("actions"))
    if not actions:
        spec.add_error("actions", _NO_ACTIONS(), "missing")
    if len(actions) > MAX_ACTIONS:
        spec.add_error("actions", _TOO_MANY_ACTIONS(limit=MAX_ACTIONS))
    limit = spec.integer("limit", LIMIT, minimum=1, maximum=MAX_LIMIT)
    return WorkflowDefinition(trigger, start, stop, actions, limit)


def changes_alerts(plan: WorkflowDefinition) -> bool:
    """Whether any action changes the alert, its paging or its ticket."""
    return any(action.do in CHANGES for action in plan.actions)


def _trigger(spec: ObjectReader) -> Trigger:
    raw = spec.raw("trigger")
    if isinstance(raw, str):
        trigger_spec = ObjectReader({"on": raw}, spec.path("trigger"), spec._problems)
    else:
        trigger_spec = spec.nested("trigger") or ObjectReader({}, spec.path("trigger"), spec._problems)
        if raw is None:
            spec.add_error("trigger", REQUIRED(), "missing")
    on = trigger_spec.one_of("on", TriggerKind, TriggerKind.OPENED) if trigger_spec.has("on") else TriggerKind.OPENED
    if raw is not None and not trigger_spec.has("on"):
        trigger_spec.add_error("on", REQUIRED(), "missing")
    span, moment, within = timedelta(), SlaMoment.FIX_BY, timedelta()
    if on in SPANS:
        key = SPANS[on]
        if not trigger_spec.has(key) and on is not TriggerKind.AFTER_SLA:
            trigger_spec.add_error(key, _DURATION_REQUIRED(example="5m"), "missing")
        span = trigger_spec.duration(key, timedelta(minutes=5), maximum=MAX_SPAN)
        if span < MIN_SPAN and on is not TriggerKind.AFTER_SLA:
            trigger_spec.add_error(key, DURATION_TOO_SHORT(minimum=MIN_SPAN))
        if not trigger_spec.has(key):
            span = timedelta()
    if on in SLA:
        moment = trigger_spec.one_of("moment", SlaMoment, SlaMoment.FIX_BY)
        if moment is SlaMoment.OPENING:
            within = trigger_spec.duration("within", timedelta(), maximum=MAX_SPAN)
            if within <= (span if on is TriggerKind.BEFORE_SLA else timedelta()):
                trigger_spec.add_error("within", _WITHIN_TOO_SHORT(), "missing")
    confirm = trigger_spec.text("confirm", max_length=300) if on is TriggerKind.MANUAL else ""
    trigger_spec.reject_unknown_keys()
    return Trigger(on, _seconds(span), moment, _seconds(within), confirm)


def _condition(spec: ObjectReader, key: str) -> object:
    """The condition as written, after validation."""
    written = spec.raw(key)
    try:
        compile_condition(written, spec.path(key))
        require_storable(written, spec.path(key))
    except Rejected as problem:
        spec.add_rejection(problem)
        return None
    return None if written in ({}, True) else written


def _action(spec: ObjectReader, names: WorkflowNames) -> WorkflowAction:
    if not spec.has("do"):
        spec.add_error("do", _ACTION_REQUIRED(choices=", ".join(ActionKind)), "missing")
        return WorkflowAction(ActionKind.WAIT)
    do = spec.one_of("do", ActionKind, ActionKind.WAIT)
    if do != spec.raw("do"):
        # The other required keys are unknown.
        return WorkflowAction(do)
    keys = KEYS[do]
    fields: dict[str, Any] = {}
    for key in keys:
        match key:
            case "users" | "groups":
                fields[key] = _resolve_names(spec, key, names)
            case "roles":
                fields[key] = _roles(spec)
            case "owner" | "paged" | "public" | "contacts":
                fields[key] = spec.boolean(key, False)
            case "policy" | "outbound":
                fields[key] = _resolve_name(spec, key, names)
            case "priority":
                if spec.has(key):
                    fields[key] = spec.one_of(key, Priority, Priority.HIGH)
            case "tags":
                fields[key] = _tags(spec)
            case "remove":
                fields[key] = spec.texts(key)
            case "for":
                fields["span"] = _seconds(spec.duration(key, timedelta(), maximum=MAX_SPAN))
            case "text":
                fields[key] = spec.text(key, max_length=10_000)
            case _:
                fields[key] = spec.text(key, max_length=300)
    spec.reject_unknown_keys()
    action = WorkflowAction(do, **fields)
    _refuse_empty(spec, action, names)
    return action


def _refuse_empty(spec: ObjectReader, action: WorkflowAction, names: WorkflowNames) -> None:
    """Rejects an action that could not do anything."""
    match action.do:
        case ActionKind.NOTIFY if not (action.users or action.groups or action.owner or action.paged):
            if not (spec.raw("users") or spec.raw("groups")):
                spec.add_error("users", _RECIPIENTS_REQUIRED(), "missing")
        case ActionKind.NOTIFY if action.contacts and not (action.groups or spec.raw("groups")):
            spec.add_error("contacts", _CONTACTS_NEED_GROUP())
        case ActionKind.ADD_RESPONDERS if not (spec.raw("users") or spec.raw("groups")):
            spec.add_error("users", _RESPONDERS_REQUIRED(), "missing")
        case ActionKind.START_POLICY if action.policy is None and not spec.has("policy"):
            spec.add_error("policy", REQUIRED(), "missing")
        case ActionKind.CALL:
            if action.outbound is None and not spec.has("outbound"):
                spec.add_error("outbound", REQUIRED(), "missing")
            elif action.outbound is not None and names.kinds.get(action.outbound, "http") != "http":
                spec.add_error("outbound", _NOT_AN_HTTP_CALL())
        case ActionKind.SET_PRIORITY if action.priority is None:
            spec.add_error("priority", REQUIRED(), "missing")
        case ActionKind.SET_TAGS if not (action.tags or action.remove):
            spec.add_error("tags", _TAGS_REQUIRED(), "missing")
        case ActionKind.HOLD | ActionKind.WAIT if action.span <= 0:
            spec.add_error("for", _DURATION_REQUIRED(example="10m"), "missing")
        case ActionKind.REPLY if not action.text:
            spec.add_error("text", REQUIRED(), "missing")
        case ActionKind.HALO if not (action.text or action.status):
            spec.add_error("text", _NOTE_OR_STATUS_REQUIRED(), "missing")
        case ActionKind.OPEN_ALERT if not action.subject:
            spec.add_error("subject", REQUIRED(), "missing")


def _resolve_names(spec: ObjectReader, key: str, names: WorkflowNames) -> tuple[int, ...]:
    ids = []
    for name in spec.texts(key):
        number = names.find(key, name)
        if number is None:
            spec.add_error(key, (NO_SUCH_USER if key == "users" else NO_SUCH_GROUP)(name=name), "not_found")
        else:
            ids.append(number)
    return tuple(ids)


def _resolve_name(spec: ObjectReader, key: str, names: WorkflowNames) -> int | None:
    name = spec.text(key)
    if not name:
        return None
    number = names.find("policies" if key == "policy" else "outbound", name)
    if number is None:
        unknown = NO_SUCH_POLICY if key == "policy" else _UNKNOWN_INTEGRATION
        spec.add_error(key, unknown(name=name), "not_found")
    return number


def _roles(spec: ObjectReader) -> tuple[MemberRole, ...]:
    roles = []
    for text in spec.texts("roles"):
        try:
            roles.append(MemberRole(text))
        except ValueError:
            spec.add_error("roles", NOT_A_CHOICE(value=text, choices=tuple(MemberRole)))
    return tuple(roles)


def _tags(spec: ObjectReader) -> dict[str, str]:
    raw = spec.raw("tags", {})
    if not isinstance(raw, Mapping):
        spec.add_error("tags", _TAGS_EXPECTED())
        return {}
    tag_spec = ObjectReader(raw, spec.path("tags"), spec._problems)
    return {str(key)[:100]: tag_spec.text(str(key), max_length=200) for key in raw}


def write(definition: WorkflowDefinition, name_of: NameLookup) -> dict[str, Any]:
    """Formats the definition with names, so that `read` parses it back."""
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


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
