"""Workflow definitions: triggers and actions, how they are stored, written by users and described. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import msgspec
from pydantic import BeforeValidator, Field

from tocsin.access.roles import MemberRole
from tocsin.alerts import states as alert_reasons
from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Term, Text, sentence, translatable
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import (
    DURATION_TOO_SHORT,
    NO_SUCH_GROUP,
    NO_SUCH_USER,
    NOT_TEXT,
    REQUIRED,
    TOO_LONG,
    UNSTORABLE_CHARACTER,
)
from tocsin.core.validation.spec import (
    Duration,
    InvalidValue,
    ListOf,
    Names,
    OneOf,
    OwnedSpec,
    Parsed,
    Reference,
    Spec,
    SpecErrors,
    at_most,
    is_unstorable,
    list_of,
    list_of_choices,
)
from tocsin.escalation.policy import NO_SUCH_POLICY, NameOf, SpecTemplate
from tocsin.inbound.conditions import CompiledCondition, OptionalCondition, compile_condition
from tocsin.workflows import reasons

# ---------- states


class TriggerKind(StrEnum):
    """The triggers. The values are those of the YAML."""

    OPENED = "opened"
    UPDATED = "updated"
    STATUS_CHANGED = "status_changed"
    ACKNOWLEDGED = "acknowledged"
    ASSIGNED = "assigned"
    ESCALATED = "escalated"
    EXHAUSTED = "exhausted"
    REPLY = "reply"
    CLOSED = "closed"
    UNACKNOWLEDGED = "unacknowledged"
    UNASSIGNED = "unassigned"
    BEFORE_SLA = "before_sla"
    AFTER_SLA = "after_sla"
    EVERY = "every"
    MANUAL = "manual"


SLA = frozenset({TriggerKind.BEFORE_SLA, TriggerKind.AFTER_SLA})

#: Triggers that fire with a delay, and only while the alert is active. Only a workflow's newest run counts.
TIMED = frozenset({TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY}) | SLA


ON_TERMINAL_ALERTS = frozenset({TriggerKind.CLOSED, TriggerKind.STATUS_CHANGED, TriggerKind.REPLY, TriggerKind.MANUAL})

#: Escalation events that a workflow may have caused.
OF_PAGING = frozenset({TriggerKind.ESCALATED, TriggerKind.EXHAUSTED})


class SlaMoment(StrEnum):
    """The source of an SLA moment: the ticket, or a duration from the alert's creation."""

    RESPOND_BY = "respond_by"
    FIX_BY = "fix_by"
    OPENING = "opening"


class ActionKind(StrEnum):
    """The actions. The values are those of the YAML."""

    NOTIFY = "notify"
    START_POLICY = "start_policy"
    ADD_RESPONDERS = "add_responders"
    ESCALATE = "escalate"
    SET_PRIORITY = "set_priority"
    SET_TAGS = "set_tags"
    HOLD = "hold"
    CLOSE = "close"
    REPLY = "reply"
    CALL = "call"
    HALO = "halo"
    OPEN_ALERT = "open_alert"
    WAIT = "wait"


#: Actions that change the alert, its paging or its ticket.
CHANGES = frozenset({
    ActionKind.START_POLICY, ActionKind.ADD_RESPONDERS, ActionKind.ESCALATE, ActionKind.SET_PRIORITY,
    ActionKind.SET_TAGS, ActionKind.HOLD, ActionKind.CLOSE, ActionKind.REPLY, ActionKind.HALO,
})  # fmt: skip

#: Actions with effects elsewhere, which may come back as a new alert.
OUTWARD = frozenset({ActionKind.CALL, ActionKind.HALO, ActionKind.OPEN_ALERT})


