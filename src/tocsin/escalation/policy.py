"""Escalation policies: definition, steps, conditions and templates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Reason, Term, Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import DURATION_TOO_SHORT, NO_SUCH_GROUP, NO_SUCH_USER, REQUIRED, format_time
from tocsin.core.validation.spec import (
    Duration,
    InForm,
    InvalidValue,
    Line,
    ListOf,
    Names,
    OneOf,
    OwnedSpec,
    Parsed,
    Reference,
    Spec,
    SpecErrors,
    TimeOfDay,
    TimeZone,
    is_unstorable,
    list_of,
    list_of_choices,
    reading_context,
)
from tocsin.escalation import reasons
from tocsin.notify.rules.page_planner import USER_RULES, ContactMethodRule, DeliveryOverride
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import CompiledSupportHours, Weekday, WeeklyWindow
from tocsin.oncall.reasons import NO_SUCH_SCHEDULE
from tocsin.people import notification_rules
from tocsin.people.notification_rules import RepeatSpec, RuleDelay

# ---------- conditions
# Conditions of a policy step on priority, time of day, support hours and tags, and why one does not hold.
# Pure.


MAX_CONDITION_TAGS = 20

NO_SUCH_SUPPORT_HOURS = Text('there are no support hours "{name}".')


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A daily time window in a time zone, on certain weekdays."""

    window: WeeklyWindow
    zone: str
    #: Whether the condition means the time outside the window.
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class StepCondition:
    """A conjunction: every given part must hold; an empty condition always holds."""

    priorities: tuple[Priority, ...] = ()
    #: Id of support hours, and whether the condition means the time outside them.
    hours: int | None = None
    is_outside: bool = False
    between: DailyWindow | None = None
    #: Pairs of tag name and required value; values are compared case-insensitively.
    tags: tuple[tuple[str, str], ...] = ()


NO_SUCH_POLICY = Text('unknown escalation policy "{name}".')


def unmet_condition(
    condition: StepCondition,
    priority: Priority,
    tags: Mapping[str, str],
    hours: Mapping[int, CompiledSupportHours],
    at: datetime,
) -> Reason:
    """Why the condition does not hold at `at`, as part of a sentence; `NO_REASON` when it holds.

    Deleted support hours count as fulfilled: one page too many is better than silence.
    """
    if condition.priorities and priority not in condition.priorities:
        priorities = tuple(Term(one) for one in condition.priorities)
        return reasons.ONLY_PRIORITIES(priorities=priorities, priority=Term(priority))
    support_hours = hours.get(condition.hours) if condition.hours is not None else None
    if support_hours is not None and support_hours.is_open(at) is condition.is_outside:
        return (reasons.ONLY_OUTSIDE if condition.is_outside else reasons.ONLY_DURING)(hours=support_hours.name)
    between = condition.between
    if between is not None:
        is_inside = weekly_windows.current((between.window,), ZoneInfo(between.zone), at) is not None
        if is_inside is between.is_outside:
            only = reasons.ONLY_OUTSIDE_WINDOW if between.is_outside else reasons.ONLY_IN_WINDOW
            return only(window=_describe_window(between))
    for name, value in condition.tags:
        actual = tags.get(name, "")
        if actual.casefold() != value.casefold():
            if actual:
                return reasons.ONLY_OTHER_TAG(tag=name, value=value, actual=actual)
            return reasons.ONLY_TAG(tag=name, value=value)
    return NO_REASON


def _describe_window(between: DailyWindow) -> Reason:
    """A window, such as "Mon and Tue 08:00 to 18:00 (Europe/Zurich)"."""
    days = tuple(Term(day.short.capitalize()) for day in Weekday if day.number in between.window.days)
    start, end = format_time(between.window.start), format_time(between.window.end)
    if len(days) == len(Weekday):
        return reasons.WINDOW(start=start, end=end, zone=between.zone)
    return reasons.WINDOW_ON_DAYS(days=days, start=start, end=end, zone=between.zone)


