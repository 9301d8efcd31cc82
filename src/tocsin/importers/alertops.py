"""AlertOps: read through its API v2 (https://api.alertops.com/swagger) and converted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence, translatable
from tocsin.core.validation import inputs
from tocsin.escalation.policy import MAX_STEP_RETRIES
from tocsin.importers import people, reasons
from tocsin.importers.api_reader import MAX_LIST_PAGES, ApiReader
from tocsin.importers.config_builder import (
    ConfigBuilder,
    FindingSeverity,
    JsonObject,
    Product,
    clean_name,
    converter,
    int_of,
    object_of,
    objects_of,
    text_of,
    unique_name,
)
from tocsin.importers.config_builder import zone as known_zone
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.rotation_converter import UnsupportedRotation, combine, why_unsupported, window
from tocsin.inbound.conditions import Operator
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import Weekday, WeeklyWindow
from tocsin.oncall.changes.specs import MAX_LAYERS
from tocsin.people import addresses
from tocsin.people.notification_rules import MAX_RULE_REPEATS

# ---------- reasons
# Reasons of imports from AlertOps.


CREATE_KEY = Text("Create one in AlertOps under Administration → Subscription Settings, or in your profile.")
CREATE_THEM = Text("Create them in Tocsin.")
ADD_ROUTES = Text("Add routes on the Routing tab.")
STILL_SEND = Text("Those still send to AlertOps.")
GROUP = Text("group {group}")
GROUP_MEMBER = Text("group {group}: member {user}")
NO_ROLE = Text("has no role {role}")
KNOWN_ROLES = Text("Tocsin's roles are primary, secondary and lead.")
USE_KNOWN_ROLE = Text("Use one of those.")
GROUP_CONTACT = Text("group {group}: contact {contact}")
DISABLED_THERE = Text("It is disabled in AlertOps.")
ARE_NOT_IMPORTED = Text("They are not imported.")


# ---------- client
# Reads an AlertOps account through its API v2: documents as in the API, with shifts nested in their group.


_PAGE = 100
#: The label of a contact method.
_LABEL = "contact_method_name"


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """All documents that are converted. Users and groups must be readable."""
    del now  # shifts are always read completely

    def read_optional(path: str) -> list[JsonObject]:
        return source.optional(path, _all(source, path))

    groups = list(_all(source, "groups"))
    return {
        "users": list(_all(source, "users")),
        "groups": [{**group, "schedules": read_optional(f"schedules/{_id(group)}")} for group in groups],
        "escalation_policies": read_optional("escalation_policies"),
        "integrations": read_optional("integrations/inbound"),
        "workflows": read_optional("workflows"),
    }


def _all(source: ApiReader, path: str) -> Iterator[JsonObject]:
    """All objects of a list, page by page. Some lists are bare arrays without pages."""
    offset = 0
    for _ in range(MAX_LIST_PAGES):
        page = source.get(path, limit=_PAGE, offset=offset)
        values = object_of(page).values()
        objects = objects_of(page) or next((objects_of(value) for value in values if isinstance(value, list)), [])
        yield from objects
        offset += len(objects)
        source.progress(reasons.READ_OBJECTS(total=offset, kind=path.split("/")[0].replace("_", " ")))
        if isinstance(page, list) or len(objects) < _PAGE:
            return


def _in_sequence(document: JsonObject, name: str) -> list[JsonObject]:
    return sorted(objects_of(document.get(name)), key=lambda item: int_of(item, "sequence"))


def _id(group: JsonObject) -> str:
    return quote(text_of(group, "group_id", "id", "group_name"), safe="")


# ---------- people
# Converts AlertOps' users with contact methods, and its groups with members, roles and contacts. Pure.


#: The roles of a group's members.
_MEMBER_ROLES = {"primary": "primary", "secondary": "secondary", "manager": "lead"}

_ROLES = {"owner": "admin", "app admin": "admin", "group admin": "manager", "integrations admin": "manager"}


def convert_users(builder: ConfigBuilder) -> None:
    """Adds every user with an e-mail address, by lower-case AlertOps username."""
    people.add_all(
        builder,
        builder.documents("users"),
        "user_name",
        keys=lambda user: [_key(user, "user_name")],
        email_of=_email,
        person=lambda user, username: _person(builder, user, username),
    )


def convert_groups(builder: ConfigBuilder) -> None:
    """Adds the groups, by lower-case AlertOps name."""
    for group in builder.documents("groups"):
        source_name = text_of(group, "group_name", "name")
        builder.groups[source_name.casefold()] = name = builder.claim_name("groups", source_name)
        members, contacts = _members(builder, group, name), _contacts(builder, group, name)
        builder.add("groups", {"name": name, "members": members, "contacts": contacts})


def convert_roles(builder: ConfigBuilder, raw_roles: object, subject: Reason) -> list[str]:
    """Converts a user's role names."""
    roles = []
    for text in raw_roles if isinstance(raw_roles, list) else [raw_roles]:
        role = str(text or "").strip().lower()
        if role in _MEMBER_ROLES:
            roles.append(_MEMBER_ROLES[role])
        elif role:
            builder.report_omitted(subject, NO_ROLE(role=role[:40]), KNOWN_ROLES(), USE_KNOWN_ROLE())
    return list(dict.fromkeys(roles))


