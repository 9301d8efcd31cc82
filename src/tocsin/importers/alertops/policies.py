"""Converts AlertOps' escalation policies: one step per role, with its users one after another. Pure.

Escalation stops only when the alert is assigned or closed, as in AlertOps.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.validation import durations
from tocsin.escalation.policy.steps import MAX_STEP_RETRIES
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, objects_of, text_of, whole_of
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import MAX_RULE_REPEATS

_PRIORITIES = ("critical", "high", "medium", "low")


def policies(draft: ConfigBuilder, documents: list[JsonObject]) -> dict[str, str]:
    """Adds every policy that notifies a role. Returns the new names by lower-case AlertOps name."""
    names = {}
    for document in documents:
        there = text_of(document, "escalation_policy_name", "policy_name", "name")
        subject = f"policy {there}"
        if document.get("enabled") is False:
            draft.leave_out(subject, "is not here", "It is switched off in AlertOps.")
            continue
        steps = [step for one in objects_of(document.get("member_roles")) if (step := _step(draft, one, subject))]
        if not steps:
            draft.leave_out(subject, "is not here", "None of its roles is one here.", "Make a policy in its place.")
            continue
        name = names[there.casefold()] = draft.name("escalation_policies", there)
        entry: dict[str, Any] = {"name": name, "acknowledge": {"effect": "continue"}}
        priority = text_of(document, "priority").lower()
        if priority in _PRIORITIES:
            entry["default_priority"] = priority
        if apart := whole_of(document, "wait_time_before_notifying_next_group_in_min"):
            entry["groups_sequential"] = _minutes(apart)
        draft.add("escalation_policies", entry | {"steps": steps})
        for key, what in (("workflows", "workflows"), ("outbound_integrations", "outbound integrations")):
            if objects_of(document.get(key)):
                draft.leave_out(subject, f"starts no {what}", "They are not carried over.", "Make them here.")
        if objects_of(document.get("group_contact_notifications")) or objects_of(document.get("group_contacts")):
            draft.leave_out(
                subject, "notifies no group contacts", "They are not carried over.", "Name them on the policy's steps."
            )
    return names


def _step(draft: ConfigBuilder, one: JsonObject, subject: str) -> dict[str, Any]:
    role = text_of(one, "member_role_type", "role").lower()
    if role not in list(MemberRole):
        draft.leave_out(
            subject,
            f"notifies no {role or 'role'}",
            "Roles here are primary, secondary and manager.",
            "Use one of those.",
        )
        return {}
    step: dict[str, Any] = {"notify": {"roles": [role]}, "after": _minutes(whole_of(one, "role_wait_time_in_mins"))}
    if apart := whole_of(one, "wait_time_between_members_in_mins"):
        step["sequential"] = _minutes(apart)
    retries, every = min(whole_of(one, "no_of_retries"), MAX_STEP_RETRIES), whole_of(one, "retry_interval")
    if retries and every:
        step["retries"] = {"times": retries, "every": _minutes(every)}
    ways = sorted(objects_of(one.get("contact_methods")), key=lambda way: whole_of(way, "sequence"))
    methods = [_way(way) for way in ways if text_of(way, "contact_method_name")]
    return step | ({"methods": methods[:20]} if methods else {})


def _way(way: JsonObject) -> dict[str, Any]:
    found: dict[str, Any] = {"label": text_of(way, "contact_method_name")[:100]}
    if wait := whole_of(way, "wait_time_in_mins"):
        found["wait"] = _minutes(wait)
    times, every = min(whole_of(way, "repeat_times"), MAX_RULE_REPEATS), whole_of(way, "repeat_minutes")
    if way.get("repeat") and times and every:
        found["repeat"] = {"times": times, "every": _minutes(every)}
    return found


def _minutes(number: int) -> str:
    return durations.write(timedelta(minutes=min(number, 1440)))
