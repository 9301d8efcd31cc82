"""A policy's definition: read from what people write, checked, and kept as a plan that never changes. Pure.

What people write names users and groups; the plan, and the JSON it is stored as, hold their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tocsin.alerts.states import Priority
from tocsin.core import durations
from tocsin.core.specs import Spec
from tocsin.people.members import MemberRole

MOST_STEPS = 50
MOST_REPEATS = 100
DEFAULT_ACKNOWLEDGE_TIMEOUT = timedelta(minutes=30)
DEFAULT_END_AFTER = timedelta(minutes=5)

#: Nothing that people can write is read as this.
_NO_SPAN = timedelta(seconds=-1)


class AcknowledgeEffect(StrEnum):
    """What escalation does when someone acknowledges."""

    STOP = "stop"
    PAUSE = "pause"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Step:
    """Whom one step notifies. `after` counts from the moment the step before it began (the first: from the opening)."""

    after: timedelta
    #: Looked up in `group_ids`, or where that is empty in the recipient groups.
    roles: tuple[MemberRole, ...] = ()
    user_ids: tuple[int, ...] = ()
    group_ids: tuple[int, ...] = ()
    #: Labels of group contacts of those same groups.
    group_contacts: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """A whole policy, compiled."""

    steps: tuple[Step, ...]
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


@dataclass(frozen=True, slots=True)
class Names:
    """The ids of users and groups by name in lower case."""

    users: Mapping[str, int]
    groups: Mapping[str, int]


#: Without a policy the recipient users alone are paged, at once.
RECIPIENTS_ONLY = PolicyPlan(steps=(Step(after=timedelta()),))


def parse(definition: object, names: Names) -> PolicyPlan:
    """The plan of a definition as people write it. Raises Rejected, or RejectedAll, each problem with its place."""
    spec = Spec(definition)
    plan = read(spec, names)
    spec.finish()
    return plan


def read(spec: Spec, names: Names) -> PolicyPlan:
    """The plan of `steps`, and optionally `default_priority`, `acknowledge`, `repeat`, `end_after`.

    Problems are noted in `spec`; the plan is good for nothing while there are any.
    """
    acknowledge, repeat = spec.spec("acknowledge"), spec.spec("repeat")
    effect, pause, timeout = _acknowledge(acknowledge)
    times, every = _repeat(repeat)
    return PolicyPlan(
        steps=_steps(spec, names),
        default_priority=spec.one_of("default_priority", Priority, Priority.HIGH),
        effect=effect,
        pause=pause,
        acknowledge_timeout=timeout,
        repeat_times=times,
        repeat_every=every,
        end_after=_span(spec, "end_after", DEFAULT_END_AFTER),
    )


def write(plan: PolicyPlan, user_name: Callable[[int], str], group_name: Callable[[int], str]) -> dict[str, Any]:
    """The definition that `parse` reads as `plan`, with names from the two functions; defaults are written out."""
    acknowledge: dict[str, Any] = {"effect": str(plan.effect), "timeout": durations.write(plan.acknowledge_timeout)}
    if plan.effect is AcknowledgeEffect.PAUSE:
        acknowledge["pause"] = durations.write(plan.pause)
    written: dict[str, Any] = {"default_priority": str(plan.default_priority), "acknowledge": acknowledge}
    if plan.repeat_times:
        written["repeat"] = {"times": plan.repeat_times, "every": durations.write(plan.repeat_every)}
    if plan.end_after != DEFAULT_END_AFTER:
        written["end_after"] = durations.write(plan.end_after)
    written["steps"] = [_written_step(step, user_name, group_name) for step in plan.steps]
    return written


def store(plan: PolicyPlan) -> dict[str, Any]:
    """The plan as JSON, users and groups by id: what a policy's version keeps."""
    return write(plan, _as_stored, _as_stored)


def load(stored: object) -> PolicyPlan:
    """The plan of what `store` made. Raises Rejected for anything else."""
    return parse(stored, Names(_Ids(), _Ids()))


def references(plan: PolicyPlan) -> tuple[frozenset[int], frozenset[int]]:
    """The ids of the users and of the groups that a plan names."""
    users = frozenset(user for step in plan.steps for user in step.user_ids)
    return users, frozenset(group for step in plan.steps for group in step.group_ids)


class _Ids(dict[str, int]):
    """Reads `#7` as 7, so that one parser serves both forms."""

    def __missing__(self, key: str) -> int:
        if key.startswith("#") and key[1:].isdigit():
            return int(key[1:])
        raise KeyError(key)