def _during(value: object) -> tuple[str, bool]:
    """Returns a name, and whether the time outside is meant."""
    name = value.get("not") if isinstance(value, Mapping) and set(value) == {"not"} else value
    if not isinstance(name, str) or not name.strip() or is_unstorable(name):
        raise InvalidValue(sentence("must be the name of support hours, or {not: NAME}."))
    return name.strip(), isinstance(value, Mapping)


def _resolve_during(named: tuple[str, bool], info: ValidationInfo) -> tuple[int, bool]:
    name, is_outside = named
    try:
        return reading_context(info)["support_hours"][name.lower()], is_outside
    except KeyError:
        raise InvalidValue(NO_SUCH_SUPPORT_HOURS(name=name), "not_found") from None


def _tags(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or len(value) > MAX_CONDITION_TAGS:
        raise InvalidValue(sentence("must be at most {limit} names with a value each.", limit=MAX_CONDITION_TAGS))
    tags, errors = [], SpecErrors()
    for name, text in value.items():
        is_text = isinstance(text, str) and text.strip() and not is_unstorable(text)
        if not is_text or len(text) > 200 or len(str(name)) > 100:
            errors.add(str(name)[:100], sentence("must be text of 1 to 200 characters."))
        else:
            tags.append((str(name), text.strip()))
    if errors:
        raise InvalidValue(errors)
    return tuple(tags)


_Priorities = Annotated[
    tuple[Priority, ...],
    list_of_choices(Priority),
    AfterValidator(lambda priorities: tuple(priority for priority in Priority if priority in priorities)),
]
_HOURS = {"type": "string", "minLength": 1, "maxLength": 200}
_During = Annotated[
    tuple[int, bool],
    Parsed(_during, {"anyOf": [_HOURS, {"type": "object", "properties": {"not": _HOURS}, "required": ["not"]}]}),
    AfterValidator(_resolve_during),
]
_Tags = Annotated[
    tuple[tuple[str, str], ...],
    Parsed(
        _tags,
        {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200},
            "maxProperties": MAX_CONDITION_TAGS,
        },
    ),
]


class BetweenSpec(Spec):
    """A time of day, on some weekdays."""

    days: weekly_windows.WeekdayNumbers = Field(default=(), description="Days. Default: every day.")
    start: TimeOfDay = Field(alias="from", description="Start, such as `08:00`.")
    end: TimeOfDay = Field(
        alias="to", description="End, such as `18:00`; on the next day if it is not after the start."
    )
    time_zone: TimeZone = Field(default="UTC", description="Time zone of `from` and `to`.")
    is_outside: bool = Field(default=False, alias="outside", description="Whether the time outside is meant.")

    def compiled(self) -> DailyWindow:
        days = frozenset(self.days or range(len(Weekday)))
        return DailyWindow(WeeklyWindow(days, self.start, self.end), self.time_zone, self.is_outside)


class StepConditionSpec(Spec):
    """A condition: everything that is given must hold. Its context has the ids of `support_hours` by name."""

    during: _During | None = Field(
        default=None, description="Name of support hours, or `{not: NAME}` for the time outside them."
    )
    priority: _Priorities = Field(default=(), description="Priorities of the alert.")
    between: BetweenSpec | None = Field(default=None, description="Time of day.")
    tags: _Tags = Field(default=(), description="Tags of the alert by name, with the required value of each.")

    def check(self, errors: SpecErrors) -> None:
        if not errors and not (self.during or self.priority or self.between or self.tags):
            errors.add("priority", sentence("set at least one of priority, during, between and tags."), "missing")

    def compiled(self) -> StepCondition:
        hours, is_outside = self.during or (None, False)
        between = self.between.compiled() if self.between else None
        return StepCondition(self.priority, hours, is_outside, between, self.tags)


def _written_condition(condition: StepCondition, name_of: NameOf) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if condition.priorities:
        written["priority"] = [str(priority) for priority in condition.priorities]
    if condition.hours is not None:
        name = name_of("support_hours", condition.hours)
        written["during"] = {"not": name} if condition.is_outside else name
    if condition.between is not None:
        (window,) = weekly_windows.write([condition.between.window])
        if len(condition.between.window.days) == len(Weekday):
            del window["days"]
        outside = {"outside": True} if condition.between.is_outside else {}
        written["between"] = {**window, "time_zone": condition.between.zone, **outside}
    if condition.tags:
        written["tags"] = dict(condition.tags)
    return written


