"""The definition of a policy: parses, validates and compiles it into an immutable form. Pure.

A definition refers to users, groups and other objects by name; the compiled policy and its stored JSON by id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tocsin.alerts.states import Priority
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.field_errors import DURATION_TOO_SHORT, REQUIRED
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors
from tocsin.core.validation.spec_types import Duration, ListOf, OneOf, OwnedSpec
from tocsin.escalation.policy import steps
from tocsin.escalation.policy.steps import NameOf, PolicyNames, PolicyStep, StepSpec

MAX_STEPS = 50
MAX_POLICY_REPEATS = 100
MAX_REQUIRED_ACKS = 20
#: The shortest interval at which a kept last step may fire.
MIN_LAST_STEP_INTERVAL = timedelta(minutes=1)
DEFAULT_ACKNOWLEDGE_TIMEOUT = timedelta(minutes=30)
DEFAULT_END_AFTER = timedelta(minutes=5)

_PAUSE_NEEDED = ReasonType("policy.pause_missing", "is required: how long an acknowledgement pauses escalation.")
_PAUSE_ONLY = ReasonType("policy.pause_unexpected", "applies to `effect: pause` only.")
_LAST_STEP_INTERVAL_NEEDED = ReasonType(
    "policy.last_step_interval_missing", "is required: the interval at which the last step repeats."
)
_REPEAT_INTERVAL_NEEDED = ReasonType("policy.repeat_interval_missing", "is required: the interval between rounds.")
POLICY_UNREADABLE = ReasonType("policy.unreadable", "Policy {policy} cannot be read. Save it again.")
NO_SUCH_POLICY = ReasonType("policy.unknown", 'unknown escalation policy "{name}".')
_NO_STEPS = ReasonType("policy.steps_missing", "at least one step is required.")
_TOO_MANY_STEPS = ReasonType("policy.too_many_steps", "a policy has at most {limit} steps; this one has {steps}.")
_NOT_POSITIVE = ReasonType("policy.duration_not_positive", "must be greater than zero.")
_AFTER_NEEDED = ReasonType("policy.after_missing", "is required: the delay after the previous step.")
_NOT_FOR_ACTION = ReasonType("policy.not_for_final_action", "does not apply to `then: {action}`.")


class AcknowledgeEffect(StrEnum):
    """The effect of an acknowledgement on escalation."""

    STOP = "stop"
    PAUSE = "pause"
    CONTINUE = "continue"


class OnExhausted(StrEnum):
    """The final action when the escalation is exhausted."""

    NOTIFY_MANAGERS = "tell_managers"
    NOTHING = "nothing"
    REPEAT_LAST_STEP = "keep_last_step"
    HAND_OVER = "hand_over"


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
    #: The number of acknowledgements required for the effect.
    required_acks: int = 1
    #: The interval at which recipient groups are paged one after another; None: all at the same time.
    groups_sequential_interval: timedelta | None = None
    on_exhausted: OnExhausted = OnExhausted.NOTIFY_MANAGERS
    #: The interval at which the kept last step fires again.
    last_step_interval: timedelta = timedelta()
    #: Id of the policy that takes over.
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
        raise InvalidValue(_NOT_POSITIVE())
    return duration


PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


class AcknowledgeSpec(Spec):
    """The effect of an acknowledgement."""

    effect: Annotated[AcknowledgeEffect, OneOf()] = Field(
        default=AcknowledgeEffect.STOP, description="Whether escalation stops, pauses or continues."
    )
    pause: PositiveDuration | None = Field(default=None, description="Length of the pause, for `effect: pause`.")
    timeout: PositiveDuration = Field(
        default=DEFAULT_ACKNOWLEDGE_TIMEOUT, description="Time after which the user is asked to acknowledge again."
    )
    people: int = Field(
        default=1, ge=1, le=MAX_REQUIRED_ACKS, description="Number of users whose acknowledgement is required."
    )

    def check(self, errors: SpecErrors) -> None:
        if self.effect is AcknowledgeEffect.PAUSE and self.pause is None:
            errors.add("pause", _PAUSE_NEEDED(), "missing")
        if self.effect is not AcknowledgeEffect.PAUSE and self.pause is not None:
            errors.add("pause", _PAUSE_ONLY())


class RoundsSpec(Spec):
    """How often, and how far apart, all steps are repeated."""

    times: int = Field(default=0, ge=0, le=MAX_POLICY_REPEATS, description="How often all steps are repeated.")
    every: PositiveDuration | None = Field(
        default=None, description="Interval between passes, from the start of the last step. Required if there are any."
    )

    def check(self, errors: SpecErrors) -> None:
        if self.times and self.every is None:
            errors.add("every", _REPEAT_INTERVAL_NEEDED(), "missing")


class EndSpec(Spec):
    """The final action. Its context has the ids of `policies` by name."""

    then: Annotated[OnExhausted, OneOf()] = Field(
        default=OnExhausted.NOTIFY_MANAGERS, description="Final action when escalation is exhausted."
    )
    every: PositiveDuration | None = Field(
        default=None, description="Interval at which the last step repeats. Required for `keep_last_step`, only there."
    )
    policy: str = Field(
        default="", max_length=200, description="Policy that takes over. Required for `hand_over`, only there."
    )

    def check(self, errors: SpecErrors) -> None:
        keeps_last_step, hands_over = self.then is OnExhausted.REPEAT_LAST_STEP, self.then is OnExhausted.HAND_OVER
        for key, is_used in (("every", keeps_last_step), ("policy", hands_over)):
            if getattr(self, key) and not is_used and not errors.has("then"):
                errors.add(key, _NOT_FOR_ACTION(action=str(self.then)))
        if keeps_last_step and self.every is None:
            errors.add("every", _LAST_STEP_INTERVAL_NEEDED(), "missing")
        elif keeps_last_step and self.every is not None and self.every < MIN_LAST_STEP_INTERVAL:
            errors.add("every", DURATION_TOO_SHORT(minimum=MIN_LAST_STEP_INTERVAL))
        if hands_over and not self.policy:
            errors.add("policy", REQUIRED(), "missing")
        elif hands_over and self.policy_id(errors.context) is None:
            errors.add("policy", NO_SUCH_POLICY(name=self.policy), "not_found")

    def policy_id(self, context: Mapping[str, Any]) -> int | None:
        """The id of the policy that takes over, or None."""
        try:
            return int(context["policies"][self.policy.lower()]) if self.policy else None
        except KeyError:
            return None


class TargetTimesSpec(Spec):
    """SLA targets, counted from the alert's creation, for tickets that have none."""

    respond_by: PositiveDuration | None = Field(default=None, description="Time until the first response.")
    fix_by: PositiveDuration | None = Field(default=None, description="Time until the resolution.")


