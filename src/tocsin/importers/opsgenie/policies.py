"""Converts Opsgenie's escalations. Its delays count from the alert's creation, Tocsin's from the previous step. Pure.

See https://docs.opsgenie.com/docs/escalation-api: a rule fires after its delay if the alert is not acknowledged, or not
closed, by then; `repeat` starts over this many minutes after the last rule.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_POLICY_REPEATS, MAX_STEPS
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, found, keys, span

_NOT_CLOSED = "if-not-closed"
type NotifyRule = dict[str, Any]


def policies(world: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every escalation that notifies somebody."""
    for document in documents:
        for key in keys(document, "name"):
            world.escalations[key] = document
    for document in documents:
        _policy(world, document)


def by_schedule(world: OpsgenieIdMap, schedule: str) -> str:
    """The policy that pages the on-call users of a schedule; created on first use."""
    if schedule not in world.by_schedule:
        name = world.draft.name("escalation_policies", f"On call by {schedule}")
        world.by_schedule[schedule] = name
        world.draft.add(
            "escalation_policies",
            {
                "name": name,
                "group": world.group_of.get(schedule),
                "steps": [{"notify": {"schedules": [schedule]}, "after": "0m"}],
            },
        )
    return world.by_schedule[schedule]


def _policy(world: OpsgenieIdMap, document: JsonObject) -> None:
    wanted = str(document.get("name") or "")
    subject = f"escalation {wanted}"
    rules = sorted(objects_of(document.get("rules")), key=lambda rule: span(rule.get("delay")))
    has_unclosed = any(rule.get("condition") == _NOT_CLOSED for rule in rules)
    steps: list[dict[str, Any]] = []
    before = timedelta()
    for number, rule in enumerate(rules, 1):
        notify = _notified(world, rule, f"{subject}: rule {number}")
        if notify is None:
            continue
        at = span(rule.get("delay"))
        step: dict[str, Any] = {"notify": notify, "after": durations.write(at - before)}
        if has_unclosed and rule.get("condition") != _NOT_CLOSED:
            step["only_until_acknowledged"] = True
        steps.append(step)
        before = at
    if not steps:
        world.draft.leave_out(
            subject, "is not here", "None of its rules notifies anybody who is here.", "Make a policy in its place."
        )
        return
    if len(steps) > MAX_STEPS:
        world.draft.leave_out(subject, f"ends after {MAX_STEPS} steps", "A policy has no more of them.")
    name = world.draft.name("escalation_policies", wanted)
    entry: dict[str, Any] = {"name": name, "group": found(world.groups, document.get("ownerTeam"))}
    if has_unclosed:
        entry["acknowledge"] = {"effect": "continue"}
    else:
        world.draft.acknowledgements_run_out("escalations", wanted)
    repeat = _repeat(world, document, subject, span(rules[0].get("delay")))
    world.draft.add("escalation_policies", entry | {"repeat": repeat, "steps": steps[:MAX_STEPS]})
    for key in keys(document, "name"):
        world.policies[key] = name


def _repeat(world: OpsgenieIdMap, document: JsonObject, subject: str, first_delay: timedelta) -> dict[str, Any]:
    repeat = object_of(document.get("repeat"))
    count, wait = repeat.get("count"), repeat.get("waitInterval")
    if repeat.get("closeAlertAfterAll"):
        world.draft.change(
            subject,
            "leaves the alert open at its end",
            "Opsgenie closes it after all repeats; here an alert that nobody answered is never closed by itself.",
        )
    if not isinstance(count, int) or not isinstance(wait, int) or not 0 < count < 10_000 or not 0 < wait < 100_000:
        return {}
    # In each repetition the first rule's delay applies again, while Tocsin's passes begin with their first step.
    every = timedelta(minutes=wait) + first_delay
    return {"times": min(count, MAX_POLICY_REPEATS), "every": durations.write(every)}