# ---------- steps


MAX_STEP_RETRIES = 50
MAX_CONTACT_METHODS = 20


#: The ids of the objects that a policy can refer to, by kind ("users", "groups", "schedules", "support_hours",
#: "policies") and lower-case name: the context of its specs.
type IdsByName = Mapping[str, Any]

#: Returns an object's name from its kind and id.
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
    everybody: bool = False
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


class RetriesSpec(Spec):
    """Retries of the pages of a step."""

    times: int = Field(default=0, ge=0, le=MAX_STEP_RETRIES, description="Number of retries.")
    every: Duration = Field(default=timedelta(), description="Interval between retries. Required if there are any.")

    def check(self, errors: SpecErrors) -> None:
        if self.times and not self.every:
            errors.add("every", sentence("is required: the interval between retries."), "missing")


class MethodRuleSpec(Spec):
    """A contact method by label or channel, its delay and repeats."""

    label: Annotated[Line, Field(max_length=100)] = Field(default="", description="Label of a contact method.")
    channel: str = Field(default="", max_length=20, description="Channel, for all contact methods of that channel.")
    repeat: RepeatSpec = Field(default=RepeatSpec(), description="Repeats of the page.")
    wait: RuleDelay = Field(default=timedelta(), description="Delay after the step.")

    def check(self, errors: SpecErrors) -> None:
        if bool(self.label) == bool(self.channel):
            errors.add("label", sentence("enter either a contact method's label or a channel."), "missing")

    def compiled(self) -> ContactMethodRule:
        return ContactMethodRule(self.label, self.channel, self.wait, self.repeat.times, self.repeat.interval)


class NotifySpec(Spec):
    """Whom a step notifies. Its context has the ids of `users`, `groups` and `schedules` by name."""

    roles: Annotated[tuple[MemberRole, ...], list_of_choices(MemberRole)] = Field(
        default=(), description="Roles: all users on call in one of them."
    )
    user_ids: Annotated[tuple[int, ...], list_of(str, {}), Reference("users", NO_SUCH_USER)] = Field(
        default=(), alias="users", description="Usernames."
    )
    group_ids: Annotated[tuple[int, ...], list_of(str, {}), Reference("groups", NO_SUCH_GROUP)] = Field(
        default=(), alias="groups", description="Names of the groups of the roles. Default: the recipient groups."
    )
    group_contacts: Names = Field(default=(), description="Labels of contacts of these groups.")
    everybody: bool = Field(default=False, description="Whether all members of these groups are notified.")
    schedule_ids: Annotated[tuple[int, ...], list_of(str, {}), Reference("schedules", NO_SUCH_SCHEDULE)] = Field(
        default=(), alias="schedules", description="Names of schedules: all users on call in them, in any role."
    )
    assignee: bool = Field(default=False, description="Whether the assignee of the source's ticket is notified.")
    previous_on_call: bool = Field(
        default=False, description="Whether the previous holders of the roles (default: `primary`) are notified."
    )

    def check(self, errors: SpecErrors) -> None:
        has_target = any(getattr(self, name) for name in type(self).model_fields if name != "group_ids")
        if not errors and not has_target:
            errors.add(
                "",
                sentence("this step notifies no one; add on-call roles.")
                if self.group_ids
                else sentence("this step notifies no one; add roles, users or group contacts."),
            )


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
        default=IfEmpty.SKIP, description="Whether the next step follows at once if this step has no one to page."
    )
    notify: NotifySpec = Field(description="Whom the step notifies.")

    def check(self, errors: SpecErrors) -> None:
        if self.sequential is not None and not self.sequential and "retries" not in self.given_keys:
            errors.add("sequential", sentence("must be an interval, such as 5m; omit it to page all users at once."))
        if len(self.methods) > MAX_CONTACT_METHODS:
            errors.add(
                "methods",
                sentence(
                    "has at most {limit} entries; this one has {entries}.",
                    limit=MAX_CONTACT_METHODS,
                    entries=len(self.methods),
                ),
            )

    def compiled(self) -> PolicyStep:
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