def _email(user: JsonObject) -> str:
    for method in objects_of(user.get("contact_methods")):
        if str(method.get(_LABEL)).startswith("Email-Official"):
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
    methods = _in_sequence(user, "contact_methods")
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
    label = text_of(method, _LABEL)
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
            sentence("Pushes, direct messages and SMS by email are not imported."),
            sentence("Each user enables push under Me → Devices, and connects chats under Me."),
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
            sentence("are reached at any time by every contact method"),
            sentence("Their contact methods have notification times in AlertOps."),
            sentence("They set quiet hours under Me → Notification rules."),
        )
    return contact_method


def _phone_number(phone: JsonObject) -> str:
    number = text_of(phone, "phone_number")
    return number if not number or number.startswith("+") else f"{text_of(phone, 'country_code')}{number}"


def _members(builder: ConfigBuilder, group: JsonObject, name: str) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = []
    for member in _in_sequence(group, "members"):
        source_name = text_of(member, "member", "user_name")
        username = builder.users.get(source_name.casefold())
        if str(member.get("member_type") or "User").lower() != "user" or username is None:
            builder.report_omitted(
                GROUP(group=name),
                sentence("has no member {user}", user=source_name),
                reasons.NOT_A_USER(),
                sentence("Add its users one by one."),
            )
        elif username not in [item["user"] for item in members]:
            subject = GROUP_MEMBER(group=name, user=username)
            members.append({"user": username, "roles": convert_roles(builder, member.get("roles"), subject)})
    return members


def _contacts(builder: ConfigBuilder, group: JsonObject, name: str) -> list[dict[str, Any]]:
    contacts: list[dict[str, Any]] = []
    labels: set[str] = set()
    for method in _in_sequence(group, "contact_methods"):
        label = text_of(method, _LABEL)[:90] or "Contact"
        email, number = text_of(method, "email_address"), _phone_number(method)
        channel = "email" if email else "sms" if label.lower().startswith("sms") else "voice"
        try:
            address = addresses.email(email) if email else people.normalize_phone(number)
        except Rejected:
            builder.report_omitted(
                GROUP_CONTACT(group=name, contact=label),
                reasons.NOT_IMPORTED(),
                sentence("Only email addresses and numbers are imported."),
                sentence("Connect chats under Providers, and add the channel to the group."),
            )
            continue
        contacts.append({"label": unique_name(label, labels, " {}"), "channel": channel, "address": address})
    return contacts


# ---------- policies
# Converts AlertOps' escalation policies: one step per role, with its users one after another. Pure.
#
# Escalation stops only when the alert is assigned or closed, as in AlertOps.


_PRIORITIES = ("critical", "high", "medium", "low")


