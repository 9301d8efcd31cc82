"""The definition of a policy: parses, validates and compiles it into an immutable form. Pure.

A definition refers to users, groups and other objects by name; the compiled policy and its stored JSON by id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tocsin.alerts.states import Priority
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import DURATION_TOO_SHORT, ObjectReader
from tocsin.escalation.policy import steps
from tocsin.escalation.policy.steps import NameOf, PolicyNames, PolicyStep

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
NO_SUCH_POLICY = ReasonType("policy.unknown", 'there is no escalation policy "{name}".')
_NO_STEPS = ReasonType("policy.steps_missing", "at least one step is required.")
_TOO_MANY_STEPS = ReasonType("policy.too_many_steps", "a policy has at most {limit} steps; this one has {steps}.")
_NOT_POSITIVE = ReasonType("policy.duration_not_positive", "must be greater than zero.")

#: A sentinel that no input can produce.
_NO_SPAN = timedelta(seconds=-1)


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

    users: frozenset[int]
    groups: frozenset[int]
    schedules: frozenset[int]
    support_hours: frozenset[int]
    policies: frozenset[int]


#: Without a policy, only the recipient users are paged, immediately.
RECIPIENTS_ONLY = CompiledPolicy(steps=(PolicyStep(after=timedelta()),))


def parse(definition: object, names: PolicyNames) -> CompiledPolicy:
    """Compiles a definition. Raises Rejected or RejectedAll, each problem with its field."""
    spec = ObjectReader(definition)
    plan = read(spec, names)
    spec.finish()
    return plan


def read(spec: ObjectReader, names: PolicyNames) -> CompiledPolicy:
    """Parses `steps` and optionally `default_priority`, `acknowledge`, `repeat`, `groups_sequential`, `end_after`,
    `end` and `sla`.

    Problems are recorded in `spec`; while there are any, the result must not be used.
    """
    acknowledge, repeat = spec.nested("acknowledge"), spec.nested("repeat")
    effect, pause, timeout, required_acks = _acknowledge(acknowledge)
    times, every = _repeat(repeat)
    on_exhausted, last_step_interval, handover_policy_id = _end(spec.nested("end"), names)
    respond_by, fix_by = _sla(spec.nested("sla"))
    return CompiledPolicy(
        steps=_steps(spec, names),
        default_priority=spec.one_of("default_priority", Priority, Priority.HIGH),
        effect=effect,
        pause=pause,
        acknowledge_timeout=timeout,
        repeat_times=times,
        repeat_every=every,
        final_action_after=_span(spec, "end_after", DEFAULT_END_AFTER),
        required_acks=required_acks,
        groups_sequential_interval=_span(spec, "groups_sequential", timedelta())
        if spec.has("groups_sequential")
        else None,
        on_exhausted=on_exhausted,
        last_step_interval=last_step_interval,
        handover_policy_id=handover_policy_id,
        respond_by=respond_by,
        fix_by=fix_by,
    )


def write(plan: CompiledPolicy, name_of: NameOf) -> dict[str, Any]:
    """Formats a policy as the definition that `parse` reads, with names from `name_of`."""
    acknowledge: dict[str, Any] = {"effect": str(plan.effect), "timeout": durations.write(plan.acknowledge_timeout)}
    if plan.effect is AcknowledgeEffect.PAUSE:
        acknowledge["pause"] = durations.write(plan.pause)
    if plan.required_acks != 1:
        acknowledge["people"] = plan.required_acks
    written: dict[str, Any] = {"default_priority": str(plan.default_priority), "acknowledge": acknowledge}
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


def _acknowledge(spec: ObjectReader | None) -> tuple[AcknowledgeEffect, timedelta, timedelta, int]:
    if spec is None:
        return AcknowledgeEffect.STOP, timedelta(), DEFAULT_ACKNOWLEDGE_TIMEOUT, 1
    effect = spec.one_of("effect", AcknowledgeEffect, AcknowledgeEffect.STOP)
    pause = _span(spec, "pause", timedelta())
    if effect is AcknowledgeEffect.PAUSE and not spec.has("pause"):
        spec.add_error("pause", _PAUSE_NEEDED(), "missing")
    if effect is not AcknowledgeEffect.PAUSE and spec.has("pause"):
        spec.add_error("pause", _PAUSE_ONLY())
    timeout = _span(spec, "timeout", DEFAULT_ACKNOWLEDGE_TIMEOUT)
    required_acks = spec.integer("people", 1, minimum=1, maximum=MAX_REQUIRED_ACKS)
    spec.reject_unknown_keys()
    return effect, pause, timeout, required_acks


def _end(spec: ObjectReader | None, names: PolicyNames) -> tuple[OnExhausted, timedelta, int | None]:
    if spec is None:
        return OnExhausted.NOTIFY_MANAGERS, timedelta(), None
    final_action = spec.one_of("then", OnExhausted, OnExhausted.NOTIFY_MANAGERS)
    every, policy = timedelta(), None
    if final_action is OnExhausted.REPEAT_LAST_STEP:
        every = _span(spec, "every", timedelta())
        if not spec.has("every"):
            spec.add_error("every", _LAST_STEP_INTERVAL_NEEDED(), "missing")
        elif every and every < MIN_LAST_STEP_INTERVAL:
            spec.add_error("every", DURATION_TOO_SHORT(minimum=MIN_LAST_STEP_INTERVAL))
    if final_action is OnExhausted.HAND_OVER:
        name = spec.text("policy", required=True)
        try:
            policy = names.policies[name.lower()] if name else None
        except KeyError:
            spec.add_error("policy", NO_SUCH_POLICY(name=name), "not_found")
    spec.reject_unknown_keys()
    return final_action, every, policy


def _sla(spec: ObjectReader | None) -> tuple[timedelta | None, timedelta | None]:
    if spec is None:
        return None, None
    targets = [_span(spec, key, timedelta()) if spec.has(key) else None for key in ("respond_by", "fix_by")]
    spec.reject_unknown_keys()
    return targets[0], targets[1]


def _repeat(spec: ObjectReader | None) -> tuple[int, timedelta]:
    if spec is None:
        return 0, timedelta()
    times = spec.integer("times", 0, maximum=MAX_POLICY_REPEATS)
    every = _span(spec, "every", timedelta())
    if times and not spec.has("every"):
        spec.add_error("every", _REPEAT_INTERVAL_NEEDED(), "missing")
    spec.reject_unknown_keys()
    return times, every if times else timedelta()


def _steps(spec: ObjectReader, names: PolicyNames) -> tuple[PolicyStep, ...]:
    entries = spec.nested_list("steps")
    if not entries and isinstance(spec.raw("steps", []), list):
        spec.add_error("steps", _NO_STEPS(), "missing")
    if len(entries) > MAX_STEPS:
        spec.add_error("steps", _TOO_MANY_STEPS(limit=MAX_STEPS, steps=len(entries)))
    return tuple(steps.read(entry, number, names) for number, entry in enumerate(entries))


def _span(spec: ObjectReader, key: str, default: timedelta) -> timedelta:
    """A positive duration; `default` when it is absent or invalid."""
    span = spec.duration(key, _NO_SPAN)
    if not span:
        spec.add_error(key, _NOT_POSITIVE())
    return default if span == _NO_SPAN else span