class WorkflowRunStatus(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    #: Failed too often; administrators were notified.
    STUCK = "stuck"


# ---------- definition
# The definition of a workflow: trigger, conditions and actions. Pure.
# Stored with ids, edited with names: the specs parse them, `write` formats them.


MAX_ACTIONS = 20
#: The default limit of outward actions (calls, notes, alerts) per `LIMIT_SPAN`.
LIMIT = 200
LIMIT_SPAN = timedelta(minutes=10)
MAX_LIMIT = 10_000
MIN_SPAN = timedelta(minutes=1)
MAX_SPAN = timedelta(days=90)


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True):
    on: TriggerKind
    #: In seconds: how long unacknowledged, how long before or after the moment, or the interval.
    span: int = 0
    moment: SlaMoment = SlaMoment.FIX_BY
    #: In seconds from the alert's creation, for `moment: opening`.
    within: int = 0
    confirm: str = ""


class WorkflowAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action. Which fields apply depends on `do`."""

    do: ActionKind
    users: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    #: Only members of the groups who hold one of these roles now; empty: everybody.
    roles: tuple[MemberRole, ...] = ()
    owner: bool = False
    leads: bool = False
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
    trigger: Trigger
    start: Any = None
    stop: Any = None
    actions: tuple[WorkflowAction, ...] = ()
    #: How many calls, ticket notes and alerts it may create per `LIMIT_SPAN`.
    limit: int = LIMIT


KEYS: Mapping[ActionKind, tuple[str, ...]] = {
    ActionKind.NOTIFY: ("users", "groups", "roles", "contacts", "leads", "owner", "paged", "by", "subject", "text"),
    ActionKind.START_POLICY: ("policy",),
    ActionKind.ADD_RESPONDERS: ("users", "groups", "roles", "leads"),
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
                compiled(msgspec.json.encode(condition))
    except (msgspec.ValidationError, Rejected) as problem:
        raise Rejected("unreadable", reasons.UNREADABLE(error=str(problem))) from problem
    return definition


def to_stored(definition: WorkflowDefinition) -> dict[str, Any]:
    return dict(msgspec.to_builtins(definition))


def changes_alerts(plan: WorkflowDefinition) -> bool:
    return any(action.do in CHANGES for action in plan.actions)


def write(definition: WorkflowDefinition, name_of: NameOf) -> dict[str, Any]:
    """Formats the definition with names, so that `WorkflowDefinitionSpec` reads it back."""
    written: dict[str, Any] = {"trigger": _written_trigger(definition.trigger)}
    conditions = {"start": definition.start, "stop": definition.stop}
    written |= {key: condition for key, condition in conditions.items() if condition is not None}
    written |= {"actions": [_written_action(action, name_of) for action in definition.actions]}
    return written if definition.limit == LIMIT else written | {"limit": definition.limit}


def _written_trigger(trigger: Trigger) -> dict[str, Any] | str:
    written: dict[str, Any] = {"on": str(trigger.on)}
    if trigger.span:
        written[SPANS[trigger.on]] = inputs.write_duration(timedelta(seconds=trigger.span))
    if trigger.on in SLA:
        written["moment"] = str(trigger.moment)
        if trigger.moment is SlaMoment.OPENING:
            written["within"] = inputs.write_duration(timedelta(seconds=trigger.within))
    if trigger.confirm:
        written["confirm"] = trigger.confirm
    return written if len(written) > 1 else str(trigger.on)


def _written_action(action: WorkflowAction, name_of: NameOf) -> dict[str, Any]:
    written: dict[str, Any] = {"do": str(action.do)}
    for key in KEYS[action.do]:
        value: Any = getattr(action, "span" if key == "for" else key)
        match key:
            case "users" | "groups":
                value = [name_of(key, number) for number in value]
            case "policy" | "outbound" if value:
                value = name_of("policies" if key == "policy" else key, value)
            case "for":
                value = inputs.write_duration(timedelta(seconds=value))
        if value:
            written[key] = msgspec.to_builtins(value)
    return written


def references(definition: WorkflowDefinition) -> dict[str, frozenset[int]]:
    """The ids of everything that a definition refers to, by kind."""
    actions = definition.actions
    return {
        "users": frozenset(number for action in actions for number in action.users),
        "groups": frozenset(number for action in actions for number in action.groups),
        "policies": frozenset(action.policy for action in actions if action.policy is not None),
        "outbound": frozenset(action.outbound for action in actions if action.outbound is not None),
    }


@lru_cache(maxsize=500)
def compiled(condition: bytes) -> CompiledCondition:
    """A compiled condition on an alert's facts, from its JSON. Cached, because many runs share it."""
    return compile_condition(msgspec.json.decode(condition), "condition")