def policies(builder: ConfigBuilder) -> None:
    """Adds every policy that notifies a role, by lower-case AlertOps name."""
    for document in builder.documents("escalation_policies"):
        source_name = text_of(document, "escalation_policy_name", "policy_name", "name")
        subject = reasons.POLICY(policy=source_name)
        if document.get("enabled") is False:
            builder.report_omitted(subject, reasons.NOT_IMPORTED(), DISABLED_THERE())
            continue
        steps = [
            step
            for member_role in objects_of(document.get("member_roles"))
            if (step := _step(builder, member_role, subject))
        ]
        name = builder.claim_policy(source_name, subject, steps, sentence("None of its roles exists in Tocsin."))
        if name is None:
            continue
        builder.policies[source_name.casefold()] = name
        entry: dict[str, Any] = {"name": name, "acknowledge": {"effect": "continue"}}
        priority = text_of(document, "priority").lower()
        if priority in _PRIORITIES:
            entry["default_priority"] = priority
        if group_interval := int_of(document, "wait_time_before_notifying_next_group_in_min"):
            entry["groups_sequential"] = _minutes(group_interval)
        builder.add("escalation_policies", entry | {"steps": steps})
        for key, label in (("workflows", "workflows"), ("outbound_integrations", "outbound integrations")):
            if objects_of(document.get(key)):
                starts_none = sentence("starts no {kind}", kind=label)
                builder.report_omitted(subject, starts_none, ARE_NOT_IMPORTED(), CREATE_THEM())
        if objects_of(document.get("group_contact_notifications")) or objects_of(document.get("group_contacts")):
            difference, remedy = sentence("does not notify group contacts"), sentence("Add them to the policy's steps.")
            builder.report_omitted(subject, difference, ARE_NOT_IMPORTED(), remedy)


def _step(builder: ConfigBuilder, member_role: JsonObject, subject: Reason) -> dict[str, Any]:
    role = text_of(member_role, "member_role_type", "role").lower()
    if role not in _MEMBER_ROLES:
        notifies_none = sentence("notifies no {role}", role=role or "role")
        builder.report_omitted(subject, notifies_none, KNOWN_ROLES(), USE_KNOWN_ROLE())
        return {}
    step: dict[str, Any] = {
        "notify": {"roles": [_MEMBER_ROLES[role]]},
        "after": _minutes(int_of(member_role, "role_wait_time_in_mins")),
    }
    if member_interval := int_of(member_role, "wait_time_between_members_in_mins"):
        step["sequential"] = _minutes(member_interval)
    retries, interval = int_of(member_role, "no_of_retries"), int_of(member_role, "retry_interval")
    if retries and interval:
        step["retries"] = {"times": min(retries, MAX_STEP_RETRIES), "every": _minutes(interval)}
    methods = [_method(item) for item in _in_sequence(member_role, "contact_methods") if text_of(item, _LABEL)]
    return step | ({"methods": methods[:20]} if methods else {})


def _method(source_method: JsonObject) -> dict[str, Any]:
    method: dict[str, Any] = {"label": text_of(source_method, _LABEL)[:100]}
    if delay := int_of(source_method, "wait_time_in_mins"):
        method["wait"] = _minutes(delay)
    times, interval = int_of(source_method, "repeat_times"), int_of(source_method, "repeat_minutes")
    if source_method.get("repeat") and times and interval:
        method["repeat"] = {"times": min(times, MAX_RULE_REPEATS), "every": _minutes(interval)}
    return method


def _minutes(minutes: int) -> str:
    return inputs.write_duration(timedelta(minutes=min(minutes, 1440)))


# ---------- schedules
# Converts AlertOps' shifts, with one schedule per group. Pure.
#
# Where shifts overlap, the shorter one prevails in AlertOps, so it gets the higher layer.


_DAYS = tuple(day.short for day in Weekday)
_ALL = frozenset(range(len(Weekday)))
_ALWAYS = weekly_windows.write((WeeklyWindow(_ALL, 0, weekly_windows.MINUTES_A_DAY),))


