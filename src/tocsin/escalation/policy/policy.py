"""A policy's definition: read from what people write, checked, and kept as a plan that never changes. Pure.

What people write names users, groups and more; the plan, and the JSON it is stored as, hold their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tocsin.alerts.states import Priority
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.escalation.policy import steps
from tocsin.escalation.policy.steps import NameOf, PolicyNames, PolicyStep

MAX_STEPS = 50
MAX_POLICY_REPEATS = 100
MAX_REQUIRED_ACKS = 20
#: A last step that is kept fires this far apart at least.
MIN_KEPT_STEP_INTERVAL = timedelta(minutes=1)
DEFAULT_ACKNOWLEDGE_TIMEOUT = timedelta(minutes=30)
DEFAULT_END_AFTER = timedelta(minutes=5)

#: Nothing that people can write is read as this.
_NO_SPAN = timedelta(seconds=-1)


class AcknowledgeEffect(StrEnum):
    """What escalation does when someone acknowledges."""

    STOP = "stop"
    PAUSE = "pause"
    CONTINUE = "continue"


class OnExhausted(StrEnum):
    """What happens when nobody answered."""

    TELL_MANAGERS = "tell_managers"
    NOTHING = "nothing"
    KEEP_LAST_STEP = "keep_last_step"
    HAND_OVER = "hand_over"


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A whole policy, compiled."""

    steps: tuple[PolicyStep, ...]
    default_priority: Priority = Priority.HIGH
    effect: AcknowledgeEffect = AcknowledgeEffect.STOP
    #: How long `pause` pauses; zero with the other effects.
    pause: timedelta = timedelta()
    acknowledge_timeout: timedelta = DEFAULT_ACKNOWLEDGE_TIMEOUT
    #: Further passes, and their distance from the beginning of the last step of the pass before.
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()
    #: When the end comes, after the last step of the last pass began.
    end_after: timedelta = DEFAULT_END_AFTER
    #: So many people must have acknowledged before that has its effect.
    people: int = 1
    #: The recipient groups one after the other, so far apart; None: all together.
    groups_sequential: timedelta | None = None
    at_end: OnExhausted = OnExhausted.TELL_MANAGERS
    #: How far apart the last step fires that is kept.
    keep_every: timedelta = timedelta()
    #: The policy that goes on, by id.
    hand_over_to: int | None = None
    #: The clocks of its own SLA, from the opening, where the ticket brings none; for workflows.
    respond_by: timedelta | None = None
    fix_by: timedelta | None = None


@dataclass(frozen=True, slots=True)
class PolicyReferences:
    """The ids of everything that a plan names."""

    users: frozenset[int]
    groups: frozenset[int]
    schedules: frozenset[int]
    support_hours: frozenset[int]
    policies: frozenset[int]


#: Without a policy the recipient users alone are paged, at once.
RECIPIENTS_ONLY = CompiledPolicy(steps=(PolicyStep(after=timedelta()),))


def parse(definition: object, names: PolicyNames) -> CompiledPolicy:
    """The plan of a definition as people write it. Raises Rejected, or RejectedAll, each problem with its place."""
    spec = ObjectReader(definition)
    plan = read(spec, names)
    spec.finish()
    return plan


def read(spec: ObjectReader, names: PolicyNames) -> CompiledPolicy:
    """The plan of `steps`, and optionally `default_priority`, `acknowledge`, `repeat`, `groups_sequential`,
    `end_after`, `end` and `sla`.

    Problems are noted in `spec`; the plan is good for nothing while there are any.
    """
    acknowledge, repeat = spec.spec("acknowledge"), spec.spec("repeat")
    effect, pause, timeout, people = _acknowledge(acknowledge)
    times, every = _repeat(repeat)
    at_end, keep_every, hand_over_to = _end(spec.spec("end"), names)
    respond_by, fix_by = _sla(spec.spec("sla"))
    return CompiledPolicy(
        steps=_steps(spec, names),
        default_priority=spec.one_of("default_priority", Priority, Priority.HIGH),
        effect=effect,
        pause=pause,
        acknowledge_timeout=timeout,
        repeat_times=times,
        repeat_every=every,
        end_after=_span(spec, "end_after", DEFAULT_END_AFTER),
        people=people,
        groups_sequential=_span(spec, "groups_sequential", timedelta()) if spec.has("groups_sequential") else None,
        at_end=at_end,
        keep_every=keep_every,
        hand_over_to=hand_over_to,
        respond_by=respond_by,
        fix_by=fix_by,
    )


def write(plan: CompiledPolicy, name_of: NameOf) -> dict[str, Any]:
    """The definition that `parse` reads as `plan`, with the names that `name_of` gives."""
    acknowledge: dict[str, Any] = {"effect": str(plan.effect), "timeout": durations.write(plan.acknowledge_timeout)}
    if plan.effect is AcknowledgeEffect.PAUSE:
        acknowledge["pause"] = durations.write(plan.pause)
    if plan.people != 1:
        acknowledge["people"] = plan.people
    written: dict[str, Any] = {"default_priority": str(plan.default_priority), "acknowledge": acknowledge}
    if plan.repeat_times:
        written["repeat"] = {"times": plan.repeat_times, "every": durations.write(plan.repeat_every)}
    if plan.groups_sequential is not None:
        written["groups_sequential"] = durations.write(plan.groups_sequential)
    if plan.end_after != DEFAULT_END_AFTER:
        written["end_after"] = durations.write(plan.end_after)
    if plan.at_end is not OnExhausted.TELL_MANAGERS:
        written["end"] = _written_end(plan, name_of)
    clocks = {"respond_by": plan.respond_by, "fix_by": plan.fix_by}
    if sla := {key: durations.write(span) for key, span in clocks.items() if span is not None}:
        written["sla"] = sla
    written["steps"] = [steps.write(step, name_of) for step in plan.steps]
    return written


