"""Converts PagerDuty's escalation policies. A rule's delay is the time before the next rule. Pure.

See https://support.pagerduty.com/main/docs/escalation-policies: after the last rule's delay the policy starts over,
`num_loops` times.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_POLICY_REPEATS, MAX_STEPS
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, found, number_of, owner, said


def policies(world: PagerdutyIdMap, documents: list[JsonObject], services: list[JsonObject]) -> None:
    """Adds every policy that notifies somebody. The acknowledgement timeout comes from the services that use it."""
    for document in documents:
        own = [one for one in services if object_of(one.get("escalation_policy")).get("id") == document.get("id")]
        _policy(world, document, own)


def _policy(world: PagerdutyIdMap, document: JsonObject, services: list[JsonObject]) -> None:
    wanted = str(document.get("name") or "")
    subject = f"policy {wanted}"
    steps: list[dict[str, Any]] = []
    at = before = delay = timedelta()
    first: timedelta | None = None
    for number, rule in enumerate(objects_of(document.get("escalation_rules")), 1):
        at += delay
        delay = _minutes(rule.get("escalation_delay_in_minutes"))
        notify = _notified(world, rule, f"{subject}: level {number}")
        if notify:
            steps.append({"notify": notify, "after": durations.write(at - before)})
            before = at
            first = at if first is None else first
    if not steps:
        world.draft.leave_out(
            subject, "is not here", "None of its levels notifies anybody who is here.", "Make a policy in its place."
        )
        return
    if len(steps) > MAX_STEPS:
        world.draft.leave_out(subject, f"ends after {MAX_STEPS} steps", "A policy has no more of them.")
    name = world.draft.name("escalation_policies", wanted)
    # Skipped levels at the end still add to the delay after the last step.
    end = at + delay - before or timedelta(minutes=5)
    entry: dict[str, Any] = {
        "name": name,
        "group": owner(world, document),
        "acknowledge": _acknowledge(world, services, subject),
        "end_after": durations.write(end),
    }
    loops = document.get("num_loops")
    if isinstance(loops, int) and loops > 0:
        entry["repeat"] = {
            "times": min(loops, MAX_POLICY_REPEATS),
            "every": durations.write(end + (first or timedelta())),
        }
    world.draft.add("escalation_policies", entry | {"steps": steps[:MAX_STEPS]})
    world.policies[number_of(document)] = name


def _notified(world: PagerdutyIdMap, rule: JsonObject, subject: str) -> dict[str, list[str]]:
    notify: dict[str, list[str]] = {}
    for target in objects_of(rule.get("targets")):
        kind = str(target.get("type") or "").removesuffix("_reference")
        key, known = ("schedules", world.schedules) if kind == "schedule" else ("users", world.users)
        name = found(known, target)
        if name is None:
            world.draft.leave_out(
                subject,
                f"does not notify {kind or 'somebody'} {said(target)}",
                "There is no such one here.",
                "Add whoever it is to be to the step.",
            )
        elif name not in notify.get(key, []):
            notify.setdefault(key, []).append(name)
    strategy = object_of(rule.get("escalation_rule_assignment_strategy")).get("type")
    if strategy == "round_robin" and sum(map(len, notify.values())) > 1:
        world.draft.change(
            subject,
            "notifies everybody at once",
            "PagerDuty gives each incident to the next in turn; a step here does not.",
            "Let it go one by one, or put them into a rotation.",
        )
    return notify


def _acknowledge(world: PagerdutyIdMap, services: Iterable[JsonObject], subject: str) -> dict[str, str]:
    """The shortest acknowledgement timeout of the services; empty if they have none, which means 30 minutes."""
    given = [service.get("acknowledgement_timeout") for service in services]
    spans = {seconds for seconds in given if isinstance(seconds, int) and 0 < seconds < 10**8}
    if None in given and given:
        world.draft.change(
            subject,
            "asks after an acknowledgement runs out",
            "Services of it have no acknowledgement timeout; here every acknowledgement has one.",
            "Make it longer on the policy, if that is too soon.",
        )
    if len(spans) > 1:
        world.draft.change(
            subject, "has the shortest of its services' acknowledgement timeouts", "Here it is the policy that has it."
        )
    return {"timeout": durations.write(timedelta(seconds=min(spans)))} if spans else {}


def _minutes(value: object) -> timedelta:
    return timedelta(minutes=value) if isinstance(value, int) and 0 < value < 100_000 else timedelta()