class PolicyDefinition(Spec):
    """What a policy does. Its context is `PolicyNames.context`."""

    acknowledge: AcknowledgeSpec = Field(default=AcknowledgeSpec(), description="Effect of an acknowledgement.")
    repeat: RoundsSpec = Field(default=RoundsSpec(), description="Repetition of all steps.")
    end: EndSpec = Field(default=EndSpec(), description="Final action when escalation is exhausted.")
    sla: TargetTimesSpec = Field(default=TargetTimesSpec(), description="SLA targets, for tickets that have none.")
    steps: ListOf[StepSpec] = Field(
        default=(), json_schema_extra={"minItems": 1, "maxItems": MAX_STEPS}, description="Steps, in their order."
    )
    default_priority: Annotated[Priority, OneOf()] = Field(
        default=Priority.HIGH, description="Priority of alerts whose source gives none."
    )
    end_after: PositiveDuration = Field(
        default=DEFAULT_END_AFTER, description="Delay of the final action after the start of the last step."
    )
    groups_sequential: PositiveDuration | None = Field(
        default=None,
        description="Interval at which one recipient group after another is paged. Default: none.",
    )

    page_assignee: bool = Field(
        default=True,
        description="Whether a user to whom someone else assigns the alert is paged and must accept within the "
        "acknowledgement timeout; otherwise escalation restarts.",
    )

    def check(self, errors: SpecErrors) -> None:
        if not self.steps:
            errors.add("steps", _NO_STEPS(), "missing")
        if len(self.steps) > MAX_STEPS:
            errors.add("steps", _TOO_MANY_STEPS(limit=MAX_STEPS, steps=len(self.steps)))
        for index, step in enumerate(self.steps):
            if index > 0 and "after" not in step.given_keys:
                errors.add(f"steps[{index}].after", _AFTER_NEEDED(), "missing")

    def compiled(self, names: PolicyNames) -> CompiledPolicy:
        """The policy with ids."""
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
            handover_policy_id=self.end.policy_id(names.context),
            respond_by=self.sla.respond_by,
            fix_by=self.sla.fix_by,
        )


