"""One step of a policy: whom it notifies, when, how, and under which conditions.

Parses and formats a step. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.spec import Spec, SpecErrors
from tocsin.core.validation.spec_types import Duration, Line, ListOf, Names, OneOf, ids_of, list_of, list_of_choices
from tocsin.escalation.policy import conditions
from tocsin.escalation.policy.conditions import StepCondition, StepConditionSpec
from tocsin.notify.rules.notification_rules import USER_RULES, ContactMethodRule, DeliveryOverride
from tocsin.oncall.reasons import NO_SUCH_SCHEDULE
from tocsin.people import notification_rules
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import RepeatSpec, RuleDelay
from tocsin.people.reasons import NO_SUCH_GROUP, NO_SUCH_USER

MAX_STEP_RETRIES = 50
MAX_CONTACT_METHODS = 20

_SEQUENTIAL_NEEDED = ReasonType(
    "policy.sequential_missing", "must be an interval, such as 5m; omit it to page all users at once."
)
_ROLES_NEEDED = ReasonType("policy.roles_missing", "this step notifies no one; add on-call roles.")
_TARGETS_NEEDED = ReasonType("policy.targets_missing", "this step notifies no one; add roles, users or group contacts.")
_RETRY_INTERVAL_NEEDED = ReasonType("policy.retry_interval_missing", "is required: the interval between retries.")
_TOO_MANY_METHODS = ReasonType("policy.too_many_methods", "has at most {limit} entries; this one has {entries}.")
_LABEL_OR_CHANNEL = ReasonType("policy.label_or_channel", "enter either a contact method's label or a channel.")

#: Returns an object's name from its key in `PolicyNames` and its id.
type NameOf = Callable[[str, int], str]


class IfEmpty(StrEnum):
    """The behavior of a step that has no one to page."""

    SKIP = "skip"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One step. `after` counts from the start of the previous step; for the first, from the alert's creation."""

    after: timedelta
    #: Looked up in `group_ids`, or in the recipient groups when that is empty.
    roles: tuple[MemberRole, ...] = ()
    user_ids: tuple[int, ...] = ()
    group_ids: tuple[int, ...] = ()
    #: Labels of group contacts in the same groups.
    group_contacts: tuple[str, ...] = ()
    name: str = ""
    #: Whether to page every member of the same groups.
    everybody: bool = False
    #: Everybody on call on these schedules, in any role.
    schedule_ids: tuple[int, ...] = ()
    #: Whether to page the current or last assignee of the source's ticket.
    assignee: bool = False
    #: Whether to page the previous holders of the roles (primary, if none is given).
    previous_on_call: bool = False
    #: The interval for paging one user after another; None: all at once.
    sequential_interval: timedelta | None = None
    delivery_override: DeliveryOverride = USER_RULES
    when: StepCondition | None = None
    #: Skip the step, and cancel its pages, once anybody has acknowledged.
    only_until_acknowledged: bool = False
    if_empty: IfEmpty = IfEmpty.SKIP


@dataclass(frozen=True, slots=True)
class PolicyNames:
    """Ids of the objects a policy can refer to, by lower-case name."""

    users: Mapping[str, int]
    groups: Mapping[str, int]
    schedules: Mapping[str, int] = field(default_factory=dict)
    support_hours: Mapping[str, int] = field(default_factory=dict)
    policies: Mapping[str, int] = field(default_factory=dict)

    @property
    def context(self) -> Mapping[str, Any]:
        """The ids by kind, for the specs of policies."""
        return {kind: getattr(self, kind) for kind in self.__slots__}


class RetriesSpec(Spec):
    """Retries of the pages of a step."""

    times: int = Field(default=0, ge=0, le=MAX_STEP_RETRIES, description="Number of retries.")
    every: Duration = Field(default=timedelta(), description="Interval between retries. Required if there are any.")

    def check(self, errors: SpecErrors) -> None:
        if self.times and not self.every:
            errors.add("every", _RETRY_INTERVAL_NEEDED(), "missing")


class MethodRuleSpec(Spec):
    """A contact method by label or channel, its delay and repeats."""

    label: Annotated[Line, Field(max_length=100)] = Field(default="", description="Label of a contact method.")
    channel: str = Field(default="", max_length=20, description="Channel, for all contact methods of that channel.")
    repeat: RepeatSpec = Field(default=RepeatSpec(), description="Repeats of the page.")
    wait: RuleDelay = Field(default=timedelta(), description="Delay after the step.")

    def check(self, errors: SpecErrors) -> None:
        if bool(self.label) == bool(self.channel):
            errors.add("label", _LABEL_OR_CHANNEL(), "missing")

    def compiled(self) -> ContactMethodRule:
        """The rule."""
        return ContactMethodRule(self.label, self.channel, self.wait, self.repeat.times, self.repeat.interval)