def write_steps(step: PolicyStep, name_of: NameOf) -> dict[str, Any]:
    """Formats a step so that `StepSpec` reads it back; defaults are omitted."""
    override = step.delivery_override
    return _given(
        notify=_written_notify(step, name_of),
        after=step.after,
        name=step.name or None,
        sequential=step.sequential_interval,
        retries=_given(times=override.retries, every=override.retry_every) if override.retries else None,
        methods=[
            _given(label=rule.label or None, channel=None if rule.label else rule.channel, wait=rule.wait or None)
            | notification_rules.repeat_data(rule.repeat_times, rule.repeat_every)
            for rule in override.methods
        ]
        or None,
        when=_written_condition(step.when, name_of) if step.when is not None else None,
        only_until_acknowledged=step.only_until_acknowledged or None,
        if_empty=str(step.if_empty) if step.if_empty is not IfEmpty.SKIP else None,
    )


def _written_notify(step: PolicyStep, name_of: NameOf) -> dict[str, Any]:
    ids_by_kind = {"users": step.user_ids, "groups": step.group_ids, "schedules": step.schedule_ids}
    notify: dict[str, Any] = {"roles": [str(role) for role in step.roles]}
    notify |= {kind: [name_of(kind, number) for number in ids] for kind, ids in ids_by_kind.items()}
    notify["group_contacts"] = list(step.group_contacts)
    notify |= {key: getattr(step, key) for key in ("everybody", "assignee", "previous_on_call")}
    return {key: value for key, value in notify.items() if value}


# ---------- policy
# The definition of a policy: parses, validates and compiles it into an immutable form. Pure.
# A definition refers to users, groups and other objects by name; the compiled policy and its stored JSON by id.


MAX_STEPS = 50
MAX_POLICY_REPEATS = 100
MAX_REQUIRED_ACKS = 20
MIN_LAST_STEP_INTERVAL = timedelta(minutes=1)
DEFAULT_ACKNOWLEDGE_TIMEOUT = timedelta(minutes=30)
DEFAULT_END_AFTER = timedelta(minutes=5)

POLICY_UNREADABLE = Text("Policy {policy} cannot be read. Save it again.")


class AcknowledgeEffect(StrEnum):
    """The effect of an acknowledgement on escalation."""

    STOP = "stop"
    PAUSE = "pause"
    CONTINUE = "continue"


class OnExhausted(StrEnum):
    """The final action when the escalation is exhausted."""

    NOTIFY_LEADS = "notify_leads"
    NOTHING = "nothing"
    REPEAT_LAST_STEP = "keep_last_step"
    HAND_OVER = "hand_over"

    @classmethod
    def _missing_(cls, value: object) -> OnExhausted | None:
        return cls.NOTIFY_LEADS if value == "tell_managers" else None  # its former name


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A complete policy with every reference as an id."""

    steps: tuple[PolicyStep, ...]
    default_priority: Priority = Priority.HIGH
    effect: AcknowledgeEffect = AcknowledgeEffect.STOP
    #: The length of the pause for `effect: pause`; zero for other effects.
    pause: timedelta = timedelta()
    acknowledge_timeout: timedelta = DEFAULT_ACKNOWLEDGE_TIMEOUT
    #: Whether assigning the alert to somebody else pages them, and escalation restarts if they do not accept within the
    #: acknowledgement timeout.
    pages_assignee: bool = True
    #: The number of further passes, and their interval, counted from the start of the previous pass's last step.
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()
    #: The delay before the final action, from the start of the last pass's last step.
    final_action_after: timedelta = DEFAULT_END_AFTER
    required_acks: int = 1
    #: The interval at which recipient groups are paged one after another; None: all at the same time.
    groups_sequential_interval: timedelta | None = None
    on_exhausted: OnExhausted = OnExhausted.NOTIFY_LEADS
    last_step_interval: timedelta = timedelta()
    handover_policy_id: int | None = None
    #: The policy's own SLA targets, counted from the alert's creation and used where the ticket has none; for
    #: workflows.
    respond_by: timedelta | None = None
    fix_by: timedelta | None = None


@dataclass(frozen=True, slots=True)
class PolicyReferences:
    """The ids of all objects that a policy refers to."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    schedules: frozenset[int] = frozenset()
    support_hours: frozenset[int] = frozenset()
    policies: frozenset[int] = frozenset()