class PolicySpec(PolicyDefinition, OwnedSpec):
    """An escalation policy."""

    allows_unreachable: bool = Field(
        default=False, alias="anyway", description="Whether it is saved although it could reach no one."
    )


def parse(definition: object, names: PolicyNames) -> CompiledPolicy:
    """Compiles a definition. Raises Rejected or RejectedAll, each problem with its field."""
    return PolicyDefinition.read(definition, **names.context).compiled(names)


def write(plan: CompiledPolicy, name_of: NameOf) -> dict[str, Any]:
    """Formats a policy as the definition that `parse` reads, with names from `name_of`."""
    acknowledge: dict[str, Any] = {"effect": str(plan.effect), "timeout": durations.write(plan.acknowledge_timeout)}
    if plan.effect is AcknowledgeEffect.PAUSE:
        acknowledge["pause"] = durations.write(plan.pause)
    if plan.required_acks != 1:
        acknowledge["people"] = plan.required_acks
    written: dict[str, Any] = {"default_priority": str(plan.default_priority), "acknowledge": acknowledge}
    if not plan.pages_assignee:
        written["page_assignee"] = False
    if plan.repeat_times:
        written["repeat"] = {"times": plan.repeat_times, "every": durations.write(plan.repeat_every)}
    if plan.groups_sequential_interval is not None:
        written["groups_sequential"] = durations.write(plan.groups_sequential_interval)
    if plan.final_action_after != DEFAULT_END_AFTER:
        written["end_after"] = durations.write(plan.final_action_after)
    if plan.on_exhausted is not OnExhausted.NOTIFY_MANAGERS:
        written["end"] = _written_end(plan, name_of)
    sla_targets = {"respond_by": plan.respond_by, "fix_by": plan.fix_by}
    if sla := {key: durations.write(span) for key, span in sla_targets.items() if span is not None}:
        written["sla"] = sla
    written["steps"] = [steps.write(step, name_of) for step in plan.steps]
    return written


def _written_end(plan: CompiledPolicy, name_of: NameOf) -> dict[str, Any]:
    written = {"then": str(plan.on_exhausted)}
    if plan.on_exhausted is OnExhausted.REPEAT_LAST_STEP:
        written["every"] = durations.write(plan.last_step_interval)
    if plan.on_exhausted is OnExhausted.HAND_OVER and plan.handover_policy_id is not None:
        written["policy"] = name_of("policies", plan.handover_policy_id)
    return written


def store(plan: CompiledPolicy) -> dict[str, Any]:
    """The policy as JSON for storage, with every reference as an id (`#7`)."""
    return write(plan, lambda _key, number: f"#{number}")


def load(stored: object) -> CompiledPolicy:
    """Parses the output of `store`, from this or an earlier release. Raises Rejected for anything else."""
    return parse(stored, PolicyNames(_NumericIds(), _NumericIds(), _NumericIds(), _NumericIds(), _NumericIds()))


def references(plan: CompiledPolicy) -> PolicyReferences:
    """The ids of all objects that a policy refers to."""
    return PolicyReferences(
        users=frozenset(user for step in plan.steps for user in step.user_ids),
        groups=frozenset(group for step in plan.steps for group in step.group_ids),
        schedules=frozenset(schedule for step in plan.steps for schedule in step.schedule_ids),
        support_hours=frozenset(
            step.when.hours for step in plan.steps if step.when is not None and step.when.hours is not None
        ),
        policies=frozenset(() if plan.handover_policy_id is None else (plan.handover_policy_id,)),
    )


class _NumericIds(dict[str, int]):
    """Parses `#7` as 7, so that one parser handles both forms."""

    def __missing__(self, key: str) -> int:
        if key.startswith("#") and key[1:].isdecimal():
            return int(key[1:])
        raise KeyError(key)