def schedules(builder: ConfigBuilder) -> None:
    """Adds one schedule for each group that has shifts."""
    for group in builder.documents("groups"):
        shifts = [item for item in objects_of(group.get("schedules")) if item.get("enabled") is not False]
        name = builder.groups.get(text_of(group, "group_name", "name").casefold())
        if name and shifts:
            _schedule(builder, name, group, shifts)


def _schedule(builder: ConfigBuilder, group: str, document: JsonObject, shifts: list[JsonObject]) -> None:
    zone = next((zone_name for item in shifts if (zone_name := known_zone(text_of(item, "time_zone")))), "UTC")
    layers = _layers(shifts)
    entries: list[dict[str, Any]] = []
    used_names: set[str] = set()
    for shift, layer in zip(shifts, layers, strict=True):
        subject = sentence("group {group}: shift {shift}", group=group, shift=text_of(shift, "schedule_name", "name"))
        shift_zone = builder.resolve_zone(shift.get("time_zone"), subject, zone)
        try:
            converted = _shifts(builder, shift, document, subject)
        except (UnsupportedRotation, ValueError) as problem:
            builder.report_omitted(subject, reasons.NOT_IN_SCHEDULE(), why_unsupported(problem), reasons.ADD_SHIFT())
            continue
        placed: dict[str, Any] = {"layer": layer} if layer != 1 else {}
        placed |= {"time_zone": shift_zone} if shift_zone != zone else {}
        entries += [{"name": unique_name(item.pop("name"), used_names), **placed, **item} for item in converted]
        if shift.get("is_holiday_notify") is False:
            builder.report_changed(
                subject,
                sentence("is on call on holidays too"),
                sentence("AlertOps respects holidays."),
                sentence("Add a holiday calendar, and `skip`."),
            )
    if entries:
        name = builder.claim_name("schedules", group)
        builder.add("schedules", {"name": name, "group": group, "time_zone": zone, "shifts": entries})


def _layers(shifts: list[JsonObject]) -> list[int]:
    """A layer per shift: the longer a shift's total duration, the lower; endless ones are ordered by their hours per
    week."""

    def duration_key(shift: JsonObject) -> tuple[int, int]:
        start, end = _date(shift, "start_date"), _date(shift, "end_date")
        days = (end - start).days if start and end else 10**6
        try:
            minutes = sum(item.length * len(item.days) for item in _windows(shift)) or weekly_windows.MINUTES_A_WEEK
        except (UnsupportedRotation, ValueError):
            minutes = weekly_windows.MINUTES_A_WEEK
        return days, minutes

    order = sorted({duration_key(shift) for shift in shifts}, reverse=True)
    return [min(order.index(duration_key(shift)) + 1, MAX_LAYERS) for shift in shifts]


def _shifts(builder: ConfigBuilder, shift: JsonObject, group: JsonObject, subject: Reason) -> list[dict[str, Any]]:
    end = _date(shift, "end_date")
    if end is not None and end < builder.now.date() - timedelta(days=1):
        return []
    name = clean_name(text_of(shift, "schedule_name", "name"), "Shift")
    start = _date(shift, "start_date") or builder.now.date()
    bounds = {"start": start.isoformat()} | ({"end": end.isoformat()} if end is not None else {})
    windows = weekly_windows.write(_windows(shift))
    if text_of(shift, "schedule_type").lower().startswith("rotat"):
        rotations = _rotations(builder, shift, windows, subject)
        return [
            {"name": name if len(rotations) == 1 else f"{name}, {number}", "rotate": rotate, **bounds}
            for number, rotate in enumerate(rotations, 1)
        ]
    interval = int_of(object_of(shift.get("repeat_schedule")), "every_x_weeks", 1)
    pattern: dict[str, Any] = {"windows": windows} | ({"every": f"{interval}w"} if 1 < interval <= 52 else {})
    if shift.get("include_all_users_in_group"):
        keys = [_key(item, "member") for item in objects_of(group.get("members"))]
        users = [builder.users[key] for key in keys if key in builder.users]
        by_role = {"own": users} if users else {}
    else:
        by_role = {}
        for item in objects_of(shift.get("users")):
            if (key := _key(item, "user")) in builder.users:
                for role in convert_roles(builder, item.get("role") or "primary", subject):
                    by_role.setdefault(role, []).append(builder.users[key])
    if not by_role:
        raise UnsupportedRotation(sentence("No imported user has it."))
    return [
        {
            "name": name if len(by_role) == 1 else f"{name}, {role}",
            "fixed": {**pattern, "users": list(dict.fromkeys(users)), "roles": [role]},
            **bounds,
        }
        for role, users in by_role.items()
    ]


