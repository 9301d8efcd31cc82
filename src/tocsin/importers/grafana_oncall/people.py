"""Converts OnCall's users with notification rules, and its teams as groups. Its API has no phone numbers. Pure."""

from __future__ import annotations

from datetime import timedelta

from tocsin.importers import people, reasons
from tocsin.importers.grafana_oncall import reasons as product_reasons
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, id_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity

_ROLES = {"admin": "admin", "viewer": "observer"}


def users(id_map: GrafanaIdMap, documents: list[JsonObject], rules: list[JsonObject]) -> None:
    """Adds every user with an e-mail address."""
    for user in documents:
        email = str(user.get("email") or "").strip()
        if "@" in email:
            id_map.users[id_of(user)] = id_map.builder.claim_username(email)
        else:
            id_map.builder.report_omitted(
                reasons.USER(user=str(user.get("username"))), reasons.NOT_IMPORTED(), reasons.NO_EMAIL()
            )
    for user in documents:
        if (username := id_map.users.get(id_of(user))) is not None:
            user_rules = [rule for rule in rules if rule.get("user_id") == user.get("id") and not rule.get("important")]
            people.add(id_map.builder, _person(id_map, user, user_rules, username), username)


def groups(id_map: GrafanaIdMap, documents: list[JsonObject], users: list[JsonObject]) -> None:
    """Adds the teams with their members, as listed in the users' documents."""
    for team in documents:
        name = id_map.builder.claim_name("groups", team.get("name"))
        id_map.groups[id_of(team)] = name
        members = [
            username for user in users if (username := id_map.users.get(id_of(user))) and id_of(team) in _teams(user)
        ]
        # Users who share an address have become one.
        member_entries = [{"user": username, "roles": []} for username in dict.fromkeys(members)]
        id_map.builder.add("groups", {"name": name, "members": member_entries})


def _teams(user: JsonObject) -> list[object]:
    teams = user.get("teams")
    return teams if isinstance(teams, list) else []


def _person(id_map: GrafanaIdMap, user: JsonObject, rules: list[JsonObject], username: str) -> ImportedUser:
    email = str(user["email"]).strip()
    contact_method = ImportedContactMethod("email", email)
    delay = timedelta()
    unsupported = set()
    for rule in sorted(rules, key=lambda item: _non_negative_int(item.get("position"))):
        kind = str(rule.get("type") or "")
        if kind == "wait":
            delay += timedelta(seconds=_non_negative_int(rule.get("duration")))
        elif kind == "notify_by_email":
            contact_method.delays.append(delay)
        else:
            unsupported.add(kind)
    if unsupported:
        id_map.builder.report_grouped(
            FindingSeverity.TO_DO,
            "users",
            username,
            reasons.FEWER_METHODS(),
            product_reasons.NO_METHODS_IN_API(),
            product_reasons.ADD_METHODS(),
        )
    return ImportedUser(
        email=email,
        name=str(user.get("name") or user.get("username") or ""),
        role=_ROLES.get(str(user.get("role") or "").lower(), "responder"),
        time_zone=str(user.get("timezone") or ""),
        contact_methods=[contact_method],
        has_rules=bool(contact_method.delays),
    )


def _non_negative_int(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**8 else 0
