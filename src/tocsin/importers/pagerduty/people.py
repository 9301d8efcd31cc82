"""Converts PagerDuty's users with contact methods and notification rules, and its teams as groups. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.importers import people, reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.pagerduty import reasons as product_reasons
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, id_of, resolve
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity

_ROLES = {
    "owner": "admin",
    "admin": "admin",
    "user": "manager",
    "limited_user": "responder",
    "restricted_access": "responder",
    "observer": "observer",
    "read_only_user": "observer",
    "read_only_limited_user": "observer",
}
_CHANNELS = {"email_contact_method": "email", "phone_contact_method": "voice", "sms_contact_method": "sms"}
_PUSH = "push_notification_contact_method"


def users(id_map: PagerdutyIdMap, documents: list[JsonObject]) -> None:
    """Adds every user with an e-mail address."""
    for user in documents:
        email = str(user.get("email") or "").strip()
        if "@" in email:
            id_map.users[id_of(user)] = id_map.builder.claim_username(email)
        else:
            id_map.builder.report_omitted(
                reasons.USER(user=str(user.get("name"))), reasons.NOT_IMPORTED(), reasons.NO_EMAIL()
            )
    for user in documents:
        username = resolve(id_map.users, user)
        if username is not None:
            people.add(id_map.builder, _person(id_map, user, username), username)


def groups(id_map: PagerdutyIdMap, documents: list[JsonObject]) -> None:
    """Adds the teams; a team's observers are not members, because nobody should page them."""
    for team in documents:
        id_map.groups[id_of(team)] = id_map.builder.claim_name("groups", team.get("name"))
    for team in documents:
        members: list[dict[str, Any]] = []
        for member in objects_of(team.get("members")):
            username, role = resolve(id_map.users, member.get("user")), str(member.get("role") or "")
            if username and role != "observer" and username not in [item["user"] for item in members]:
                members.append({"user": username, "roles": ["manager"] if role == "manager" else []})
        description = str(team.get("description") or "")[:2000].replace("\0", "")
        id_map.builder.add(
            "groups", {"name": id_map.groups[id_of(team)], "description": description, "members": members}
        )


def _person(id_map: PagerdutyIdMap, user: JsonObject, username: str) -> ImportedUser:
    role = str(user.get("role") or "")
    methods_by_id: dict[str, ImportedContactMethod] = {}
    for method in objects_of(user.get("contact_methods")):
        kind = str(method.get("type") or "").removesuffix("_reference")
        address = str(method.get("address") or "")
        if kind in _CHANNELS:
            country = "" if "email" in kind or address.startswith("+") else str(method.get("country_code") or "")
            # PagerDuty blacklists a method after repeated delivery failures.
            is_enabled = not method.get("blacklisted") and method.get("enabled") is not False
            methods_by_id[id_of(method)] = ImportedContactMethod(
                _CHANNELS[kind], f"{country}{address}", is_enabled=is_enabled
            )
        elif kind == _PUSH:
            id_map.builder.report_grouped(
                FindingSeverity.TO_DO,
                "users",
                username,
                product_reasons.NO_APP(),
                reasons.PUSH_NEEDS_DEVICE(),
                reasons.ENABLE_PUSH(),
            )
    has_rules = False
    for rule in objects_of(user.get("notification_rules")):
        if rule.get("type") not in (None, "assignment_notification_rule", "assignment_notification_rule_reference"):
            continue
        contact_method = methods_by_id.get(id_of(object_of(rule.get("contact_method"))))
        has_rules = True
        if contact_method is not None:
            minutes = rule.get("start_delay_in_minutes")
            delay = timedelta(minutes=minutes if isinstance(minutes, int) and 0 <= minutes < 100_000 else 0)
            (contact_method.low_priority_delays if rule.get("urgency") == "low" else contact_method.delays).append(
                delay
            )
    return ImportedUser(
        email=str(user["email"]).strip(),
        name=str(user.get("name") or ""),
        role=_ROLES.get(role, "responder"),
        time_zone=str(user.get("time_zone") or ""),
        contact_methods=list(methods_by_id.values()),
        has_rules=has_rules,
    )