#: Without a policy, only the recipient users are paged, immediately.
RECIPIENTS_ONLY = CompiledPolicy(steps=(PolicyStep(after=timedelta()),))


def _positive(duration: timedelta) -> timedelta:
    if not duration:
        raise InvalidValue(sentence("must be greater than zero."))
    return duration


PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


class AcknowledgeSpec(Spec):
    """The effect of an acknowledgement."""

    effect: Annotated[
        AcknowledgeEffect,
        OneOf(),
        InForm(
            _("On acknowledgement"),
            widget="radio",
            choices={
                AcknowledgeEffect.STOP: _("Stop escalation (as in PagerDuty and Opsgenie)"),
                AcknowledgeEffect.PAUSE: _("Pause escalation"),
                AcknowledgeEffect.CONTINUE: _("Keep escalating until the alert is assigned (as in AlertOps)"),
            },
        ),
    ] = Field(default=AcknowledgeEffect.STOP, description="Whether escalation stops, pauses or continues.")
    pause: Annotated[
        PositiveDuration | None, InForm(_("Pause for"), _("Only for “Pause escalation”. Example: 15m"))
    ] = Field(default=None, description="Length of the pause, for `effect: pause`.")
    timeout: Annotated[
        PositiveDuration,
        InForm(
            _("Acknowledgement timeout"),
            _("Responders are then asked “Still on it?”. Without an answer within 5 minutes, escalation restarts."),
        ),
    ] = Field(
        default=DEFAULT_ACKNOWLEDGE_TIMEOUT, description="Time after which the user is asked to acknowledge again."
    )
    people: Annotated[int, InForm(_("Acknowledgements required"))] = Field(
        default=1, ge=1, le=MAX_REQUIRED_ACKS, description="Number of users whose acknowledgement is required."
    )

    def check(self, errors: SpecErrors) -> None:
        if self.effect is AcknowledgeEffect.PAUSE and self.pause is None:
            errors.add("pause", sentence("is required: how long an acknowledgement pauses escalation."), "missing")
        if self.effect is not AcknowledgeEffect.PAUSE and self.pause is not None:
            errors.add("pause", sentence("applies to `effect: pause` only."))


class RoundsSpec(Spec):
    """How often, and how far apart, all steps are repeated."""

    times: Annotated[int, InForm(_("Repeat N times"))] = Field(
        default=0, ge=0, le=MAX_POLICY_REPEATS, description="How often all steps are repeated."
    )
    every: Annotated[
        PositiveDuration | None, InForm(_("Repeat every"), _("Counted from the start of the last step."))
    ] = Field(
        default=None, description="Interval between passes, from the start of the last step. Required if there are any."
    )

    def check(self, errors: SpecErrors) -> None:
        if self.times and self.every is None:
            errors.add("every", sentence("is required: the interval between rounds."), "missing")