def _notified(world: OpsgenieIdMap, rule: JsonObject, subject: str) -> NotifyRule | None:
    recipient = object_of(rule.get("recipient"))
    kind, how = str(recipient.get("type") or "").lower(), str(rule.get("notifyType") or "default").lower()
    match kind:
        case "user":
            user = world.user(recipient)
            if user is not None:
                return {"users": [user]}
        case "schedule":
            return _by_schedule(world, recipient, how, subject)
        case "team":
            team = found(world.teams, recipient)
            if team is not None:
                return _by_team(world, team, how, subject)
    who = recipient.get("name") or recipient.get("username") or recipient.get("id") or "nobody"
    world.draft.leave_out(subject, f"does not notify {kind or 'somebody'} {who}", "There is no such one here.")
    return None


def _by_schedule(world: OpsgenieIdMap, recipient: JsonObject, how: str, subject: str) -> NotifyRule | None:
    references = list(keys(recipient, "name"))
    if any(key in world.off for key in references):
        world.draft.leave_out(
            subject, f"does not notify {recipient.get('name')}", "The schedule is switched off there."
        )
        return None
    name = found(world.schedules, recipient)
    if name is None:
        world.draft.leave_out(
            subject,
            f"does not notify {recipient.get('name') or 'a schedule'}",
            "The schedule could not be carried over.",
            "Make the schedule, and add it to the policy.",
        )
        return None
    if how == "previous":
        return {"previous_on_call": True, "groups": [world.group_of[name]]}
    if how == "next":
        world.draft.change(
            subject,
            f"notifies whoever is on call by {name}, not who comes next",
            "A step here knows who is on call and who was before, not who will be.",
            "Name a second schedule or a user instead.",
        )
    if how == "all":
        return {"groups": [world.group_of[name]], "everybody": True}
    return {"schedules": [name]}


def _by_team(world: OpsgenieIdMap, team: JsonObject, how: str, subject: str) -> NotifyRule:
    group = world.group(team)
    everybody: NotifyRule = {"groups": [group], "everybody": True}
    members = objects_of(team.get("members"))
    match how:
        case "admins" if any(str(member.get("role")).lower() == "admin" for member in members):
            return {"groups": [group], "roles": ["manager"]}
        case "users":
            plain = [member for member in members if str(member.get("role")).lower() != "admin"]
            users = [name for member in plain if (name := world.user(member.get("user")))]
            if users:
                return {"users": list(dict.fromkeys(users))}
        case "random":
            world.draft.change(subject, f"notifies everybody of {group}", "A step here takes nobody at random.")
            return everybody
        case "all":
            return everybody
        case _:
            schedule = _first_schedule(world, default_notify(team))
            if schedule is not None:
                world.draft.change(
                    subject,
                    f"notifies whoever is on call by {schedule}",
                    f"The team {group} is notified there by its own routing rules; a step here is one step.",
                    "Add the team's further steps if they are wanted here too.",
                )
                return {"schedules": [schedule]}
    world.draft.change(subject, f"notifies everybody of {group}", "Nothing narrower could be carried over.")
    return everybody


def default_notify(team: JsonObject) -> JsonObject:
    """The target of the team's default routing rule; an empty object if there is none."""
    rules = objects_of(team.get("routing_rules"))
    rule = next((one for one in rules if one.get("isDefault")), rules[-1] if rules else {})
    return object_of(rule.get("notify"))


def _first_schedule(world: OpsgenieIdMap, notify: JsonObject) -> str | None:
    """The schedule that a routing rule notifies, directly or first in its escalation."""
    if notify.get("type") == "schedule":
        return found(world.schedules, notify)
    escalation = found(world.escalations, notify) if notify.get("type") == "escalation" else None
    for rule in objects_of(object_of(escalation).get("rules")):
        recipient = object_of(rule.get("recipient"))
        if recipient.get("type") == "schedule" and (name := found(world.schedules, recipient)):
            return name
    return None