def _written_end(plan: CompiledPolicy, name_of: NameOf) -> dict[str, Any]:
    written = {"then": str(plan.at_end)}
    if plan.at_end is OnExhausted.KEEP_LAST_STEP:
        written["every"] = durations.write(plan.keep_every)
    if plan.at_end is OnExhausted.HAND_OVER and plan.hand_over_to is not None:
        written["policy"] = name_of("policies", plan.hand_over_to)
    return written


def store(plan: CompiledPolicy) -> dict[str, Any]:
    """The plan as JSON, everything named by id: what a policy's version keeps."""
    return write(plan, lambda _key, number: f"#{number}")


def load(stored: object) -> CompiledPolicy:
    """The plan of what `store` made, in this version or an earlier one. Raises Rejected for anything else."""
    return parse(stored, PolicyNames(_NumericIds(), _NumericIds(), _NumericIds(), _NumericIds(), _NumericIds()))


def references(plan: CompiledPolicy) -> PolicyReferences:
    """The ids of everything that a plan names."""
    return PolicyReferences(
        users=frozenset(user for step in plan.steps for user in step.user_ids),
        groups=frozenset(group for step in plan.steps for group in step.group_ids),
        schedules=frozenset(schedule for step in plan.steps for schedule in step.schedule_ids),
        support_hours=frozenset(
            step.when.hours for step in plan.steps if step.when is not None and step.when.hours is not None
        ),
        policies=frozenset(() if plan.hand_over_to is None else (plan.hand_over_to,)),
    )


class _NumericIds(dict[str, int]):
    """Reads `#7` as 7, so that one parser serves both forms."""

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
        spec.refuse("pause", "say how long acknowledging pauses escalation.", "missing")
    if effect is not AcknowledgeEffect.PAUSE and spec.has("pause"):
        spec.refuse("pause", "only `effect: pause` has a length.")
    timeout = _span(spec, "timeout", DEFAULT_ACKNOWLEDGE_TIMEOUT)
    people = spec.whole("people", 1, least=1, most=MAX_REQUIRED_ACKS)
    spec.done()
    return effect, pause, timeout, people


def _end(spec: ObjectReader | None, names: PolicyNames) -> tuple[OnExhausted, timedelta, int | None]:
    if spec is None:
        return OnExhausted.TELL_MANAGERS, timedelta(), None
    then = spec.one_of("then", OnExhausted, OnExhausted.TELL_MANAGERS)
    every, policy = timedelta(), None
    if then is OnExhausted.KEEP_LAST_STEP:
        every = _span(spec, "every", timedelta())
        if not spec.has("every"):
            spec.refuse("every", "say how far apart the last step fires again.", "missing")
        elif every and every < MIN_KEPT_STEP_INTERVAL:
            spec.refuse("every", f"must be at least {durations.say(MIN_KEPT_STEP_INTERVAL)}.")
    if then is OnExhausted.HAND_OVER:
        name = spec.text("policy", required=True)
        try:
            policy = names.policies[name.lower()] if name else None
        except KeyError:
            spec.refuse("policy", f'there is no escalation policy "{name}".', "not_found")
    spec.done()
    return then, every, policy


def _sla(spec: ObjectReader | None) -> tuple[timedelta | None, timedelta | None]:
    if spec is None:
        return None, None
    found = [_span(spec, key, timedelta()) if spec.has(key) else None for key in ("respond_by", "fix_by")]
    spec.done()
    return found[0], found[1]


def _repeat(spec: ObjectReader | None) -> tuple[int, timedelta]:
    if spec is None:
        return 0, timedelta()
    times = spec.whole("times", 0, most=MAX_POLICY_REPEATS)
    every = _span(spec, "every", timedelta())
    if times and not spec.has("every"):
        spec.refuse("every", "say how far apart the passes are.", "missing")
    spec.done()
    return times, every if times else timedelta()


def _steps(spec: ObjectReader, names: PolicyNames) -> tuple[PolicyStep, ...]:
    entries = spec.specs("steps")
    if not entries and isinstance(spec.raw("steps", []), list):
        spec.refuse("steps", "a policy needs at least one step.", "missing")
    if len(entries) > MAX_STEPS:
        spec.refuse("steps", f"a policy has at most {MAX_STEPS} steps; this one has {len(entries)}.")
    return tuple(steps.read(entry, number, names) for number, entry in enumerate(entries))


def _span(spec: ObjectReader, key: str, default: timedelta) -> timedelta:
    """A span that is not zero; `default` when it is not given, or no span at all."""
    span = spec.span(key, _NO_SPAN)
    if not span:
        spec.refuse(key, "must be longer than nothing.")
    return default if span == _NO_SPAN else span