class EndSpec(Spec):
    """The final action. Its context has the ids of `policies` by name."""

    then: Annotated[
        OnExhausted,
        OneOf(),
        InForm(
            _("When escalation is exhausted"),
            widget="radio",
            choices={
                OnExhausted.NOTIFY_LEADS: _("Notify the groups' leads"),
                OnExhausted.REPEAT_LAST_STEP: _("Repeat the last step"),
                OnExhausted.HAND_OVER: _("Hand over to another policy"),
                OnExhausted.NOTHING: _("Do nothing (the alert stays red on Home)"),
            },
        ),
    ] = Field(default=OnExhausted.NOTIFY_LEADS, description="Final action when escalation is exhausted.")
    every: Annotated[
        PositiveDuration | None,
        InForm(_("Repeat last step every"), _("Only for “Repeat the last step”. Example: 15m")),
    ] = Field(
        default=None, description="Interval at which the last step repeats. Required for `keep_last_step`, only there."
    )
    policy: Annotated[
        Annotated[str, Field(max_length=200), Reference("policies", NO_SUCH_POLICY)] | None, InForm(_("Hand over to"))
    ] = Field(default=None, description="Policy that takes over. Required for `hand_over`, only there.")

    def check(self, errors: SpecErrors) -> None:
        keeps_last_step, hands_over = self.then is OnExhausted.REPEAT_LAST_STEP, self.then is OnExhausted.HAND_OVER
        for key, is_used in (("every", keeps_last_step), ("policy", hands_over)):
            if getattr(self, key) and not is_used and not errors.has("then"):
                errors.add(key, sentence("does not apply to `then: {action}`.", action=str(self.then)))
        if keeps_last_step and self.every is None:
            errors.add("every", sentence("is required: the interval at which the last step repeats."), "missing")
        elif keeps_last_step and self.every is not None and self.every < MIN_LAST_STEP_INTERVAL:
            errors.add("every", DURATION_TOO_SHORT(minimum=MIN_LAST_STEP_INTERVAL))
        if hands_over and self.policy is None:
            errors.add("policy", REQUIRED(), "missing")


class TargetTimesSpec(Spec):
    """SLA targets, counted from the alert's creation, for tickets that have none."""

    respond_by: Annotated[
        PositiveDuration | None,
        InForm(_("SLA: respond within"), _("Used by workflows if the ticket has no respond-by time. Example: 15m")),
    ] = Field(default=None, description="Time until the first response.")
    fix_by: Annotated[
        PositiveDuration | None,
        InForm(_("SLA: fix within"), _("Used by workflows if the ticket has no fix-by time. Example: 4h")),
    ] = Field(default=None, description="Time until the resolution.")


class PolicyDefinition(Spec):
    """What a policy does. Its context is `IdsByName`."""

    default_priority: Annotated[Priority, OneOf(), InForm(_("Default priority"))] = Field(
        default=Priority.HIGH, description="Priority of alerts whose source gives none."
    )
    acknowledge: AcknowledgeSpec = Field(default=AcknowledgeSpec(), description="Effect of an acknowledgement.")
    page_assignee: Annotated[
        bool,
        InForm(
            _("Page the assignee"),
            _(
                "Reassigning an alert pages its new assignee, who must accept it within the acknowledgement timeout. "
                "Otherwise escalation restarts."
            ),
        ),
    ] = Field(
        default=True,
        description="Whether a user to whom someone else assigns the alert is paged and must accept within the "
        "acknowledgement timeout; otherwise escalation restarts.",
    )
    repeat: RoundsSpec = Field(default=RoundsSpec(), description="Repetition of all steps.")
    groups_sequential: Annotated[
        PositiveDuration | None,
        InForm(
            _("Escalate group by group, every"),
            _(
                "Leave empty to page all groups together. With 15m, all steps run for the first group, and 15 minutes "
                "later for the next."
            ),
        ),
    ] = Field(default=None, description="Interval at which one recipient group after another is paged. Default: none.")
    sla: TargetTimesSpec = Field(default=TargetTimesSpec(), description="SLA targets, for tickets that have none.")
    end_after: Annotated[
        PositiveDuration, InForm(_("Exhausted after"), _("Counted from the start of the last step."))
    ] = Field(default=DEFAULT_END_AFTER, description="Delay of the final action after the start of the last step.")
    end: EndSpec = Field(default=EndSpec(), description="Final action when escalation is exhausted.")
    steps: ListOf[StepSpec] = Field(
        default=(), json_schema_extra={"minItems": 1, "maxItems": MAX_STEPS}, description="Steps, in their order."
    )

    def check(self, errors: SpecErrors) -> None:
        if not self.steps:
            errors.add("steps", sentence("at least one step is required."), "missing")
        if len(self.steps) > MAX_STEPS:
            errors.add(
                "steps",
                sentence(
                    "a policy has at most {limit} steps; this one has {steps}.", limit=MAX_STEPS, steps=len(self.steps)
                ),
            )
        for index, step in enumerate(self.steps):
            if index > 0 and "after" not in step.given_keys:
                errors.add(
                    f"steps[{index}].after", sentence("is required: the delay after the previous step."), "missing"
                )

    def compiled(self) -> CompiledPolicy:
        return CompiledPolicy(
            steps=tuple(step.compiled() for step in self.steps),
            default_priority=self.default_priority,
            effect=self.acknowledge.effect,
            pause=self.acknowledge.pause or timedelta(),
            acknowledge_timeout=self.acknowledge.timeout,
            pages_assignee=self.page_assignee,
            repeat_times=self.repeat.times,
            repeat_every=(self.repeat.every or timedelta()) if self.repeat.times else timedelta(),
            final_action_after=self.end_after,
            required_acks=self.acknowledge.people,
            groups_sequential_interval=self.groups_sequential,
            on_exhausted=self.end.then,
            last_step_interval=self.end.every or timedelta(),
            handover_policy_id=cast("int | None", self.end.policy),
            respond_by=self.sla.respond_by,
            fix_by=self.sla.fix_by,
        )