def _rotations(
    builder: ConfigBuilder, shift: JsonObject, windows: list[dict[str, object]], subject: Reason
) -> list[dict[str, Any]]:
    """Converts a rotation through places, each with a fixed role.

    In Tocsin a rotation's places must have different roles, so if roles repeat, each place becomes a rotation of its
    own that starts with the user who is first in it.
    """
    assignments = [item for item in objects_of(shift.get("users")) if _key(item, "user") in builder.users]
    users = [builder.users[_key(item, "user")] for item in assignments]
    roles = [(convert_roles(builder, item.get("role") or "primary", subject) or ["primary"])[0] for item in assignments]
    if len(set(users)) < len(users):
        raise UnsupportedRotation(sentence("A user is in its order twice."))
    frequency = text_of(shift, "rotate_frequency").lower()
    rule = object_of(shift.get(f"rotate_{frequency}"))
    units = {"daily": ("every_x_days", "d"), "weekly": ("every_x_weeks", "w"), "monthly": ("every_x_months", " months")}
    if frequency not in units or not users:
        raise UnsupportedRotation(sentence("No imported user has it, or its frequency cannot be read."))
    key, unit = units[frequency]
    at = object_of(rule.get("rotate_at_time"))
    rotate: dict[str, Any] = {
        "every": f"{int_of(rule, key, 1) or 1}{unit}",
        "at": f"{int_of(at, 'hour'):02}:{int_of(at, 'minute'):02}",
    }
    if frequency == "weekly" and (day := text_of(rule, "rotate_at_day_of_week")):
        rotate["on"] = str(weekly_windows.parse_weekday(day[:3] if len(day) > 3 else day))
    step = int_of(rule, "rotate_x_users", 1) or 1
    rotate |= {"move": step} if step != 1 else {}
    rotate |= {"windows": windows} if windows != _ALWAYS else {}
    if len(set(roles)) == len(roles):
        return [rotate | {"users": users, "roles": roles}]
    return [rotate | {"users": [*users[index:], *users[:index]], "roles": [role]} for index, role in enumerate(roles)]


def _windows(shift: JsonObject) -> tuple[WeeklyWindow, ...]:
    """The weekly windows of a shift. An end at minute 59 means the full hour after it."""
    start, end = (_minute(object_of(shift.get(key))) for key in ("start_date", "end_date"))
    if end % 60 == 59:
        end += 1
    if shift.get("continuous") and text_of(shift, "start_weekday") and text_of(shift, "end_weekday"):
        first_day = weekly_windows.parse_weekday(text_of(shift, "start_weekday")[:3]).number
        last_day = weekly_windows.parse_weekday(text_of(shift, "end_weekday")[:3]).number
        minutes = ((last_day - first_day) * weekly_windows.MINUTES_A_DAY + end - start) % weekly_windows.MINUTES_A_WEEK
        return (window(first_day, start, minutes or weekly_windows.MINUTES_A_WEEK),)
    weekdays = object_of(shift.get("schedule_weekdays"))
    enabled_days = {str(name).lower()[:3] for name, is_on in weekdays.items() if is_on is True}
    days = frozenset(index for index, name in enumerate(_DAYS) if name in enabled_days) or _ALL
    minutes = (end - start) % weekly_windows.MINUTES_A_DAY or weekly_windows.MINUTES_A_DAY
    if minutes == weekly_windows.MINUTES_A_DAY and start == 0:
        return (WeeklyWindow(days, 0, weekly_windows.MINUTES_A_DAY),)
    return combine([window(day, start, minutes) for day in sorted(days)])