# ---------- specs
# Workflows as YAML, the API and forms write them. Pure.
#
# The context of the specs has the ids of `users`, `groups`, `policies` and `outbound` by name, and the kind of each
# outbound integration as `outbound_kinds`.


_DURATION_REQUIRED = Text("is required, such as {example}.")
_UNKNOWN_INTEGRATION = Text('no outbound integration named "{name}".')

_MAX_TAG_VALUE = 200

#: The key that an action requires.
_REQUIRED = {
    ActionKind.START_POLICY: "policy",
    ActionKind.CALL: "outbound",
    ActionKind.SET_PRIORITY: "priority",
    ActionKind.REPLY: "text",
    ActionKind.OPEN_ALERT: "subject",
}

_Span = Annotated[Duration, at_most(MAX_SPAN)]
_Name = Annotated[str, Field(max_length=200)]


def _tags(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidValue(sentence("must be names with texts."))
    tags, errors = {}, SpecErrors()
    for key, text in value.items():
        name = str(key)[:100]
        if not isinstance(text, str | None):
            errors.add(name, NOT_TEXT())
        elif is_unstorable(name + (text or "")):
            errors.add(name, UNSTORABLE_CHARACTER())
        elif len(tag_value := (text or "").strip()) > _MAX_TAG_VALUE:
            errors.add(name, TOO_LONG(maximum=_MAX_TAG_VALUE, length=len(tag_value)))
        else:
            tags[name] = tag_value
    if errors:
        raise InvalidValue(errors)
    return tags


class TriggerSpec(Spec):
    """What starts a workflow. A text is short for `{on: TEXT}`."""

    on: Annotated[TriggerKind, OneOf()] = Field(description="Event or moment that starts the workflow.")
    lasting: _Span | None = Field(
        default=None,
        alias="for",
        description="Time without an acknowledgement or assignee. Required for `unacknowledged` and `unassigned`.",
    )
    by: _Span | None = Field(
        default=None, description="Time before or after the SLA moment. Required for `before_sla`."
    )
    every: _Span | None = Field(default=None, description="Interval. Required for `every`.")
    moment: Annotated[SlaMoment, OneOf()] = Field(
        default=SlaMoment.FIX_BY, description="SLA moment, for `before_sla` and `after_sla`."
    )
    within: _Span | None = Field(
        default=None, description="SLA target from the alert's creation. Required for `moment: opening`, only there."
    )
    confirm: str = Field(
        default="", max_length=300, description="Text of the confirmation of a button, for `manual`. Default: none."
    )

    def check(self, errors: SpecErrors) -> None:
        if errors.has("on"):
            return
        has_within = self.on in SLA and self.moment is SlaMoment.OPENING
        span_key = SPANS.get(self.on)
        applicable = {
            "on",
            *([span_key] if span_key else []),
            *(["moment"] if self.on in SLA else []),
            *(["within"] if has_within or errors.has("moment") else []),
            *(["confirm"] if self.on is TriggerKind.MANUAL else []),
        }
        self.reject_other_keys(applicable, errors)
        if span_key and self.on is not TriggerKind.AFTER_SLA:
            if self.span is None:
                errors.add(span_key, _DURATION_REQUIRED(example="5m"), "missing")
            elif self.span < MIN_SPAN:
                errors.add(span_key, DURATION_TOO_SHORT(minimum=MIN_SPAN))
        shortest = (self.span or timedelta()) if self.on is TriggerKind.BEFORE_SLA else timedelta()
        if has_within and (self.within or timedelta()) <= shortest:
            errors.add("within", sentence("is required, and must be longer than `by`."), "missing")

    @property
    def span(self) -> timedelta | None:
        """The duration that belongs to the event, or None."""
        spans = {"for": self.lasting, "by": self.by, "every": self.every}
        return spans.get(SPANS.get(self.on, ""))

    def compiled(self) -> Trigger:
        return Trigger(self.on, _seconds(self.span), self.moment, _seconds(self.within), self.confirm)


class WorkflowActionSpec(Spec):
    """One action. Its other keys depend on `do`."""

    former_keys: ClassVar[Mapping[str, str]] = {"managers": "leads"}

    do: Annotated[ActionKind, OneOf()] = Field(description="Kind of action.")
    users: Annotated[tuple[int, ...], list_of(str, {}), Reference("users", NO_SUCH_USER)] = Field(
        default=(), description="Usernames of those who are notified or paged, for `notify`, `add_responders` and "
        "`open_alert`."
    )  # fmt: skip
    groups: Annotated[tuple[int, ...], list_of(str, {}), Reference("groups", NO_SUCH_GROUP)] = Field(
        default=(), description="Names of groups whose members are, for `notify` and `add_responders`."
    )
    roles: Annotated[tuple[MemberRole, ...], list_of_choices(MemberRole)] = Field(
        default=(), description="Roles that members must hold now. Default: all members."
    )
    contacts: bool = Field(
        default=False, description="Whether `notify` also uses the groups' own contacts, such as chat channels."
    )
    leads: bool = Field(
        default=False,
        description="Whether `notify` or `add_responders` includes the leads of the groups that the alert pages; if "
        "it pages none, of the group that owns its integration.",
    )
    owner: bool = Field(default=False, description="Whether `notify` includes the alert's owner.")
    paged: bool = Field(default=False, description="Whether `notify` includes everyone who was paged.")
    by: str = Field(
        default="", max_length=300, description="Label of the contact method, for `notify`. Default: email."
    )
    subject: str = Field(
        default="", max_length=300, description="Subject, for `notify` and `open_alert`, which requires it."
    )
    text: str = Field(
        default="",
        max_length=10_000,
        description="Text, for `notify`, `close`, `reply`, which requires it, `halo` and `open_alert`.",
    )
    policy: Annotated[_Name, Reference("policies", NO_SUCH_POLICY)] | None = Field(
        default=None, description="Escalation policy, for `start_policy`, which requires it, and `open_alert`."
    )
    outbound: Annotated[_Name, Reference("outbound", _UNKNOWN_INTEGRATION)] | None = Field(
        default=None, description="Outbound integration. Required for `call`."
    )
    priority: Annotated[Priority, OneOf()] | None = Field(
        default=None, description="Priority, for `set_priority`, which requires it, and `open_alert`."
    )
    tags: Annotated[
        dict[str, str],
        Parsed(_tags, {"type": "object", "additionalProperties": {"type": "string", "maxLength": _MAX_TAG_VALUE}}),
    ] = Field(default={}, description="Tags that `set_tags` sets, by name.")
    remove: Names = Field(default=(), description="Names of tags that `set_tags` removes.")
    lasting: _Span = Field(
        default=timedelta(), alias="for", description="Duration. Required for `hold` and `wait`, only there."
    )
    status: str = Field(default="", max_length=300, description="New status of the ticket, for `halo`.")
    public: bool = Field(default=False, description="Whether the note of `halo` is visible to the ticket's user.")

    def check(self, errors: SpecErrors) -> None:
        if errors.has("do"):
            return
        self.reject_other_keys({"do", *KEYS[self.do]}, errors)
        required = _REQUIRED.get(self.do)
        if required and not getattr(self, required):
            errors.add(required, REQUIRED(), "missing")
        match self.do:
            case ActionKind.NOTIFY if not (self.users or self.groups or self.leads or self.owner or self.paged):
                if not errors.has("groups", "leads", "owner", "paged"):
                    errors.add(
                        "users",
                        sentence("at least one recipient is required: users, groups, leads, owner or paged."),
                        "missing",
                    )
            case ActionKind.NOTIFY if self.contacts and not self.groups and not errors.has("groups"):
                errors.add("contacts", sentence("requires a group whose contacts are notified."))
            case ActionKind.ADD_RESPONDERS if not (self.users or self.groups or self.leads):
                if not errors.has("groups", "leads"):
                    errors.add("users", sentence("users, groups or leads to page are required."), "missing")
            case ActionKind.CALL if self.outbound and errors.context["outbound_kinds"].get(self.outbound) != "http":
                errors.add("outbound", sentence("is not an HTTP call; for HaloITSM use `do: halo`."))
            case ActionKind.SET_TAGS if not (self.tags or self.remove or errors.has("remove")):
                errors.add("tags", sentence("tags to set or names to remove are required."), "missing")
            case ActionKind.HOLD | ActionKind.WAIT if not self.lasting:
                errors.add("for", _DURATION_REQUIRED(example="10m"), "missing")
            case ActionKind.HALO if not (self.text or self.status or errors.has("status")):
                errors.add("text", sentence("a note or a status is required."), "missing")

    def compiled(self) -> WorkflowAction:
        names = [name for name in KEYS[self.do] if name != "for"]
        return WorkflowAction(self.do, span=_seconds(self.lasting), **{name: getattr(self, name) for name in names})


class WorkflowDefinitionSpec(Spec):
    """What a workflow does."""

    trigger: Annotated[
        TriggerSpec,
        BeforeValidator(
            lambda value: {"on": value} if isinstance(value, str) else value,
            json_schema_input_type=Annotated[str, OneOf(tuple(TriggerKind))] | TriggerSpec,
        ),
    ] = Field(description="What starts the workflow.")
    start: OptionalCondition = Field(default=None, description="Condition without which it does nothing.")
    stop: OptionalCondition = Field(default=None, description="Condition that ends it before its next action.")
    actions: ListOf[WorkflowActionSpec] = Field(
        default=(), json_schema_extra={"minItems": 1, "maxItems": MAX_ACTIONS}, description="Actions, in their order."
    )
    limit: int = Field(
        default=LIMIT,
        ge=1,
        le=MAX_LIMIT,
        description="Number of calls, ticket notes and alerts that it may create in ten minutes.",
    )

    def check(self, errors: SpecErrors) -> None:
        if not self.actions:
            errors.add("actions", sentence("at least one action is required."), "missing")
        if len(self.actions) > MAX_ACTIONS:
            errors.add("actions", sentence("has at most {limit} actions.", limit=MAX_ACTIONS))

    def compiled(self) -> WorkflowDefinition:
        actions = tuple(action.compiled() for action in self.actions)
        return WorkflowDefinition(self.trigger.compiled(), self.start, self.stop, actions, self.limit)


MAX_POSITION = 10_000


class WorkflowSpec(WorkflowDefinitionSpec, OwnedSpec):
    """A workflow."""

    is_enabled: bool = Field(default=True, alias="enabled", description="Whether it runs.")
    position: int | None = Field(
        default=None,
        alias="order",
        ge=0,
        le=MAX_POSITION,
        description="Position in the order of evaluation. Default: unchanged; a new workflow is the last.",
    )


def _seconds(span: timedelta | None) -> int:
    return int(span.total_seconds()) if span else 0


# ---------- descriptions


_EVENTS: Mapping[TriggerKind, Text] = {
    TriggerKind.OPENED: Text("When an alert is created"),
    TriggerKind.UPDATED: Text("When an alert is updated"),
    TriggerKind.STATUS_CHANGED: Text("When the status of an alert or its ticket changes"),
    TriggerKind.ACKNOWLEDGED: Text("When an alert is acknowledged"),
    TriggerKind.ASSIGNED: Text("When an alert is assigned"),
    TriggerKind.ESCALATED: Text("When the next escalation step fires"),
    TriggerKind.EXHAUSTED: Text("When escalation is exhausted"),
    TriggerKind.REPLY: Text("When a note is added"),
    TriggerKind.CLOSED: Text("When an alert is closed"),
    TriggerKind.MANUAL: Text("When the button is pressed"),
}

MOMENTS: Mapping[SlaMoment, Text] = {
    SlaMoment.RESPOND_BY: Text("the respond-by time"),
    SlaMoment.FIX_BY: Text("the fix-by time"),
    SlaMoment.OPENING: Text("the time limit"),
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


def describe_workflow(plan: WorkflowDefinition, name_of: NameOf) -> Reason:
    """The workflow without its conditions: "When an alert is created: notify Carol by email and close the alert." """
    actions = tuple(describe_action(action, name_of) for action in plan.actions)
    return sentence("{trigger}: {actions}.", trigger=describe_trigger(plan.trigger), actions=actions)


def describe_trigger(trigger: Trigger) -> Reason:
    span = timedelta(seconds=trigger.span)
    match trigger.on:
        case TriggerKind.UNACKNOWLEDGED:
            return sentence("When an alert is unacknowledged for {duration}", duration=span)
        case TriggerKind.UNASSIGNED:
            return sentence("When an alert is unassigned for {duration}", duration=span)
        case TriggerKind.BEFORE_SLA:
            return sentence("{duration} before {moment}", duration=span, moment=_moment(trigger))
        case TriggerKind.AFTER_SLA if trigger.span:
            return sentence("{duration} after {moment}", duration=span, moment=_moment(trigger))
        case TriggerKind.AFTER_SLA:
            return sentence("At {moment}", moment=_moment(trigger))
        case TriggerKind.EVERY:
            return sentence("Every {interval} while the alert is active", interval=span)
        case _:
            return _EVENTS[trigger.on]()


def _moment(trigger: Trigger) -> Reason:
    if trigger.moment is SlaMoment.OPENING:
        return sentence("{duration} after the alert's creation", duration=timedelta(seconds=trigger.within))
    return MOMENTS[trigger.moment]()


def describe_action(action: WorkflowAction, name_of: NameOf) -> Reason:
    span = timedelta(seconds=action.span)
    match action.do:
        case ActionKind.NOTIFY | ActionKind.ADD_RESPONDERS:
            return describe_with_recipients(action, _recipients(action, name_of))
        case ActionKind.START_POLICY:
            return sentence("start policy {policy}", policy=name_of("policies", action.policy or 0))
        case ActionKind.ESCALATE:
            return sentence("escalate to the next step")
        case ActionKind.SET_PRIORITY:
            return sentence("set the priority to {priority}", priority=Term(action.priority or ""))
        case ActionKind.SET_TAGS:
            changes = [alert_reasons.TAG_VALUE(name=name, value=value) for name, value in action.tags.items()]
            changes += [alert_reasons.TAG_REMOVED(name=name) for name in action.remove]
            return sentence("set tags: {changes}", changes=tuple(changes))
        case ActionKind.HOLD:
            return sentence("snooze the alert for {duration}", duration=span)
        case ActionKind.CLOSE:
            return sentence("close the alert")
        case ActionKind.REPLY:
            return sentence("add a note")
        case ActionKind.CALL:
            return sentence("call {integration}", integration=name_of("outbound", action.outbound or 0))
        case ActionKind.HALO if action.status:
            return sentence("update the ticket, status {status}", status=action.status)
        case ActionKind.HALO:
            return sentence("update the ticket")
        case ActionKind.OPEN_ALERT:
            return sentence("create another alert")
        case ActionKind.WAIT:
            return sentence("wait {duration}", duration=span)


def describe_with_recipients(action: WorkflowAction, recipients: tuple[Reason | str, ...]) -> Reason:
    """Describes an action that notifies or pages these recipients."""
    recipients = recipients or (sentence("no one"),)
    if action.do is ActionKind.ADD_RESPONDERS:
        return sentence("also page {recipients}", recipients=recipients)
    if action.by:
        return sentence("notify {recipients} by {method}", recipients=recipients, method=action.by)
    return sentence("notify {recipients} by email", recipients=recipients)


def _recipients(action: WorkflowAction, name_of: NameOf) -> tuple[Reason | str, ...]:
    roles = tuple(Term(role) for role in action.roles)
    recipients: list[Reason | str] = [name_of("users", number) for number in action.users]
    for number in action.groups:
        group = name_of("groups", number)
        recipients.append(sentence("{group} ({roles})", group=group, roles=roles) if roles else group)
    recipients += [sentence("their contacts")] if action.contacts else []
    recipients += [sentence("the leads of the alert's groups")] if action.leads else []
    recipients += [sentence("the assignee")] if action.owner else []
    recipients += [sentence("everyone paged")] if action.paged else []
    return tuple(recipients)


# ---------- templates


def workflow_templates(call: str = "", policy: str = "", *, has_halo: bool = False) -> list[SpecTemplate]:
    """All templates; `call` and `policy` name an existing HTTP call and policy, or are ""."""
    on_ticket = {"do": "halo", "text": translatable("Not acknowledged for 5 minutes. The lead has been notified.")}
    live = {"field": "status", "operator": "one of", "value": ["closed", "cancelled", "merged"], "not": True}
    return [
        SpecTemplate(
            "unacknowledged",
            translatable("Not acknowledged in 5 minutes"),
            translatable("Notifies the leads of the alert's groups and adds a note to the ticket."),
            {
                "trigger": {"on": "unacknowledged", "for": "5m"},
                "actions": [
                    {
                        "do": "notify",
                        "leads": True,
                        "subject": translatable("Not acknowledged: <subject>"),
                        "text": translatable("Not acknowledged for 5 minutes.\n\n<client>: <subject>\n<url>"),
                    },
                    *([on_ticket] if has_halo else ()),
                ],
            },
        ),
        SpecTemplate(
            "status",
            translatable("Notify everyone paged when the status changes"),
            translatable("Notifies everyone who was paged of each alert or ticket status change."),
            {
                "trigger": "status_changed",
                "actions": [
                    {"do": "notify", "paged": True, "subject": "<status>: <subject>", "text": "<what>\n\n<url>"}
                ],
            },
        ),
        SpecTemplate(
            "sla",
            translatable("1 hour before the SLA deadline"),
            translatable("Notifies the assignee and the leads one hour before the ticket's fix-by time."),
            {
                "trigger": {"on": "before_sla", "moment": "fix_by", "by": "1h"},
                "actions": [
                    {
                        "do": "notify",
                        "leads": True,
                        "owner": True,
                        "subject": translatable("SLA due in 1 hour: <subject>"),
                        "text": translatable(
                            "This must be fixed by <custom.fix_by>.\n\n<client>: <subject>\nWith: <owner>\n<url>"
                        ),
                    }
                ],
            },
        ),
        SpecTemplate(
            "respond",
            translatable("Unassigned at the respond-by time"),
            translatable("Raises the priority and pages again if a ticket is unassigned at its respond-by time."),
            {
                "trigger": {"on": "after_sla", "moment": "respond_by"},
                "start": {"field": "owner", "operator": "exists", "not": True},
                "actions": [{"do": "set_priority", "priority": "critical"}, {"do": "escalate"}],
            },
        ),
        SpecTemplate(
            "remind",
            translatable("Remind the assignee every 2 hours"),
            translatable("While a high or critical alert is active."),
            {
                "trigger": {"on": "every", "every": "2h"},
                "start": {
                    "all": [
                        {"field": "owner", "operator": "exists"},
                        {"field": "priority", "operator": "one of", "value": ["critical", "high"]},
                    ]
                },
                "actions": [{"do": "notify", "owner": True, "subject": translatable("Still open: <subject>")}],
            },
        ),
        SpecTemplate(
            "vip",
            translatable("Make VIP tickets critical"),
            translatable("Sets alerts reported by a VIP to critical."),
            {
                "trigger": "opened",
                "start": {"field": "vip", "operator": "one of", "value": ["true", "1", "yes", "vip"]},
                "actions": [{"do": "set_priority", "priority": "critical"}, {"do": "set_tags", "tags": {"vip": "yes"}}],
            },
        ),
        SpecTemplate(
            "exhausted",
            translatable("Escalation exhausted: start another policy"),
            translatable("Starts another policy when the first is exhausted."),
            {"trigger": "exhausted", "actions": [{"do": "start_policy", **({"policy": policy} if policy else {})}]},
        ),
        SpecTemplate(
            "button",
            translatable("Button that calls another system"),
            translatable("On every active alert: asks for confirmation, sends an HTTP request and shows the result."),
            {
                "trigger": {"on": "manual", "confirm": translatable("Run it now?")},
                "start": live,
                "actions": [{"do": "call", **({"outbound": call} if call else {})}],
            },
        ),
    ]
