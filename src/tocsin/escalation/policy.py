"""A policy's definition: read from what people write, checked, and kept as a plan that never changes. Pure.

What people write names users and groups; the plan, and the JSON it is stored as, hold their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, NoReturn

from tocsin.alerts.states import Priority
from tocsin.core import durations
from tocsin.core.errors import Rejected
from tocsin.people.members import MemberRole

MOST_STEPS = 50
MOST_REPEATS = 100
DEFAULT_ACKNOWLEDGE_TIMEOUT = timedelta(minutes=30)
DEFAULT_END_AFTER = timedelta(minutes=5)


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
    """The plan of a definition as people write it: `steps`, and optionally `default_priority`, `acknowledge`,
    `repeat`, `end_after`. Raises Rejected ("invalid_policy" or "invalid_duration") that names the place, such as
    `steps[1].after`.
    """
    whole = _mapping(definition, "", {"default_priority", "acknowledge", "repeat", "end_after", "steps"}, "A policy")
    acknowledge = _mapping(
        whole.get("acknowledge", {}), "acknowledge", {"effect", "pause", "timeout"}, "What acknowledging does"
    )
    repeat = _mapping(whole.get("repeat", {}), "repeat", {"times", "every"}, "The repeat")
    effect = _one_of(acknowledge.get("effect", "stop"), AcknowledgeEffect, "acknowledge.effect")
    times, every = _repeat(repeat)
    return PolicyPlan(
        steps=_steps(whole.get("steps"), names.users, names.groups),
        default_priority=_one_of(whole.get("default_priority", "high"), Priority, "default_priority"),
        effect=effect,
        pause=_pause(acknowledge, effect),
        acknowledge_timeout=_span(acknowledge, "timeout", "acknowledge.timeout", DEFAULT_ACKNOWLEDGE_TIMEOUT),
        repeat_times=times,
        repeat_every=every,
        end_after=_span(whole, "end_after", "end_after", DEFAULT_END_AFTER),
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
    """The plan of what `store` made. Raises Rejected if it was tampered with."""
    return parse(stored, Names(_Ids(), _Ids()))


def references(stored: Mapping[str, Any]) -> tuple[frozenset[int], frozenset[int]]:
    """The ids of the users and of the groups that a stored plan names."""
    plan = load(stored)
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


def _steps(written: object, users: Mapping[str, int], groups: Mapping[str, int]) -> tuple[Step, ...]:
    if not isinstance(written, list) or not written:
        _reject("A policy needs at least one step.", "steps")
    if len(written) > MOST_STEPS:
        _reject(f"A policy has at most {MOST_STEPS} steps; this has {len(written)}.", "steps")
    return tuple(_step(entry, number, users, groups) for number, entry in enumerate(written))


def _step(written: object, number: int, users: Mapping[str, int], groups: Mapping[str, int]) -> Step:
    place = f"steps[{number}]"
    entry = _mapping(written, place, {"notify", "after", "name"}, "A step")
    if "notify" not in entry:
        _reject("A step says whom it notifies.", f"{place}.notify")
    notify = _mapping(
        entry["notify"], f"{place}.notify", {"roles", "users", "groups", "group_contacts"}, "Whom a step notifies"
    )
    if number > 0 and "after" not in entry:
        _reject("Say how long after the step before it this one fires.", f"{place}.after")
    roles = tuple(
        _one_of(role, MemberRole, f"{place}.notify.roles[{index}]")
        for index, role in enumerate(_texts(notify, "roles", f"{place}.notify.roles"))
    )
    step = Step(
        after=durations.parse(entry.get("after", "0"), f"{place}.after"),
        roles=_once(roles),
        user_ids=_ids(notify, "users", f"{place}.notify.users", users, "user"),
        group_ids=_ids(notify, "groups", f"{place}.notify.groups", groups, "group"),
        group_contacts=_once(_texts(notify, "group_contacts", f"{place}.notify.group_contacts")),
        name=_text(entry.get("name", ""), f"{place}.name"),
    )
    if not (step.roles or step.user_ids or step.group_contacts):
        says = "say which of their roles" if step.group_ids else "name roles, users or group contacts"
        _reject(f"This step notifies nobody: {says}.", f"{place}.notify")
    return step


def _repeat(written: Mapping[str, Any]) -> tuple[int, timedelta]:
    times = written.get("times", 0)
    if not isinstance(times, int) or isinstance(times, bool) or not 0 <= times <= MOST_REPEATS:
        _reject(f"The number of further passes is 0 to {MOST_REPEATS}.", "repeat.times")
    if times == 0:
        return 0, timedelta()
    if "every" not in written:
        _reject("Say how far apart the passes are.", "repeat.every")
    return times, _span(written, "every", "repeat.every", timedelta())


def _pause(written: Mapping[str, Any], effect: AcknowledgeEffect) -> timedelta:
    if effect is AcknowledgeEffect.PAUSE:
        if "pause" not in written:
            _reject("Say how long acknowledging pauses escalation.", "acknowledge.pause")
        return _span(written, "pause", "acknowledge.pause", timedelta())
    if "pause" in written:
        _reject("Only `effect: pause` has a length.", "acknowledge.pause")
    return timedelta()


def _span(written: Mapping[str, Any], key: str, place: str, default: timedelta) -> timedelta:
    """A span that is not zero."""
    if key not in written:
        return default
    span = durations.parse(written[key], place)
    if not span:
        _reject("This must be longer than nothing.", place)
    return span


def _mapping(written: object, place: str, keys: set[str], what: str) -> Mapping[str, Any]:
    if not isinstance(written, Mapping):
        _reject(f"{what} is a group of named values: {', '.join(sorted(keys))}.", place or None)
    for key in written:
        if key not in keys:
            _reject(
                f"{key!r} is not known here; known are {', '.join(sorted(keys))}.",
                f"{place}.{key}" if place else str(key),
            )
    return written


def _texts(written: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    entries = written.get(key, [])
    if not isinstance(entries, list):
        _reject("This is a list.", place)
    return tuple(_text(entry, f"{place}[{index}]") for index, entry in enumerate(entries))


def _text(written: object, place: str) -> str:
    if not isinstance(written, str) or len(written) > 100:
        _reject("This is a text of at most 100 characters.", place)
    return written.strip()


def _ids(written: Mapping[str, Any], key: str, place: str, known: Mapping[str, int], what: str) -> tuple[int, ...]:
    found = []
    for index, name in enumerate(_texts(written, key, place)):
        try:
            found.append(known[name.lower()])
        except KeyError:
            _reject(f"There is no {what} {name!r}.", f"{place}[{index}]")
    return _once(tuple(found))


def _one_of[E: StrEnum](written: object, choices: type[E], place: str) -> E:
    try:
        return choices(str(written).lower())
    except ValueError:
        _reject(f"{written!r} is not one of {', '.join(choices)}.", place)


def _once[T](entries: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(entries))


def _reject(detail: str, place: str | None) -> NoReturn:
    raise Rejected("invalid_policy", detail, place)


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
