"""One step of a policy: whom it notifies, when, how, and under which conditions.

Parses and formats a step. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import NOT_A_CHOICE, ObjectReader
from tocsin.escalation.policy import conditions
from tocsin.escalation.policy.conditions import StepCondition
from tocsin.notify.rules.notification_rules import USER_RULES, ContactMethodRule, DeliveryOverride
from tocsin.oncall.reasons import NO_SUCH_SCHEDULE
from tocsin.people import notification_rules
from tocsin.people.member_roles import MemberRole
from tocsin.people.reasons import NO_SUCH_GROUP, NO_SUCH_USER

MAX_STEP_RETRIES = 50
MAX_CONTACT_METHODS = 20

_AFTER_NEEDED = ReasonType("policy.after_missing", "is required: the delay after the previous step.")
_SEQUENTIAL_NEEDED = ReasonType(
    "policy.sequential_missing", "must be an interval, such as 5m; omit it to page all users at once."
)
_NOTIFY_NEEDED = ReasonType("policy.notify_missing", "is required: whom this step notifies.")
_ROLES_NEEDED = ReasonType("policy.roles_missing", "this step notifies nobody; name roles of the groups.")
_TARGETS_NEEDED = ReasonType(
    "policy.targets_missing", "this step notifies nobody; name roles, users or group contacts."
)
_RETRY_INTERVAL_NEEDED = ReasonType("policy.retry_interval_missing", "is required: the interval between retries.")
_TOO_MANY_METHODS = ReasonType("policy.too_many_methods", "has at most {limit} entries; this one has {entries}.")
_LABEL_OR_CHANNEL = ReasonType("policy.label_or_channel", "name either the label of a contact method, or a channel.")

#: Returns an object's name from its key in `PolicyNames` and its id.
type NameOf = Callable[[str, int], str]


class IfEmpty(StrEnum):
    """The behavior of a step that has nobody to page."""

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


def read(spec: ObjectReader, number: int, names: PolicyNames) -> PolicyStep:
    """Parses one entry of `steps`; problems are recorded in `spec`."""
    if number > 0 and not spec.has("after"):
        spec.add_error("after", _AFTER_NEEDED(), "missing")
    after, name = spec.duration("after", timedelta()), spec.line("name", max_length=100)
    when = spec.nested("when")
    condition = conditions.read(when, names.support_hours) if when is not None else None
    sequential_interval = spec.duration("sequential", timedelta()) if spec.has("sequential") else None
    if sequential_interval is not None and not sequential_interval and not spec.has("retries"):
        spec.add_error("sequential", _SEQUENTIAL_NEEDED())
    delivery_override, only_until_ack = _delivery_override(spec), spec.boolean("only_until_acknowledged", False)
    if_empty = spec.one_of("if_empty", IfEmpty, IfEmpty.SKIP)
    notify = spec.nested("notify")
    spec.reject_unknown_keys()
    if notify is None:
        spec.add_error("notify", _NOTIFY_NEEDED(), "missing")
        return PolicyStep(after=after, name=name)
    return _step_with_targets(spec, notify, names)(
        after=after,
        name=name,
        sequential_interval=sequential_interval,
        delivery_override=delivery_override,
        when=condition,
        only_until_acknowledged=only_until_ack,
        if_empty=if_empty,
    )


def write(step: PolicyStep, name_of: NameOf) -> dict[str, Any]:
    """Formats a step so that `read` parses it back; defaults are omitted."""
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


def resolve_ids(spec: ObjectReader, key: str, ids_by_name: Mapping[str, int], unknown: ReasonType) -> tuple[int, ...]:
    """The ids of the names under `key`; unknown names are recorded as problems."""
    matched_ids = []
    for number, name in enumerate(spec.texts(key)):
        try:
            matched_ids.append(ids_by_name[name.lower()])
        except KeyError:
            spec.add_error(f"{key}[{number}]", unknown(name=name), "not_found")
    return tuple(dict.fromkeys(matched_ids))


def _step_with_targets(spec: ObjectReader, notify_spec: ObjectReader, names: PolicyNames) -> Callable[..., PolicyStep]:
    """A factory for a step with its targets; the caller passes the remaining fields."""
    targets: dict[str, Any] = {
        "roles": _roles(notify_spec),
        "user_ids": resolve_ids(notify_spec, "users", names.users, NO_SUCH_USER),
        "group_ids": resolve_ids(notify_spec, "groups", names.groups, NO_SUCH_GROUP),
        "group_contacts": notify_spec.texts("group_contacts"),
        "everybody": notify_spec.boolean("everybody", False),
        "schedule_ids": resolve_ids(notify_spec, "schedules", names.schedules, NO_SUCH_SCHEDULE),
        "assignee": notify_spec.boolean("assignee", False),
        "previous_on_call": notify_spec.boolean("previous_on_call", False),
    }
    notify_spec.reject_unknown_keys()
    target_keys = ("roles", "users", "group_contacts", "everybody", "schedules", "assignee", "previous_on_call")
    if not any(notify_spec.has(key) and notify_spec.raw(key) for key in target_keys):
        spec.add_error("notify", _ROLES_NEEDED() if targets["group_ids"] else _TARGETS_NEEDED())
    return lambda **fields: PolicyStep(**targets, **fields)


def _roles(notify: ObjectReader) -> tuple[MemberRole, ...]:
    roles = []
    for number, written in enumerate(notify.texts("roles")):
        try:
            roles.append(MemberRole(written))
        except ValueError:
            notify.add_error(f"roles[{number}]", NOT_A_CHOICE(value=written, choices=tuple(MemberRole)))
    return tuple(roles)


def _delivery_override(spec: ObjectReader) -> DeliveryOverride:
    times, every = 0, timedelta()
    retries = spec.nested("retries")
    if retries is not None:
        times = retries.integer("times", 0, maximum=MAX_STEP_RETRIES)
        every = retries.duration("every", timedelta())
        if times and not every:
            retries.add_error("every", _RETRY_INTERVAL_NEEDED(), "missing")
        retries.reject_unknown_keys()
    method_rules = tuple(_method_rule(entry) for entry in spec.nested_list("methods"))
    if len(method_rules) > MAX_CONTACT_METHODS:
        spec.add_error("methods", _TOO_MANY_METHODS(limit=MAX_CONTACT_METHODS, entries=len(method_rules)))
    return DeliveryOverride(method_rules, times, every if times else timedelta())


def _method_rule(entry: ObjectReader) -> ContactMethodRule:
    label, channel = entry.line("label", max_length=100), entry.text("channel", max_length=20)
    if bool(label) == bool(channel):
        entry.add_error("label", _LABEL_OR_CHANNEL(), "missing")
    times, every = notification_rules.read_repeat(entry)
    rule = ContactMethodRule(
        label, channel, entry.duration("wait", timedelta(), maximum=notification_rules.MAX_RULE_DELAY), times, every
    )
    entry.reject_unknown_keys()
    return rule


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