class PolicySpec(PolicyDefinition, OwnedSpec):
    """An escalation policy."""

    allows_unreachable: Annotated[bool, InForm(_("Save anyway (no one would be notified)"))] = Field(
        default=False, alias="anyway", description="Whether it is saved although it could reach no one."
    )


def parse(definition: object, ids: IdsByName) -> CompiledPolicy:
    """Compiles a definition. Raises Rejected or RejectedAll, each problem with its field."""
    return PolicyDefinition.read(definition, **ids).compiled()


def write_policy(plan: CompiledPolicy, name_of: NameOf) -> dict[str, Any]:
    """Formats a policy as the definition that `parse` reads, with names from `name_of`."""
    end = plan.on_exhausted
    successor = plan.handover_policy_id if end is OnExhausted.HAND_OVER else None
    return _given(
        default_priority=str(plan.default_priority),
        acknowledge=_given(
            effect=str(plan.effect),
            timeout=plan.acknowledge_timeout,
            pause=plan.pause if plan.effect is AcknowledgeEffect.PAUSE else None,
            people=plan.required_acks if plan.required_acks != 1 else None,
        ),
        page_assignee=None if plan.pages_assignee else False,
        repeat=_given(times=plan.repeat_times, every=plan.repeat_every) if plan.repeat_times else None,
        groups_sequential=plan.groups_sequential_interval,
        end_after=plan.final_action_after if plan.final_action_after != DEFAULT_END_AFTER else None,
        end=_given(
            then=str(end),
            every=plan.last_step_interval if end is OnExhausted.REPEAT_LAST_STEP else None,
            policy=name_of("policies", successor) if successor is not None else None,
        )
        if end is not OnExhausted.NOTIFY_LEADS
        else None,
        sla=_given(respond_by=plan.respond_by, fix_by=plan.fix_by) or None,
        steps=[write_steps(step, name_of) for step in plan.steps],
    )


def _given(**values: object) -> dict[str, Any]:
    """The values that are not None, durations as users write them."""
    return {
        key: inputs.write_duration(value) if isinstance(value, timedelta) else value
        for key, value in values.items()
        if value is not None
    }


def store(plan: CompiledPolicy) -> dict[str, Any]:
    """The policy as JSON for storage, with every reference as an id (`#7`)."""
    return write_policy(plan, lambda _key, number: f"#{number}")


def load(stored: object) -> CompiledPolicy:
    """Parses the output of `store`, from this or an earlier release. Raises Rejected for anything else."""
    return parse(stored, dict.fromkeys(("users", "groups", "schedules", "support_hours", "policies"), _NumericIds()))


def references(*plans: CompiledPolicy) -> PolicyReferences:
    """The ids of all objects that the policies refer to."""
    steps = [step for plan in plans for step in plan.steps]
    return PolicyReferences(
        users=frozenset(user for step in steps for user in step.user_ids),
        groups=frozenset(group for step in steps for group in step.group_ids),
        schedules=frozenset(schedule for step in steps for schedule in step.schedule_ids),
        support_hours=frozenset(
            step.when.hours for step in steps if step.when is not None and step.when.hours is not None
        ),
        policies=frozenset(plan.handover_policy_id for plan in plans if plan.handover_policy_id is not None),
    )