def _minute(time_of_day: JsonObject) -> int:
    minutes = int_of(time_of_day, "hour") * 60 + int_of(time_of_day, "minute")
    if minutes > weekly_windows.MINUTES_A_DAY:
        raise UnsupportedRotation(sentence("Its hours cannot be read."))
    return minutes


def _date(shift: JsonObject, key: str) -> date | None:
    text = text_of(object_of(shift.get(key)), "date")
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        return None


def _key(document: JsonObject, name: str) -> str:
    return text_of(document, name, "user_name").casefold()


# ---------- integrations
# Converts AlertOps' inbound integrations, with mappings, rules and filters, which use the same path syntax. Pure.


_KINDS = {"email": "email", "heartbeat": "heartbeat", "chat": "api", "api": "api"}
_FIELDS = {
    "source_id": "source_id",
    "source_status": "source_status",
    "source_url": "source_url",
    "source_severity": "severity",
    "severity": "severity",
    "assignee": "assignee",
    "subject": "subject",
    "short_text": "short_text",
    "long_text": "long_text",
}
#: Parts of an AlertOps mapping that are not converted.
_NOT_MAPPED = ("recipient_user", "recipient_group", "topic", "custom_alert_fields", "alert_tags", "attachments")
#: The keys of each kind's settings in AlertOps.
_SETTINGS = ("api_settings", "email_settings", "heartbeat_settings", "chat_settings")
#: Advanced settings without an equivalent: their keys, and the finding's text, reason and remedy.
_ADVANCED = (
    (
        ("delaying_rule",),
        sentence("opens alerts immediately"),
        sentence("AlertOps waits for more alerts, or for support hours."),
        sentence("Delay them on the Routing tab, or add a route for support hours."),
    ),
    (
        ("grouping_rule",),
        sentence("does not group alerts"),
        sentence("AlertOps groups its alerts."),
        sentence("Group them on the Routing tab."),
    ),
    (
        ("escalation_policy_override", "escalation_policy_overrides", "based_on_time_of_day", "based_on_source_data"),
        sentence("has one policy for all alerts"),
        sentence("AlertOps chooses another by time of day or by the message."),
        ADD_ROUTES(),
    ),
    (
        ("dynamic_recipient_groups",),
        sentence("has the same recipients for all alerts"),
        sentence("AlertOps chooses groups by the message."),
        ADD_ROUTES(),
    ),
)
#: The path of Halo's status; the built-in field also covers its other locations.
_HALO_STATUS = "ticket^status^name"
#: In minutes.
_MAX_INTERVAL_MINUTES = 60 * 24 * 365
_OPERATORS = {str(operator): str(operator) for operator in Operator} | {"regex": "matches", "is": "equals"}


def integrations(builder: ConfigBuilder) -> None:
    """Adds every inbound integration."""
    for document in builder.documents("integrations"):
        source_name = text_of(document, "inbound_integration_name", "integration_name", "name")
        name = builder.claim_name("integrations", source_name)
        source_type = text_of(document, "type").lower() or "api"
        is_halo = source_type == "api" and "halo" in source_name.lower()
        kind = "haloitsm" if is_halo else _KINDS.get(source_type, "api")
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if document.get("enabled") is False:
            entry["mode"] = "disabled"
        subject = reasons.INTEGRATION(integration=name)
        recipients = {
            "groups": _recipient_names(builder, document.get("recipient_groups"), builder.groups, subject),
            "users": _recipient_names(builder, document.get("recipient_users"), builder.users, subject),
        }
        entry["recipients"] = {key: names for key, names in recipients.items() if names}
        policy = builder.policies.get(text_of(document, "escalation_policy", "escalation_policy_name").casefold())
        # A policy with roles reaches nobody without a group.
        entry |= {"escalation_policy": policy} if policy else {}
        if policy is None or not recipients["groups"]:
            entry["anyway"] = True
            builder.report_grouped(
                FindingSeverity.TO_DO,
                "integrations",
                name,
                sentence("have no policy, or no group for its roles"),
                sentence("Their policy or recipients could not be imported."),
                sentence("Choose them on the Settings tab."),
            )
        entry |= _kind_settings(builder, kind, document, subject)
        builder.add("integrations", entry)
        remedy = sentence("Change their URL to the one on the integration's Overview tab.")
        builder.report_senders(name, reasons.WAIT_FOR_SENDERS(), STILL_SEND(), remedy)