def _as_stored(number: int) -> str:
    return f"#{number}"


def _acknowledge(spec: Spec | None) -> tuple[AcknowledgeEffect, timedelta, timedelta]:
    if spec is None:
        return AcknowledgeEffect.STOP, timedelta(), DEFAULT_ACKNOWLEDGE_TIMEOUT
    effect = spec.one_of("effect", AcknowledgeEffect, AcknowledgeEffect.STOP)
    pause = _span(spec, "pause", timedelta())
    if effect is AcknowledgeEffect.PAUSE and not spec.has("pause"):
        spec.refuse("pause", "say how long acknowledging pauses escalation.", "missing")
    if effect is not AcknowledgeEffect.PAUSE and spec.has("pause"):
        spec.refuse("pause", "only `effect: pause` has a length.")
    timeout = _span(spec, "timeout", DEFAULT_ACKNOWLEDGE_TIMEOUT)
    spec.done()
    return effect, pause, timeout


def _repeat(spec: Spec | None) -> tuple[int, timedelta]:
    if spec is None:
        return 0, timedelta()
    times = spec.whole("times", 0, most=MOST_REPEATS)
    every = _span(spec, "every", timedelta())
    if times and not spec.has("every"):
        spec.refuse("every", "say how far apart the passes are.", "missing")
    spec.done()
    return times, every if times else timedelta()


def _steps(spec: Spec, names: Names) -> tuple[Step, ...]:
    entries = spec.specs("steps")
    if not entries and isinstance(spec.raw("steps", []), list):
        spec.refuse("steps", "a policy needs at least one step.", "missing")
    if len(entries) > MOST_STEPS:
        spec.refuse("steps", f"a policy has at most {MOST_STEPS} steps; this one has {len(entries)}.")
    return tuple(_step(entry, number, names) for number, entry in enumerate(entries))


def _step(spec: Spec, number: int, names: Names) -> Step:
    if number > 0 and not spec.has("after"):
        spec.refuse("after", "say how long after the step before it this one fires.", "missing")
    after, name = spec.span("after", timedelta()), spec.text("name", longest=100)
    notify = spec.spec("notify")
    spec.done()
    if notify is None:
        spec.refuse("notify", "say whom this step notifies.", "missing")
        return Step(after=after, name=name)
    step = Step(
        after=after,
        roles=_roles(notify),
        user_ids=_ids(notify, "users", names.users, "user"),
        group_ids=_ids(notify, "groups", names.groups, "group"),
        group_contacts=notify.texts("group_contacts"),
        name=name,
    )
    notify.done()
    if not any(notify.has(key) and notify.raw(key) for key in ("roles", "users", "group_contacts")):
        says = "say which of the groups' roles" if step.group_ids else "name roles, users or group contacts"
        spec.refuse("notify", f"this step notifies nobody; {says}.")
    return step


def _roles(notify: Spec) -> tuple[MemberRole, ...]:
    found = []
    for number, written in enumerate(notify.texts("roles")):
        try:
            found.append(MemberRole(written))
        except ValueError:
            notify.refuse(f"roles[{number}]", f'"{written}" is not one of {", ".join(MemberRole)}.')
    return tuple(found)


def _ids(notify: Spec, key: str, known: Mapping[str, int], what: str) -> tuple[int, ...]:
    found = []
    for number, name in enumerate(notify.texts(key)):
        try:
            found.append(known[name.lower()])
        except KeyError:
            notify.refuse(f"{key}[{number}]", f'there is no {what} "{name}".', "not_found")
    return tuple(dict.fromkeys(found))


def _span(spec: Spec, key: str, default: timedelta) -> timedelta:
    """A span that is not zero; `default` when it is not given, or no span at all."""
    span = spec.span(key, _NO_SPAN)
    if not span:
        spec.refuse(key, "must be longer than nothing.")
    return default if span == _NO_SPAN else span


def _written_step(step: Step, user_name: Callable[[int], str], group_name: Callable[[int], str]) -> dict[str, Any]:
    notify: dict[str, Any] = {}
    if step.roles:
        notify["roles"] = [str(role) for role in step.roles]
    if step.user_ids:
        notify["users"] = [user_name(user) for user in step.user_ids]
    if step.group_ids:
        notify["groups"] = [group_name(group) for group in step.group_ids]
    if step.group_contacts:
        notify["group_contacts"] = list(step.group_contacts)
    written: dict[str, Any] = {"notify": notify, "after": durations.write(step.after)}
    if step.name:
        written["name"] = step.name
    return written
