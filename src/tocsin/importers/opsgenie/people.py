"""Converts Opsgenie's users with contacts, notification rules and forwardings, and its teams as groups. Pure."""

from __future__ import annotations

from typing import Any

from tocsin.core.validation.spec_types import write_moment
from tocsin.importers import people, reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of, parse_time
from tocsin.importers.opsgenie import reasons as product_reasons
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, keys, parse_duration, sort_by_order
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity

_ROLES = {"owner": "admin", "admin": "admin", "user": "responder", "stakeholder": "observer", "observer": "observer"}
_CHANNELS = {"email": "email", "sms": "sms", "voice": "voice"}


def users(id_map: OpsgenieIdMap, documents: list[JsonObject], forwardings: list[JsonObject]) -> None:
    """Adds every user whose username is an e-mail address; others cannot be converted."""
    for user in documents:
        email = str(user.get("username") or "").strip()
        if "@" not in email:
            id_map.builder.report_omitted(
                reasons.USER(user=str(email or user.get("id"))), reasons.NOT_IMPORTED(), reasons.NO_EMAIL()
            )
            continue
        name = id_map.builder.claim_username(email)
        for key in keys(user, "username"):
            id_map.users[key] = name
    for user in documents:
        username = id_map.find_user(user)
        if username:
            people.add(id_map.builder, _person(id_map, user, username, forwardings), username)


def groups(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds the teams; their administrators become managers. Primary on-call users come from the schedules."""
    for team in documents:
        name = id_map.builder.claim_name("groups", team.get("name"))
        for key in keys(team, "name"):
            id_map.groups[key], id_map.teams[key] = name, team
    for team in documents:
        members: list[dict[str, Any]] = []
        for member in objects_of(team.get("members")):
            username = id_map.find_user(member.get("user"))
            if username and username not in [item["user"] for item in members]:
                roles = ["manager"] if str(member.get("role")).lower() == "admin" else []
                members.append({"user": username, "roles": roles})
        id_map.builder.add(
            "groups",
            {
                "name": id_map.find_group(team),
                "description": str(team.get("description") or "")[:2000].replace("\0", ""),
                "members": members,
            },
        )


def _person(id_map: OpsgenieIdMap, user: JsonObject, username: str, forwardings: list[JsonObject]) -> ImportedUser:
    role = str(object_of(user.get("role")).get("name") or object_of(user.get("role")).get("id") or "User")
    mapped_role = _ROLES.get(role.lower())
    if mapped_role is None:
        id_map.builder.report_changed(
            reasons.USER(user=username),
            product_reasons.IS_RESPONDER(),
            product_reasons.ROLE_UNKNOWN(role=role[:60]),
            product_reasons.SET_ROLE(),
        )
    rules = objects_of(user.get("notification_rules"))
    contact_methods = _contact_methods(id_map, user, username)
    has_rules = _apply_rules(id_map, rules, contact_methods, username)
    return ImportedUser(
        email=str(user["username"]).strip(),
        name=str(user.get("fullName") or ""),
        role=mapped_role or "responder",
        time_zone=str(user.get("timeZone") or user.get("timezone") or ""),
        contact_methods=contact_methods,
        has_rules=has_rules,
        is_active=not user.get("blocked"),
        out_of_office=_absences(id_map, user, forwardings),
    )


def _contact_methods(id_map: OpsgenieIdMap, user: JsonObject, username: str) -> list[ImportedContactMethod]:
    contact_methods: list[ImportedContactMethod] = []
    for contact in objects_of(user.get("contacts")):
        method = str(contact.get("method") or contact.get("contactMethod") or "").lower()
        address = str(contact.get("to") or "")
        if method in _CHANNELS:
            enabled = object_of(contact.get("status")).get("enabled", contact.get("enabled", True))
            contact_methods.append(ImportedContactMethod(_CHANNELS[method], address, is_enabled=enabled is not False))
        elif method:
            id_map.builder.report_grouped(
                FindingSeverity.TO_DO,
                "users",
                username,
                product_reasons.NO_APP(),
                reasons.PUSH_NEEDS_DEVICE(),
                reasons.ENABLE_PUSH(),
            )
    return contact_methods


def _apply_rules(
    id_map: OpsgenieIdMap, rules: list[JsonObject], contact_methods: list[ImportedContactMethod], username: str
) -> bool:
    """Adds to the contact methods when the rule for new alerts uses them. Returns False if there is no such rule."""
    creation_rules = sort_by_order(r for r in rules if r.get("actionType") == "create-alert" and r.get("enabled", True))
    if not creation_rules:
        return False
    # The rule without conditions applies to every alert.
    rule = next((item for item in creation_rules if _matches_all(item)), creation_rules[-1])
    steps = [step for step in objects_of(rule.get("steps")) if step.get("enabled", True)]
    if not steps:
        return False
    for step in steps:
        contact = object_of(step.get("contact"))
        method, to = str(contact.get("method") or "").lower(), str(contact.get("to") or "")
        contact_method = next(
            (
                item
                for item in contact_methods
                if item.channel == _CHANNELS.get(method) and _is_same_address(item.address, to)
            ),
            None,
        )
        if contact_method is not None:
            contact_method.delays.append(parse_duration(step.get("sendAfter")))
    other_count = len(creation_rules) - 1
    if other_count or not _matches_all(rule) or object_of(rule.get("repeat")).get("enabled"):
        id_map.builder.report_grouped(
            FindingSeverity.CHANGED,
            "users",
            username,
            product_reasons.ONE_SET_OF_RULES(),
            product_reasons.RULES_THERE(),
            product_reasons.SET_RULES_BY_PRIORITY(),
        )
    return True


def _matches_all(rule: JsonObject) -> bool:
    criteria = object_of(rule.get("criteria"))
    return str(criteria.get("type") or "match-all") == "match-all" and not rule.get("timeRestriction")


def _is_same_address(address: str, other_address: str) -> bool:
    if "@" in address:
        return address.casefold() == other_address.casefold()
    return [c for c in address if c.isdigit()] == [c for c in other_address if c.isdigit()]


def _absences(id_map: OpsgenieIdMap, user: JsonObject, forwardings: list[JsonObject]) -> list[dict[str, Any]]:
    """Current and future forwardings of this user's alerts, as absences with cover."""
    absences = []
    username = id_map.find_user(user)
    for rule in forwardings:
        since, until = parse_time(rule.get("startDate")), parse_time(rule.get("endDate"))
        cover = id_map.find_user(rule.get("toUser"))
        if id_map.find_user(rule.get("fromUser")) != username or username is None:
            continue
        if since is None or until is None or until <= id_map.builder.now or until <= since or cover in (None, username):
            continue
        bounds = {"from": write_moment(since), "to": write_moment(until)}
        absences.append({**bounds, "cover": cover, "note": people.forwarded(id_map.builder)})
    return _without_overlaps(id_map, str(username), sorted(absences, key=lambda entry: str(entry["from"])))


def _without_overlaps(id_map: OpsgenieIdMap, username: str, absences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that do not overlap an earlier one."""
    accepted: list[dict[str, Any]] = []
    for entry in absences:
        if accepted and entry["from"] < accepted[-1]["to"]:
            id_map.builder.report_omitted(
                reasons.USER(user=username),
                reasons.NO_COVER(start=entry["from"], end=entry["to"], cover=entry["cover"]),
                product_reasons.ABSENCES_OVERLAP(),
                reasons.ENTER_ABSENCE(),
            )
        else:
            accepted.append(entry)
    return accepted