def _kind_settings(builder: ConfigBuilder, kind: str, document: JsonObject, subject: Reason) -> dict[str, Any]:
    """The kind-specific part of the entry; reports what has no equivalent."""
    settings = {key: object_of(document.get(key)) for key in _SETTINGS}
    for keys, difference, reason, remedy in _ADVANCED:
        if any(_is_used(section.get(key)) for section in (document, *settings.values()) for key in keys):
            builder.report_omitted(subject, difference, reason, remedy)
    match kind:
        case "heartbeat":
            interval = int_of(settings["heartbeat_settings"], "heartbeat_interval_in_min")
            return {"settings": {"interval": f"{interval}m"}} if 0 < interval <= _MAX_INTERVAL_MINUTES else {}
        case "email":
            email = settings["email_settings"]
            if any(
                _is_used(section.get("open_alert_when")) for section in (email, object_of(email.get("url_mapping")))
            ):
                builder.report_omitted(
                    subject,
                    sentence("opens an alert for every email"),
                    sentence("Its rules in AlertOps take texts from between two markers."),
                    sentence("Set them on the Rules tab."),
                )
            return {}
        case _:
            return _definition(builder, kind, settings["api_settings"], subject)


def _is_used(value: object) -> bool:
    """Whether an advanced setting has any effect: a non-empty list, or an object that is enabled."""
    if isinstance(value, dict):
        switches = [value[key] for key in ("delay", "group") if key in value]
        return any(switches) if switches else any(_is_used(item) for item in value.values())
    return bool(value)


def _definition(builder: ConfigBuilder, kind: str, settings: JsonObject, subject: Reason) -> dict[str, Any]:
    """Custom mapping, rules and filters; omitted if they cannot be compiled."""
    mapping = object_of(settings.get("url_mapping"))
    definition: dict[str, Any] = {}
    # The built-in kind reads Halo's tickets better than a manual mapping.
    fields = {
        field_name: _value(text)
        for source_field, field_name in _FIELDS.items()
        if (text := text_of(mapping, source_field))
    }
    if fields and kind == "api":
        definition["mapping"] = fields
    for name in (name for name in _NOT_MAPPED if _is_used(mapping.get(name))):
        builder.report_omitted(
            subject,
            sentence("has no {field}", field=name),
            sentence("It is not imported."),
            sentence("Map it on the Mapping tab."),
        )
    # AlertOps compares letters. For the usual statuses the kind's own rule, which reads words, means the same.
    default_rules = load_kinds()[kind].rules
    if rules := {
        name: rule
        for name, rule in _rules(builder, mapping, subject).items()
        if default_rules.get(name) not in (rule, {**rule, "words": True})
    }:
        definition["rules"] = rules
    filter_groups = (_filter(builder, settings, mode, subject) for mode in ("all", "any"))
    filters = [filter_group for filter_group in filter_groups if filter_group]
    if filters:
        definition["filters"] = {"all": filters}
    if not definition:
        return {}
    try:
        compile_normalizer(load_kinds()[kind], IntegrationDefinition(**{"settings": {}, **definition}))
    except (Rejected, TypeError, ValueError, KeyError) as problem:
        unusable = problem.reason if isinstance(problem, Rejected) else str(problem)[:200]
        builder.report_omitted(
            subject,
            sentence("has no custom mapping and rules"),
            sentence("They cannot be used in Tocsin: {problem}", problem=unusable),
            sentence("Map the first message on the Mapping tab."),
        )
        return {}
    return definition


