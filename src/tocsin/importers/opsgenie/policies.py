"""Converts Opsgenie's escalations. Its delays count from the alert's creation, Tocsin's from the previous step. Pure.

See https://docs.opsgenie.com/docs/escalation-api: a rule fires after its delay if the alert is not acknowledged, or not
closed, by then; `repeat` starts over this many minutes after the last rule.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.reasons import Reason
from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_POLICY_REPEATS, MAX_STEPS
from tocsin.importers import reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.opsgenie import reasons as product_reasons
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, keys, parse_duration, resolve

_NOT_CLOSED = "if-not-closed"
type NotifyRule = dict[str, Any]


def policies(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every escalation that notifies somebody."""
    for document in documents:
        for key in keys(document, "name"):
            id_map.escalations[key] = document
    for document in documents:
        _policy(id_map, document)


def by_schedule(id_map: OpsgenieIdMap, schedule: str) -> str:
    """The policy that pages the on-call users of a schedule; created on first use."""
    if schedule not in id_map.policy_by_schedule:
        name = id_map.builder.claim_name("escalation_policies", f"On call by {schedule}")
        id_map.policy_by_schedule[schedule] = name
        id_map.builder.add(
            "escalation_policies",
            {
                "name": name,
                "group": id_map.group_by_schedule.get(schedule),
                "steps": [{"notify": {"schedules": [schedule]}, "after": "0m"}],
            },
        )
    return id_map.policy_by_schedule[schedule]


def _policy(id_map: OpsgenieIdMap, document: JsonObject) -> None:
    source_name = str(document.get("name") or "")
    subject = product_reasons.ESCALATION(escalation=source_name)
    rules = sorted(objects_of(document.get("rules")), key=lambda rule: parse_duration(rule.get("delay")))
    has_unclosed = any(rule.get("condition") == _NOT_CLOSED for rule in rules)
    steps: list[dict[str, Any]] = []
    previous = timedelta()
    for position, rule in enumerate(rules, 1):
        notify = _notify_targets(id_map, rule, product_reasons.POLICY_RULE(policy=subject, rule=position))
        if notify is None:
            continue
        at = parse_duration(rule.get("delay"))
        step: dict[str, Any] = {"notify": notify, "after": durations.write(at - previous)}
        if has_unclosed and rule.get("condition") != _NOT_CLOSED:
            step["only_until_acknowledged"] = True
        steps.append(step)
        previous = at
    if not steps:
        id_map.builder.report_omitted(
            subject, reasons.NOT_IMPORTED(), product_reasons.NO_RULE_NOTIFIES(), reasons.CREATE_POLICY()
        )
        return
    if len(steps) > MAX_STEPS:
        id_map.builder.report_omitted(subject, reasons.TOO_MANY_STEPS(count=MAX_STEPS), reasons.STEP_LIMIT())
    name = id_map.builder.claim_name("escalation_policies", source_name)
    entry: dict[str, Any] = {"name": name, "group": resolve(id_map.groups, document.get("ownerTeam"))}
    if has_unclosed:
        entry["acknowledge"] = {"effect": "continue"}
    else:
        id_map.builder.report_ack_timeout("escalations", source_name)
    repeat = _repeat(id_map, document, subject, parse_duration(rules[0].get("delay")))
    id_map.builder.add("escalation_policies", entry | {"repeat": repeat, "steps": steps[:MAX_STEPS]})
    for key in keys(document, "name"):
        id_map.policies[key] = name


def _repeat(id_map: OpsgenieIdMap, document: JsonObject, subject: Reason, first_delay: timedelta) -> dict[str, Any]:
    repeat = object_of(document.get("repeat"))
    count, wait_minutes = repeat.get("count"), repeat.get("waitInterval")
    if repeat.get("closeAlertAfterAll"):
        id_map.builder.report_changed(
            subject,
            product_reasons.LEAVES_OPEN(),
            product_reasons.CLOSES_THERE(),
        )
    if (
        not isinstance(count, int)
        or not isinstance(wait_minutes, int)
        or not 0 < count < 10_000
        or not 0 < wait_minutes < 100_000
    ):
        return {}
    # In each repetition the first rule's delay applies again, while Tocsin's passes begin with their first step.
    interval = timedelta(minutes=wait_minutes) + first_delay
    return {"times": min(count, MAX_POLICY_REPEATS), "every": durations.write(interval)}