class _NumericIds(dict[str, int]):
    """Parses `#7` as 7, so that one parser handles both forms."""

    def __missing__(self, key: str) -> int:
        if key.startswith("#") and key[1:].isdecimal():
            return int(key[1:])
        raise KeyError(key)


# ---------- policy templates


_MAIL = [{"channel": "email"}]
_OFFICE = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}


@dataclass(frozen=True, slots=True)
class SpecTemplate:
    """A template: its key, name, one-sentence description, and a spec without a name."""

    key: str
    name: str
    about: str
    spec: dict[str, Any]


def policy_templates(time_zone: str) -> tuple[SpecTemplate, ...]:
    """All templates, the most common first. `time_zone` applies to day and night windows."""
    office = {**_OFFICE, "time_zone": time_zone}
    everybody = {"notify": {"everybody": True}, "after": "0m"}
    return (
        _template(
            "every-5-minutes",
            _("Primary, secondary, lead"),
            _("Pages the primary immediately, the secondary after 5 minutes and the lead after 10. Repeats once."),
            [_roles("primary"), _roles("secondary", after="5m"), _roles("lead", after="5m")],
            repeat={"times": 1, "every": "10m"},
        ),
        _template(
            "five-tries",
            _("Five retries each"),
            _("Pages each role up to six times, every 5 minutes. The next role is paged after 30 minutes."),
            [
                {**_roles(role, after=after), "retries": {"times": 5, "every": "5m"}}
                for role, after in (("primary", "0m"), ("secondary", "30m"), ("lead", "30m"))
            ],
        ),
        _template(
            "sequential",
            _("One at a time"),
            _("Pages every primary, then every secondary, one every 5 minutes, until someone responds."),
            [{**_roles("primary", "secondary"), "sequential": "5m"}],
            repeat={"times": 2, "every": "5m"},
        ),
        _template(
            "all-hands",
            _("All hands"),
            _("Pages every group member immediately, and again after 10 minutes."),
            [everybody],
            default_priority="critical",
            repeat={"times": 1, "every": "10m"},
        ),
        _template(
            "mail-only",
            _("Email only"),
            _("Emails every group member. No calls or text messages."),
            [{**everybody, "methods": _MAIL}],
            default_priority="low",
            end={"then": "nothing"},
        ),
        _template(
            "mail-the-lead",
            _("Email the lead"),
            _("Emails the groups' leads. No calls or text messages."),
            [{**_roles("lead"), "methods": _MAIL}],
            default_priority="medium",
            end={"then": "nothing"},
        ),
        _template(
            "mail-by-day",
            _("Email by day, page at night"),
            _(
                "Emails the primary on weekdays from 08:00 to 18:00. At other times, their own "
                "notification rules apply. The secondary follows after 10 minutes."
            ),
            [
                {**_roles("primary"), "name": "by day", "methods": _MAIL, "when": {"between": office}},
                {**_roles("primary"), "name": "at night", "when": {"between": {**office, "outside": True}}},
                _roles("secondary", after="10m"),
            ],
            repeat={"times": 1, "every": "15m"},
        ),
        _template(
            "until-taken",
            _("Until assigned"),
            _(
                "Acknowledging does not stop escalation. It continues until the alert is assigned, and "
                "the last step repeats."
            ),
            [
                _roles("primary"),
                _roles("secondary", after="5m"),
                _roles("primary", "secondary", "lead", after="10m"),
            ],
            acknowledge={"effect": "continue", "timeout": "30m"},
            end={"then": "keep_last_step", "every": "15m"},
        ),
    )


def _template(key: str, name: str, about: str, steps: list[dict[str, Any]], **settings: Any) -> SpecTemplate:
    return SpecTemplate(key, name, about, {**settings, "steps": steps})


def _roles(*roles: str, after: str = "0m") -> dict[str, Any]:
    return {"notify": {"roles": list(roles)}, "after": after}
