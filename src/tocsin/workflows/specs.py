"""Workflows as YAML, the API and forms write them. Pure.

The context of the specs has the ids of `users`, `groups`, `policies` and `outbound` by name, and the kind of each
outbound integration as `outbound_kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.reasons import Text, sentence
from tocsin.core.validation.field_errors import (
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
from tocsin.escalation.policy import NO_SUCH_POLICY
from tocsin.inbound.conditions import OptionalCondition
from tocsin.workflows.definition import (
    KEYS,
    LIMIT,
    MAX_ACTIONS,
    MAX_LIMIT,
    MAX_SPAN,
    MIN_SPAN,
    SLA,
    SPANS,
    ActionKind,
    SlaMoment,
    Trigger,
    TriggerKind,
    WorkflowAction,
    WorkflowDefinition,
)

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
    managers: bool = Field(
        default=False,
        description="Whether `notify` or `add_responders` includes the managers of the groups that the alert pages; if "
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
            case ActionKind.NOTIFY if not (self.users or self.groups or self.managers or self.owner or self.paged):
                if not errors.has("groups", "managers", "owner", "paged"):
                    errors.add(
                        "users",
                        sentence("at least one recipient is required: users, groups, managers, owner or paged."),
                        "missing",
                    )
            case ActionKind.NOTIFY if self.contacts and not self.groups and not errors.has("groups"):
                errors.add("contacts", sentence("requires a group whose contacts are notified."))
            case ActionKind.ADD_RESPONDERS if not (self.users or self.groups or self.managers):
                if not errors.has("groups", "managers"):
                    errors.add("users", sentence("users, groups or managers to page are required."), "missing")
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