class NotifySpec(Spec):
    """Whom a step notifies. Its context has the ids of `users`, `groups` and `schedules` by name."""

    roles: Annotated[tuple[MemberRole, ...], list_of_choices(MemberRole)] = Field(
        default=(), description="Roles: all users on call in one of them."
    )
    user_ids: Annotated[tuple[int, ...], list_of(str, {}), ids_of("users", NO_SUCH_USER)] = Field(
        default=(), alias="users", description="Usernames."
    )
    group_ids: Annotated[tuple[int, ...], list_of(str, {}), ids_of("groups", NO_SUCH_GROUP)] = Field(
        default=(), alias="groups", description="Names of the groups of the roles. Default: the recipient groups."
    )
    group_contacts: Names = Field(default=(), description="Labels of contacts of these groups.")
    everybody: bool = Field(default=False, description="Whether all members of these groups are notified.")
    schedule_ids: Annotated[tuple[int, ...], list_of(str, {}), ids_of("schedules", NO_SUCH_SCHEDULE)] = Field(
        default=(), alias="schedules", description="Names of schedules: all users on call in them, in any role."
    )
    assignee: bool = Field(default=False, description="Whether the assignee of the source's ticket is notified.")
    previous_on_call: bool = Field(
        default=False,
        description="Whether the previous holders of the roles (default: `primary`) are notified.",
    )

    def check(self, errors: SpecErrors) -> None:
        has_target = any(getattr(self, name) for name in type(self).model_fields if name != "group_ids")
        if not errors and not has_target:
            errors.add("", _ROLES_NEEDED() if self.group_ids else _TARGETS_NEEDED())


class StepSpec(Spec):
    """One step of a policy."""

    after: Duration = Field(
        default=timedelta(),
        description="Delay after the start of the previous step. Required except for the first step.",
    )
    name: Annotated[Line, Field(max_length=100)] = Field(default="", description="Name, for display.")
    when: StepConditionSpec | None = Field(default=None, description="Condition, without which the step is skipped.")
    sequential: Duration | None = Field(
        default=None, description="Interval at which one user after the other is paged. Default: all at once."
    )
    retries: RetriesSpec = Field(default=RetriesSpec(), description="Retries of the pages of this step.")
    methods: ListOf[MethodRuleSpec] = Field(
        default=(), description="Contact methods of this step. Default: those of the users' notification rules."
    )
    only_until_acknowledged: bool = Field(
        default=False, description="Whether the step is skipped, and its pages cancelled, after an acknowledgement."
    )
    if_empty: Annotated[IfEmpty, OneOf()] = Field(
        default=IfEmpty.SKIP,
        description="Whether the next step follows at once if this step has no one to page.",
    )
    notify: NotifySpec = Field(description="Whom the step notifies.")

    def check(self, errors: SpecErrors) -> None:
        if self.sequential is not None and not self.sequential and "retries" not in self.given_keys:
            errors.add("sequential", _SEQUENTIAL_NEEDED())
        if len(self.methods) > MAX_CONTACT_METHODS:
            errors.add("methods", _TOO_MANY_METHODS(limit=MAX_CONTACT_METHODS, entries=len(self.methods)))

    def compiled(self) -> PolicyStep:
        """The step with ids."""
        methods = tuple(method.compiled() for method in self.methods)
        retries = self.retries
        return PolicyStep(
            after=self.after,
            name=self.name,
            sequential_interval=self.sequential,
            delivery_override=DeliveryOverride(methods, retries.times, retries.every if retries.times else timedelta()),
            when=self.when.compiled() if self.when else None,
            only_until_acknowledged=self.only_until_acknowledged,
            if_empty=self.if_empty,
            **{name: getattr(self.notify, name) for name in NotifySpec.model_fields},
        )


def write(step: PolicyStep, name_of: NameOf) -> dict[str, Any]:
    """Formats a step so that `StepSpec` reads it back; defaults are omitted."""
    written: dict[str, Any] = {"notify": _written_notify(step, name_of), "after": durations.write(step.after)}
    if step.name:
        written["name"] = step.name
    if step.sequential_interval is not None:
        written["sequential"] = durations.write(step.sequential_interval)
    if step.delivery_override.retries:
        written["retries"] = {
            "times": step.delivery_override.retries,
            "every": durations.write(step.delivery_override.retry_every),
        }
    if step.delivery_override.methods:
        written["methods"] = [_written_method_rule(rule) for rule in step.delivery_override.methods]
    if step.when is not None:
        written["when"] = conditions.write(step.when, lambda number: name_of("support_hours", number))
    if step.only_until_acknowledged:
        written["only_until_acknowledged"] = True
    if step.if_empty is not IfEmpty.SKIP:
        written["if_empty"] = str(step.if_empty)
    return written


def _written_method_rule(rule: ContactMethodRule) -> dict[str, Any]:
    written: dict[str, Any] = {"label": rule.label} if rule.label else {"channel": rule.channel}
    if rule.wait:
        written["wait"] = durations.write(rule.wait)
    return written | notification_rules.repeat_data(rule.repeat_times, rule.repeat_every)


def _written_notify(step: PolicyStep, name_of: NameOf) -> dict[str, Any]:
    notify: dict[str, Any] = {}
    if step.roles:
        notify["roles"] = [str(role) for role in step.roles]
    for key, numbers in (("users", step.user_ids), ("groups", step.group_ids), ("schedules", step.schedule_ids)):
        if numbers:
            notify[key] = [name_of(key, number) for number in numbers]
    if step.group_contacts:
        notify["group_contacts"] = list(step.group_contacts)
    for key, is_given in (
        ("everybody", step.everybody),
        ("assignee", step.assignee),
        ("previous_on_call", step.previous_on_call),
    ):
        if is_given:
            notify[key] = True
    return notify
