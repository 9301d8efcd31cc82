"""Converts AlertOps' escalation policies: one step per role, with its users one after another. Pure.

Escalation stops only when the alert is assigned or closed, as in AlertOps.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.reasons import Reason
from tocsin.core.validation import durations
from tocsin.escalation.policy.steps import MAX_STEP_RETRIES
from tocsin.importers import reasons
from tocsin.importers.alertops import reasons as product_reasons
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, int_of, objects_of, text_of
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import MAX_RULE_REPEATS

_PRIORITIES = ("critical", "high", "medium", "low")


def policies(builder: ConfigBuilder, documents: list[JsonObject]) -> dict[str, str]:
    """Adds every policy that notifies a role. Returns the new names by lower-case AlertOps name."""
    names = {}
    for document in documents:
        source_name = text_of(document, "escalation_policy_name", "policy_name", "name")
        subject = reasons.POLICY(policy=source_name)
        if document.get("enabled") is False:
            builder.report_omitted(subject, reasons.NOT_IMPORTED(), product_reasons.DISABLED_THERE())
            continue
        steps = [
            step
            for member_role in objects_of(document.get("member_roles"))
            if (step := _step(builder, member_role, subject))
        ]
        if not steps:
            builder.report_omitted(
                subject, reasons.NOT_IMPORTED(), product_reasons.NO_KNOWN_ROLE(), reasons.CREATE_POLICY()
            )
            continue
        name = names[source_name.casefold()] = builder.claim_name("escalation_policies", source_name)
        entry: dict[str, Any] = {"name": name, "acknowledge": {"effect": "continue"}}
        priority = text_of(document, "priority").lower()
        if priority in _PRIORITIES:
            entry["default_priority"] = priority
        if group_interval := int_of(document, "wait_time_before_notifying_next_group_in_min"):
            entry["groups_sequential"] = _minutes(group_interval)
        builder.add("escalation_policies", entry | {"steps": steps})
        for key, label in (("workflows", "workflows"), ("outbound_integrations", "outbound integrations")):
            if objects_of(document.get(key)):
                builder.report_omitted(
                    subject,
                    product_reasons.STARTS_NOTHING(kind=label),
                    product_reasons.ARE_NOT_IMPORTED(),
                    product_reasons.CREATE_THEM(),
                )
        if objects_of(document.get("group_contact_notifications")) or objects_of(document.get("group_contacts")):
            builder.report_omitted(
                subject,
                product_reasons.NOTIFIES_NO_CONTACTS(),
                product_reasons.ARE_NOT_IMPORTED(),
                product_reasons.NAME_ON_STEPS(),
            )
    return names


def _step(builder: ConfigBuilder, member_role: JsonObject, subject: Reason) -> dict[str, Any]:
    role = text_of(member_role, "member_role_type", "role").lower()
    if role not in list(MemberRole):
        builder.report_omitted(
            subject,
            product_reasons.NOTIFIES_NO_ROLE(role=role or "role"),
            product_reasons.KNOWN_ROLES(),
            product_reasons.USE_KNOWN_ROLE(),
        )
        return {}
    step: dict[str, Any] = {
        "notify": {"roles": [role]},
        "after": _minutes(int_of(member_role, "role_wait_time_in_mins")),
    }
    if member_interval := int_of(member_role, "wait_time_between_members_in_mins"):
        step["sequential"] = _minutes(member_interval)
    retries, interval = (
        min(int_of(member_role, "no_of_retries"), MAX_STEP_RETRIES),
        int_of(member_role, "retry_interval"),
    )
    if retries and interval:
        step["retries"] = {"times": retries, "every": _minutes(interval)}
    source_methods = sorted(
        objects_of(member_role.get("contact_methods")), key=lambda source_method: int_of(source_method, "sequence")
    )
    methods = [
        _method(source_method) for source_method in source_methods if text_of(source_method, "contact_method_name")
    ]
    return step | ({"methods": methods[:20]} if methods else {})


def _method(source_method: JsonObject) -> dict[str, Any]:
    method: dict[str, Any] = {"label": text_of(source_method, "contact_method_name")[:100]}
    if delay := int_of(source_method, "wait_time_in_mins"):
        method["wait"] = _minutes(delay)
    times, interval = (
        min(int_of(source_method, "repeat_times"), MAX_RULE_REPEATS),
        int_of(source_method, "repeat_minutes"),
    )
    if source_method.get("repeat") and times and interval:
        method["repeat"] = {"times": times, "every": _minutes(interval)}
    return method


def _minutes(minutes: int) -> str:
    return durations.write(timedelta(minutes=min(minutes, 1440)))