def _rules(builder: ConfigBuilder, mapping: JsonObject, subject: Reason) -> dict[str, Any]:
    """The open and close rules. Only the open rule names a field, which the close rule shares."""
    field = text_of(object_of(mapping.get("open_alert_when")), "field_name")
    field_expression = f"^{field}" if field and field.casefold() != _HALO_STATUS else "source_status"
    rules: dict[str, Any] = {}
    for name in ("open", "close"):
        rule = object_of(mapping.get(f"{name}_alert_when"))
        raw_values = rule.get("values")
        values = [str(value) for value in raw_values if str(value).strip()] if isinstance(raw_values, list) else []
        operator = _OPERATORS.get(text_of(rule, "type").lower().replace("_", " "))
        if values and operator and (name == "open" or "open" in rules):
            conditions = [{"field": field_expression, "operator": operator, "value": value} for value in values]
            rules[name] = conditions[0] if len(conditions) == 1 else {"any": conditions}
        elif values:
            builder.report_omitted(
                subject,
                sentence(
                    "does not {action} by its own rule ({operator} {values})",
                    action=name,
                    operator=text_of(rule, "type"),
                    values=", ".join(values)[:100],
                ),
                sentence("Tocsin has no such comparison, or the open rule is missing."),
                sentence("Set it on the Rules tab."),
            )
    return rules


def _value(text: str) -> dict[str, str]:
    """A path, or a template if the text contains angle brackets."""
    return {"template": text} if "<" in text else {"path": text}


def _filter(builder: ConfigBuilder, settings: JsonObject, mode: str, subject: Reason) -> dict[str, Any]:
    conditions = []
    for item in objects_of(object_of(settings.get(f"add_{mode}_filter")).get("filters")):
        condition = object_of(item.get("condition"))
        source_operator, field = text_of(condition, "type"), text_of(condition, "field_name")
        operator = _OPERATORS.get(source_operator.lower().replace("_", " "))
        if operator and field:
            leaf: dict[str, Any] = {"field": f"^{field}", "operator": operator}
            if operator != Operator.EXISTS:
                leaf["value"] = text_of(condition, "value")
            conditions.append(leaf | ({"not": True} if item.get("not") is True else {}))
        elif field or source_operator:
            builder.report_omitted(
                subject,
                sentence(
                    "does not filter by {field} ({condition})",
                    field=field or "nothing",
                    condition=f"{source_operator} {text_of(condition, 'value')}".strip()[:100],
                ),
                sentence("Tocsin has no such comparison."),
                sentence("Add a filter on the Rules tab."),
            )
    return {mode: conditions} if conditions else {}


def _recipient_names(builder: ConfigBuilder, recipients: object, names: dict[str, str], subject: Reason) -> list[str]:
    """The names of the imported recipients, without duplicates."""
    items = recipients if isinstance(recipients, list) else []
    source_names = [
        text_of(item, "group_name", "user_name", "name") if isinstance(item, dict) else str(item) for item in items
    ]
    for missing in (item for item in source_names if item.casefold() not in names):
        builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=missing[:100] or "somebody"),
            reasons.UNKNOWN_HERE(),
            sentence("Choose the recipient on the Settings tab."),
        )
    return list(dict.fromkeys(names[item.casefold()] for item in source_names if item.casefold() in names))


# ---------- product


def _convert(builder: ConfigBuilder) -> None:
    convert_users(builder)
    convert_groups(builder)
    schedules(builder)
    policies(builder)
    integrations(builder)
    builder.report_kind_omitted("workflows", "workflows", sentence("Workflows are not imported."), CREATE_THEM())
    builder.report_to_do(
        sentence("out of office"),
        reasons.NOT_READ(),
        sentence("Its format in the API is not documented."),
        sentence("Enter who is away, and who covers."),
    )


#: AlertOps has one key for all integrations, so none is used as a token.
convert = converter("AlertOps", ConfigBuilder, _convert)

PRODUCT = Product(
    name="alertops",
    title="AlertOps",
    base="https://api.alertops.com",
    api_path="/api/v2",
    key_variable="ALERTOPS_API_KEY",
    key_location=translatable("Administration → Subscription Settings, or your profile"),
    key_help=CREATE_KEY(),
    headers=lambda key: {"api-key": key},
    fetch=fetch,
    convert=convert,
)
