"""Converts OnCall's users with notification rules, and its teams as groups. Its API has no phone numbers. Pure."""

from __future__ import annotations

from datetime import timedelta

from tocsin.importers import people
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, number_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity

_ROLES = {"admin": "admin", "viewer": "observer"}


def users(world: GrafanaIdMap, documents: list[JsonObject], rules: list[JsonObject]) -> None:
    """Adds every user with an e-mail address."""
    for user in documents:
        email = str(user.get("email") or "").strip()
        if "@" in email:
            world.users[number_of(user)] = world.draft.username(email)
        else:
            world.draft.leave_out(f"user {user.get('username')}", "is not here", "There is no e-mail address.")
    for user in documents:
        if (username := world.users.get(number_of(user))) is not None:
            own = [rule for rule in rules if rule.get("user_id") == user.get("id") and not rule.get("important")]
            people.add(world.draft, _person(world, user, own, username), username)


def groups(world: GrafanaIdMap, documents: list[JsonObject], users: list[JsonObject]) -> None:
    """Adds the teams with their members, as listed in the users' documents."""
    for team in documents:
        name = world.draft.name("groups", team.get("name"))
        world.groups[number_of(team)] = name
        members = [
            username
            for user in users
            if (username := world.users.get(number_of(user))) and number_of(team) in _teams(user)
        ]
        # Users who share an address have become one.
        several = [{"user": username, "roles": []} for username in dict.fromkeys(members)]
        world.draft.add("groups", {"name": name, "members": several})


def _teams(user: JsonObject) -> list[object]:
    teams = user.get("teams")
    return teams if isinstance(teams, list) else []


def _person(world: GrafanaIdMap, user: JsonObject, rules: list[JsonObject], username: str) -> ImportedUser:
    email = str(user["email"]).strip()
    way = ImportedContactMethod("email", email)
    at = timedelta()
    others = set()
    for rule in sorted(rules, key=lambda one: _whole(one.get("position"))):
        kind = str(rule.get("type") or "")
        if kind == "wait":
            at += timedelta(seconds=_whole(rule.get("duration")))
        elif kind == "notify_by_email":
            way.times.append(at)
        else:
            others.add(kind)
    if others:
        world.draft.together(
            FindingSeverity.TO_DO,
            "users",
            username,
            "have fewer ways to be reached",
            "OnCall's API shows no phone numbers, chat accounts or devices.",
            "Each enters their number under Me, connects chats there, and switches pushes on under Me → Devices.",
        )
    return ImportedUser(
        email=email,
        name=str(user.get("name") or user.get("username") or ""),
        role=_ROLES.get(str(user.get("role") or "").lower(), "responder"),
        time_zone=str(user.get("timezone") or ""),
        ways=[way],
        has_rules=bool(way.times),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**8 else 0
