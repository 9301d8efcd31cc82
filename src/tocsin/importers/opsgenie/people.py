"""Converts Opsgenie's users with contacts, notification rules and forwardings, and its teams as groups. Pure."""

from __future__ import annotations

from typing import Any

from tocsin.importers import people
from tocsin.importers.json_access import JsonObject, moment, object_of, objects_of
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, in_order, keys, span
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity
from tocsin.oncall.changes.specs import write_moment

_ROLES = {"owner": "admin", "admin": "admin", "user": "responder", "stakeholder": "observer", "observer": "observer"}
_CHANNELS = {"email": "email", "sms": "sms", "voice": "voice"}


def users(world: OpsgenieIdMap, documents: list[JsonObject], forwardings: list[JsonObject]) -> None:
    """Adds every user whose username is an e-mail address; others cannot be converted."""
    for user in documents:
        email = str(user.get("username") or "").strip()
        if "@" not in email:
            world.draft.leave_out(f"user {email or user.get('id')}", "is not here", "It has no e-mail address.")
            continue
        name = world.draft.username(email)
        for key in keys(user, "username"):
            world.users[key] = name
    for user in documents:
        username = world.user(user)
        if username:
            people.add(world.draft, _person(world, user, username, forwardings), username)


def groups(world: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds the teams; their administrators become managers. Primary on-call users come from the schedules."""
    for team in documents:
        name = world.draft.name("groups", team.get("name"))
        for key in keys(team, "name"):
            world.groups[key], world.teams[key] = name, team
    for team in documents:
        members: list[dict[str, Any]] = []
        for member in objects_of(team.get("members")):
            username = world.user(member.get("user"))
            if username and username not in [one["user"] for one in members]:
                roles = ["manager"] if str(member.get("role")).lower() == "admin" else []
                members.append({"user": username, "roles": roles})
        world.draft.add(
            "groups",
            {
                "name": world.group(team),
                "description": str(team.get("description") or "")[:2000].replace("\0", ""),
                "members": members,
            },
        )


def _person(world: OpsgenieIdMap, user: JsonObject, username: str, forwardings: list[JsonObject]) -> ImportedUser:
    role = str(object_of(user.get("role")).get("name") or object_of(user.get("role")).get("id") or "User")
    known = _ROLES.get(role.lower())
    if known is None:
        world.draft.change(
            f"user {username}",
            "is a responder",
            f"Opsgenie's own role {role[:60]} is not known here.",
            "Set their role.",
        )
    rules = objects_of(user.get("notification_rules"))
    ways = _ways(world, user, username)
    has_rules = _apply_rules(world, rules, ways, username)
    return ImportedUser(
        email=str(user["username"]).strip(),
        name=str(user.get("fullName") or ""),
        role=known or "responder",
        time_zone=str(user.get("timeZone") or user.get("timezone") or ""),
        ways=ways,
        has_rules=has_rules,
        is_active=not user.get("blocked"),
        out_of_office=_away(world, user, forwardings),
    )


def _ways(world: OpsgenieIdMap, user: JsonObject, username: str) -> list[ImportedContactMethod]:
    ways: list[ImportedContactMethod] = []
    for contact in objects_of(user.get("contacts")):
        method = str(contact.get("method") or contact.get("contactMethod") or "").lower()
        address = str(contact.get("to") or "")
        if method in _CHANNELS:
            enabled = object_of(contact.get("status")).get("enabled", contact.get("enabled", True))
            ways.append(ImportedContactMethod(_CHANNELS[method], address, is_enabled=enabled is not False))
        elif method:
            world.draft.together(
                FindingSeverity.TO_DO,
                "users",
                username,
                "are not reached by Opsgenie's app any more",
                "Pushes go to a browser or an app that its owner has registered here.",
                "Each switches pushes on under Me → Devices.",
            )
    return ways


def _apply_rules(
    world: OpsgenieIdMap, rules: list[JsonObject], ways: list[ImportedContactMethod], username: str
) -> bool:
    """Adds to the contact methods when the rule for new alerts uses them. Returns False if there is no such rule."""
    asked = in_order(r for r in rules if r.get("actionType") == "create-alert" and r.get("enabled", True))
    if not asked:
        return False
    # The rule without conditions applies to every alert.
    rule = next((one for one in asked if _is_for_all(one)), asked[-1])
    steps = [step for step in objects_of(rule.get("steps")) if step.get("enabled", True)]
    if not steps:
        return False
    for step in steps:
        contact = object_of(step.get("contact"))
        method, to = str(contact.get("method") or "").lower(), str(contact.get("to") or "")
        way = next((one for one in ways if one.channel == _CHANNELS.get(method) and _same(one.address, to)), None)
        if way is not None:
            way.times.append(span(step.get("sendAfter")))
    others = len(asked) - 1
    if others or not _is_for_all(rule) or object_of(rule.get("repeat")).get("enabled"):
        world.draft.together(
            FindingSeverity.CHANGED,
            "users",
            username,
            "have one set of rules for every alert",
            "Their rules in Opsgenie repeat themselves, or differ by conditions or time of day.",
            "They set what is to differ by priority, and quiet hours, under Me → Rules.",
        )
    return True


def _is_for_all(rule: JsonObject) -> bool:
    criteria = object_of(rule.get("criteria"))
    return str(criteria.get("type") or "match-all") == "match-all" and not rule.get("timeRestriction")


def _same(address: str, other: str) -> bool:
    if "@" in address:
        return address.casefold() == other.casefold()
    return [c for c in address if c.isdigit()] == [c for c in other if c.isdigit()]


def _away(world: OpsgenieIdMap, user: JsonObject, forwardings: list[JsonObject]) -> list[dict[str, Any]]:
    """Current and future forwardings of this user's alerts, as absences with cover."""
    found = []
    own = world.user(user)
    for rule in forwardings:
        since, until = moment(rule.get("startDate")), moment(rule.get("endDate"))
        cover = world.user(rule.get("toUser"))
        if world.user(rule.get("fromUser")) != own or own is None:
            continue
        if since is None or until is None or until <= world.draft.now or until <= since or cover in (None, own):
            continue
        bounds = {"from": write_moment(since), "to": write_moment(until)}
        found.append({**bounds, "cover": cover, "note": people.forwarded(world.draft)})
    return _apart(world, str(own), sorted(found, key=lambda entry: str(entry["from"])))


def _apart(world: OpsgenieIdMap, username: str, several: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that do not overlap an earlier one."""
    kept: list[dict[str, Any]] = []
    for entry in several:
        if kept and entry["from"] < kept[-1]["to"]:
            world.draft.leave_out(
                f"user {username}",
                f"has no cover from {entry['from']} to {entry['to']} by {entry['cover']}",
                "It overlaps another absence of theirs.",
                "Enter it under Me → Out of office, cut to fit.",
            )
        else:
            kept.append(entry)
    return kept
