"""Converts AlertOps' users with contact methods, and its groups with members, roles and contacts. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.importers import people
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, object_of, objects_of, text_of, whole_of
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity
from tocsin.people import addresses
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import MAX_RULE_REPEATS

_ROLES = {"owner": "admin", "app admin": "admin", "group admin": "manager", "integrations admin": "manager"}


def users(draft: ConfigBuilder, documents: list[JsonObject]) -> dict[str, str]:
    """Adds every user with an e-mail address. Returns the new usernames by lower-case AlertOps username."""
    names: dict[str, str] = {}
    for user in documents:
        email = _email(user)
        if email:
            names[text_of(user, "user_name").casefold()] = draft.username(email)
        else:
            draft.leave_out(f"user {text_of(user, 'user_name')}", "is not here", "There is no e-mail address.")
    for user in documents:
        if (username := names.get(text_of(user, "user_name").casefold())) is not None:
            people.add(draft, _person(draft, user, username), username)
    return names


def groups(draft: ConfigBuilder, documents: list[JsonObject], usernames: dict[str, str]) -> dict[str, str]:
    """Adds the groups. Returns the new names by lower-case AlertOps name."""
    names = {}
    for group in documents:
        there = text_of(group, "group_name", "name")
        names[there.casefold()] = name = draft.name("groups", there)
        draft.add(
            "groups",
            {
                "name": name,
                "members": _members(draft, group, usernames, name),
                "contacts": _contacts(draft, group, name),
            },
        )
    return names


def roles_of(draft: ConfigBuilder, given: object, subject: str) -> list[str]:
    """Converts a user's role names."""
    found = []
    for text in given if isinstance(given, list) else [given]:
        role = str(text or "").strip().lower()
        if role in list(MemberRole):
            found.append(role)
        elif role:
            draft.leave_out(
                subject,
                f"has no role {role[:40]}",
                "Roles here are primary, secondary and manager.",
                "Use one of those.",
            )
    return list(dict.fromkeys(found))


def _email(user: JsonObject) -> str:
    for method in objects_of(user.get("contact_methods")):
        if str(method.get("contact_method_name")).startswith("Email-Official"):
            address = text_of(object_of(method.get("email")), "email_address")
            if "@" in address:
                return address
    address = text_of(user, "official_email", "email", "user_name")
    return address if "@" in address else ""


def _person(draft: ConfigBuilder, user: JsonObject, username: str) -> ImportedUser:
    roles = user.get("roles")
    named = [str(role).lower() for role in roles] if isinstance(roles, list) else []
    found = {_ROLES[role] for role in named if role in _ROLES}
    role = next((one for one in ("admin", "manager") if one in found), "responder")
    if text_of(user, "type").lower().startswith("stakeholder"):
        role = "observer"
    methods = sorted(objects_of(user.get("contact_methods")), key=lambda one: whole_of(one, "sequence"))
    ways = [way for one in methods if (way := _way(draft, one, username)) is not None]
    return ImportedUser(
        email=_email(user),
        name=" ".join(part for part in (text_of(user, "first_name"), text_of(user, "last_name")) if part),
        role=role,
        time_zone=text_of(user, "time_zone"),
        ways=ways,
        has_rules=bool(ways),
    )


def _way(draft: ConfigBuilder, method: JsonObject, username: str) -> ImportedContactMethod | None:
    label = text_of(method, "contact_method_name")
    email = text_of(object_of(method.get("email")), "email_address")
    if email and "Gateway" not in label:
        way = ImportedContactMethod("email", email, label)
    elif (number := _number(object_of(method.get("phone")))) and label.startswith("Phone"):
        way = ImportedContactMethod("voice", number, label)
    elif (number := _number(object_of(method.get("sms")))) and label.startswith("SMS"):
        way = ImportedContactMethod("sms", number, label)
    else:
        draft.together(
            FindingSeverity.TO_DO,
            "users",
            username,
            "have fewer ways to be reached",
            "Pushes, direct messages and SMS by e-mail are not carried over.",
            "Each switches pushes on under Me → Devices, and connects chats under Me.",
        )
        return None
    way.is_enabled = method.get("enabled") is not False
    wait = timedelta(minutes=whole_of(method, "wait_time_in_mins"))
    every = timedelta(minutes=whole_of(method, "repeat_minutes"))
    times = min(whole_of(method, "repeat_times"), MAX_RULE_REPEATS) if method.get("repeat") and every else 0
    way.times = [wait + number * every for number in range(times + 1)]
    if method.get("notification_time24x7") is False and objects_of(method.get("notification_times")):
        draft.together(
            FindingSeverity.CHANGED,
            "users",
            username,
            "are reached at any time by every way",
            "Ways of theirs have notification times in AlertOps.",
            "They set quiet hours under Me → Rules.",
        )
    return way


def _number(held: JsonObject) -> str:
    number = text_of(held, "phone_number")
    return number if not number or number.startswith("+") else f"{text_of(held, 'country_code')}{number}"


def _members(draft: ConfigBuilder, group: JsonObject, usernames: dict[str, str], name: str) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = []
    for member in sorted(objects_of(group.get("members")), key=lambda one: whole_of(one, "sequence")):
        there = text_of(member, "member", "user_name")
        username = usernames.get(there.casefold())
        if str(member.get("member_type") or "User").lower() != "user" or username is None:
            draft.leave_out(
                f"group {name}", f"has no member {there}", "It is no user here.", "Add its people one by one."
            )
        elif username not in [one["user"] for one in members]:
            subject = f"group {name}: member {username}"
            members.append({"user": username, "roles": roles_of(draft, member.get("roles"), subject)})
    return members


def _contacts(draft: ConfigBuilder, group: JsonObject, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for method in sorted(objects_of(group.get("contact_methods")), key=lambda one: whole_of(one, "sequence")):
        label = text_of(method, "contact_method_name")[:90] or "Contact"
        email, number = text_of(method, "email_address"), _number(method)
        channel = "email" if email else "sms" if label.lower().startswith("sms") else "voice"
        try:
            address = addresses.email(email) if email else people.phone(number)
        except (ValueError, Rejected):
            draft.leave_out(
                f"group {name}: contact {label}",
                "is not here",
                "Only e-mail addresses and numbers are carried over.",
                "Connect chats under Providers, and add the channel to the group.",
            )
            continue
        taken = {one["label"].casefold() for one in found}
        unique = label if label.casefold() not in taken else f"{label} {len(found) + 1}"
        found.append({"label": unique, "channel": channel, "address": address})
    return found