def _notify_targets(id_map: OpsgenieIdMap, rule: JsonObject, subject: Reason) -> NotifyRule | None:
    recipient = object_of(rule.get("recipient"))
    kind, notify_type = str(recipient.get("type") or "").lower(), str(rule.get("notifyType") or "default").lower()
    match kind:
        case "user":
            user = id_map.find_user(recipient)
            if user is not None:
                return {"users": [user]}
        case "schedule":
            return _by_schedule(id_map, recipient, notify_type, subject)
        case "team":
            team = resolve(id_map.teams, recipient)
            if team is not None:
                return _by_team(id_map, team, notify_type, subject)
    recipient_name = recipient.get("name") or recipient.get("username") or recipient.get("id") or "nobody"
    id_map.builder.report_omitted(
        subject, reasons.DOES_NOT_NOTIFY_KIND(kind=kind or "somebody", target=recipient_name), reasons.UNKNOWN_HERE()
    )
    return None


def _by_schedule(id_map: OpsgenieIdMap, recipient: JsonObject, notify_type: str, subject: Reason) -> NotifyRule | None:
    references = list(keys(recipient, "name"))
    if any(key in id_map.disabled_schedules for key in references):
        id_map.builder.report_omitted(
            subject, reasons.DOES_NOT_NOTIFY(target=str(recipient.get("name"))), product_reasons.SCHEDULE_DISABLED()
        )
        return None
    name = resolve(id_map.schedules, recipient)
    if name is None:
        id_map.builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=str(recipient.get("name") or "a schedule")),
            product_reasons.SCHEDULE_MISSING(),
            product_reasons.CREATE_AND_ADD_SCHEDULE(),
        )
        return None
    if notify_type == "previous":
        return {"previous_on_call": True, "groups": [id_map.group_by_schedule[name]]}
    if notify_type == "next":
        id_map.builder.report_changed(
            subject,
            product_reasons.NOTIFIES_CURRENT(schedule=name),
            product_reasons.NO_NEXT_ON_CALL(),
            product_reasons.NAME_ANOTHER(),
        )
    if notify_type == "all":
        return {"groups": [id_map.group_by_schedule[name]], "everybody": True}
    return {"schedules": [name]}


def _by_team(id_map: OpsgenieIdMap, team: JsonObject, notify_type: str, subject: Reason) -> NotifyRule:
    group = id_map.find_group(team)
    everybody: NotifyRule = {"groups": [group], "everybody": True}
    members = objects_of(team.get("members"))
    match notify_type:
        case "admins" if any(str(member.get("role")).lower() == "admin" for member in members):
            return {"groups": [group], "roles": ["manager"]}
        case "users":
            regular_members = [member for member in members if str(member.get("role")).lower() != "admin"]
            users = [name for member in regular_members if (name := id_map.find_user(member.get("user")))]
            if users:
                return {"users": list(dict.fromkeys(users))}
        case "random":
            id_map.builder.report_changed(
                subject, product_reasons.NOTIFIES_GROUP(group=str(group)), product_reasons.NO_RANDOM()
            )
            return everybody
        case "all":
            return everybody
        case _:
            schedule = _first_schedule(id_map, default_notify(team))
            if schedule is not None:
                id_map.builder.report_changed(
                    subject,
                    product_reasons.NOTIFIES_ON_CALL(schedule=schedule),
                    product_reasons.ROUTED_THERE(group=str(group)),
                    product_reasons.ADD_FURTHER_STEPS(),
                )
                return {"schedules": [schedule]}
    id_map.builder.report_changed(
        subject, product_reasons.NOTIFIES_GROUP(group=str(group)), product_reasons.NOTHING_NARROWER()
    )
    return everybody


def default_notify(team: JsonObject) -> JsonObject:
    """The target of the team's default routing rule; an empty object if there is none."""
    rules = objects_of(team.get("routing_rules"))
    rule = next((item for item in rules if item.get("isDefault")), rules[-1] if rules else {})
    return object_of(rule.get("notify"))


def _first_schedule(id_map: OpsgenieIdMap, notify: JsonObject) -> str | None:
    """The schedule that a routing rule notifies, directly or first in its escalation."""
    if notify.get("type") == "schedule":
        return resolve(id_map.schedules, notify)
    escalation = resolve(id_map.escalations, notify) if notify.get("type") == "escalation" else None
    for rule in objects_of(object_of(escalation).get("rules")):
        recipient = object_of(rule.get("recipient"))
        if recipient.get("type") == "schedule" and (name := resolve(id_map.schedules, recipient)):
            return name
    return None
