"""Converts AlertOps' users with contact methods, and its groups with members, roles and contacts. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.importers import people, reasons
from tocsin.importers.alertops import reasons as product_reasons
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, int_of, object_of, objects_of, text_of
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.report import FindingSeverity
from tocsin.people import addresses
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import MAX_RULE_REPEATS

_ROLES = {"owner": "admin", "app admin": "admin", "group admin": "manager", "integrations admin": "manager"}


def users(builder: ConfigBuilder, documents: list[JsonObject]) -> dict[str, str]:
    """Adds every user with an e-mail address. Returns the new usernames by lower-case AlertOps username."""
    names: dict[str, str] = {}
    for user in documents:
        email = _email(user)
        if email:
            names[text_of(user, "user_name").casefold()] = builder.claim_username(email)
        else:
            builder.report_omitted(
                reasons.USER(user=text_of(user, "user_name")), reasons.NOT_IMPORTED(), reasons.NO_EMAIL()
            )
    for user in documents:
        if (username := names.get(text_of(user, "user_name").casefold())) is not None:
            people.add(builder, _person(builder, user, username), username)
    return names


def groups(builder: ConfigBuilder, documents: list[JsonObject], usernames: dict[str, str]) -> dict[str, str]:
    """Adds the groups. Returns the new names by lower-case AlertOps name."""
    names = {}
    for group in documents:
        source_name = text_of(group, "group_name", "name")
        names[source_name.casefold()] = name = builder.claim_name("groups", source_name)
        builder.add(
            "groups",
            {
                "name": name,
                "members": _members(builder, group, usernames, name),
                "contacts": _contacts(builder, group, name),
            },
        )
    return names


def convert_roles(builder: ConfigBuilder, raw_roles: object, subject: Reason) -> list[str]:
    """Converts a user's role names."""
    roles = []
    for text in raw_roles if isinstance(raw_roles, list) else [raw_roles]:
        role = str(text or "").strip().lower()
        if role in list(MemberRole):
            roles.append(role)
        elif role:
            builder.report_omitted(
                subject,
                product_reasons.NO_ROLE(role=role[:40]),
                product_reasons.KNOWN_ROLES(),
                product_reasons.USE_KNOWN_ROLE(),
            )
    return list(dict.fromkeys(roles))


def _email(user: JsonObject) -> str:
    for method in objects_of(user.get("contact_methods")):
        if str(method.get("contact_method_name")).startswith("Email-Official"):
            address = text_of(object_of(method.get("email")), "email_address")
            if "@" in address:
                return address
    address = text_of(user, "official_email", "email", "user_name")
    return address if "@" in address else ""


def _person(builder: ConfigBuilder, user: JsonObject, username: str) -> ImportedUser:
    roles = user.get("roles")
    role_names = [str(role).lower() for role in roles] if isinstance(roles, list) else []
    matched_roles = {_ROLES[role] for role in role_names if role in _ROLES}
    role = next((item for item in ("admin", "manager") if item in matched_roles), "responder")
    if text_of(user, "type").lower().startswith("stakeholder"):
        role = "observer"
    methods = sorted(objects_of(user.get("contact_methods")), key=lambda item: int_of(item, "sequence"))
    contact_methods = [
        contact_method for item in methods if (contact_method := _contact_method(builder, item, username)) is not None
    ]
    return ImportedUser(
        email=_email(user),
        name=" ".join(part for part in (text_of(user, "first_name"), text_of(user, "last_name")) if part),
        role=role,
        time_zone=text_of(user, "time_zone"),
        contact_methods=contact_methods,
        has_rules=bool(contact_methods),
    )


def _contact_method(builder: ConfigBuilder, method: JsonObject, username: str) -> ImportedContactMethod | None:
    label = text_of(method, "contact_method_name")
    email = text_of(object_of(method.get("email")), "email_address")
    if email and "Gateway" not in label:
        contact_method = ImportedContactMethod("email", email, label)
    elif (repeat := _phone_number(object_of(method.get("phone")))) and label.startswith("Phone"):
        contact_method = ImportedContactMethod("voice", repeat, label)
    elif (repeat := _phone_number(object_of(method.get("sms")))) and label.startswith("SMS"):
        contact_method = ImportedContactMethod("sms", repeat, label)
    else:
        builder.report_grouped(
            FindingSeverity.TO_DO,
            "users",
            username,
            reasons.FEWER_METHODS(),
            product_reasons.METHODS_NOT_IMPORTED(),
            product_reasons.ENABLE_PUSH_AND_CHAT(),
        )
        return None
    contact_method.is_enabled = method.get("enabled") is not False
    delay = timedelta(minutes=int_of(method, "wait_time_in_mins"))
    interval = timedelta(minutes=int_of(method, "repeat_minutes"))
    repeats = min(int_of(method, "repeat_times"), MAX_RULE_REPEATS) if method.get("repeat") and interval else 0
    contact_method.delays = [delay + repeat * interval for repeat in range(repeats + 1)]
    if method.get("notification_time24x7") is False and objects_of(method.get("notification_times")):
        builder.report_grouped(
            FindingSeverity.CHANGED,
            "users",
            username,
            product_reasons.NO_NOTIFICATION_TIMES(),
            product_reasons.NOTIFICATION_TIMES_THERE(),
            product_reasons.SET_QUIET_HOURS(),
        )
    return contact_method


def _phone_number(phone: JsonObject) -> str:
    number = text_of(phone, "phone_number")
    return number if not number or number.startswith("+") else f"{text_of(phone, 'country_code')}{number}"


def _members(builder: ConfigBuilder, group: JsonObject, usernames: dict[str, str], name: str) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = []
    for member in sorted(objects_of(group.get("members")), key=lambda item: int_of(item, "sequence")):
        source_name = text_of(member, "member", "user_name")
        username = usernames.get(source_name.casefold())
        if str(member.get("member_type") or "User").lower() != "user" or username is None:
            builder.report_omitted(
                product_reasons.GROUP(group=name),
                product_reasons.NO_MEMBER(user=source_name),
                reasons.NOT_A_USER(),
                product_reasons.ADD_USERS(),
            )
        elif username not in [item["user"] for item in members]:
            subject = product_reasons.GROUP_MEMBER(group=name, user=username)
            members.append({"user": username, "roles": convert_roles(builder, member.get("roles"), subject)})
    return members


def _contacts(builder: ConfigBuilder, group: JsonObject, name: str) -> list[dict[str, Any]]:
    contacts: list[dict[str, Any]] = []
    for method in sorted(objects_of(group.get("contact_methods")), key=lambda item: int_of(item, "sequence")):
        label = text_of(method, "contact_method_name")[:90] or "Contact"
        email, number = text_of(method, "email_address"), _phone_number(method)
        channel = "email" if email else "sms" if label.lower().startswith("sms") else "voice"
        try:
            address = addresses.email(email) if email else people.normalize_phone(number)
        except Rejected:
            builder.report_omitted(
                product_reasons.GROUP_CONTACT(group=name, contact=label),
                reasons.NOT_IMPORTED(),
                product_reasons.ONLY_EMAILS_AND_NUMBERS(),
                product_reasons.CONNECT_CHATS(),
            )
            continue
        used_labels = {item["label"].casefold() for item in contacts}
        unique = label if label.casefold() not in used_labels else f"{label} {len(contacts) + 1}"
        contacts.append({"label": unique, "channel": channel, "address": address})
    return contacts
