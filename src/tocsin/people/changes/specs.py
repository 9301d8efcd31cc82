"""Parses and validates users, contact methods and groups from YAML, the API and forms. The commands resolve names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from tocsin.access.roles import Role
from tocsin.core.errors import Rejected
from tocsin.core.validation.object_reader import DUPLICATE, NOT_A_CHOICE, ObjectReader
from tocsin.people import addresses, notification_rules
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import NotificationRules

LANGUAGES = ("en", "de")


@dataclass(frozen=True, slots=True)
class ContactSpec:
    """One contact method."""

    label: str
    channel: str
    address: str
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class UserSpec:
    """A user. None for `contact_methods`, `notification_rules` or `language` leaves the current value.

    `rules_spec` records errors in the rules that can only be found once all labels are known.
    """

    username: str
    name: str
    email: str
    role: Role
    time_zone: str
    is_active: bool
    language: str | None
    contact_methods: tuple[ContactSpec, ...] | None
    notification_rules: NotificationRules | None = None
    rules_spec: ObjectReader | None = None


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """A member of a group, by username, with its place in the spec."""

    user: str
    roles: tuple[MemberRole, ...]
    path: str


@dataclass(frozen=True, slots=True)
class GroupContactSpec:
    """A contact of a whole group."""

    label: str
    channel: str
    address: str


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group."""

    name: str
    description: str
    time_zone: str
    members: tuple[MemberSpec, ...]
    contacts: tuple[GroupContactSpec, ...]


def read_user(value: object, default_zone: str) -> UserSpec:
    """Parses a user. Raises Rejected, or RejectedAll, naming each field."""
    spec = ObjectReader(value)
    rules = spec.nested("notification_rules")
    user = UserSpec(
        username=spec.name("username"),
        name=spec.line("name"),
        email=_email(spec),
        role=spec.one_of("role", Role, Role.RESPONDER),
        time_zone=spec.time_zone(default=default_zone),
        is_active=spec.boolean("active", True),
        language=_language(spec),
        contact_methods=_contact_methods(spec) if spec.has("contact_methods") else None,
        notification_rules=notification_rules.read(rules) if rules is not None else None,
        rules_spec=rules,
    )
    spec.finish()
    return user


def read_contact_method(value: object) -> ContactSpec:
    """Parses a contact method. Raises Rejected, or RejectedAll, naming each field."""
    spec = ObjectReader(value)
    method = _contact_method(spec)
    spec.raise_errors()
    return method


def read_group(value: object, default_zone: str) -> GroupSpec:
    """Parses a group. Raises Rejected, or RejectedAll, naming each field."""
    spec = ObjectReader(value)
    group = GroupSpec(
        name=spec.name(),
        description=spec.text("description", max_length=2000),
        time_zone=spec.time_zone(default=default_zone),
        members=_members(spec),
        contacts=tuple(_group_contact(contact) for contact in spec.nested_list("contacts")),
    )
    _reject_duplicates(spec, "contacts", [contact.label for contact in group.contacts])
    spec.finish()
    return group


def _email(spec: ObjectReader) -> str:
    email = spec.text("email", required=True, max_length=254)
    if email:
        try:
            # Lower case, as django-allauth stores and looks up addresses.
            return addresses.email(email).lower()
        except Rejected as rejected:
            spec.add_error("email", rejected.reason, "invalid_address")
    return email


def _language(spec: ObjectReader) -> str | None:
    if not spec.has("language"):
        return None
    language = spec.text("language", max_length=10)
    if language and language not in LANGUAGES:
        spec.add_error("language", NOT_A_CHOICE(value=language, choices=LANGUAGES))
    return language


def _contact_methods(spec: ObjectReader) -> tuple[ContactSpec, ...]:
    methods = tuple(_contact_method(method) for method in spec.nested_list("contact_methods"))
    _reject_duplicates(spec, "contact_methods", [method.label for method in methods])
    return methods


def _contact_method(spec: ObjectReader) -> ContactSpec:
    label = spec.line("label", required=True, max_length=100)
    channel, address = _address(spec)
    times, every = notification_rules.read_repeat(spec)
    method = ContactSpec(
        label=label,
        channel=channel,
        address=address,
        wait=spec.duration("wait", timedelta(), maximum=notification_rules.MAX_RULE_DELAY),
        repeat_times=times,
        repeat_every=every,
        is_enabled=spec.boolean("enabled", True),
    )
    spec.reject_unknown_keys()
    return method


def _group_contact(spec: ObjectReader) -> GroupContactSpec:
    label = spec.line("label", required=True, max_length=100)
    channel, address = _address(spec)
    spec.reject_unknown_keys()
    return GroupContactSpec(label, channel, address)


def _address(spec: ObjectReader) -> tuple[str, str]:
    channel = spec.text("channel", required=True, max_length=20)
    address = spec.text("address", required=True, max_length=addresses.MAX_ADDRESS_CHARS)
    if channel and address:
        try:
            address = addresses.validate_address(channel, address)
        except Rejected as problem:
            spec.add_error("channel" if problem.code == "unknown_channel" else "address", problem.reason, problem.code)
    return channel, address


def _members(spec: ObjectReader) -> tuple[MemberSpec, ...]:
    members = []
    for entry in spec.nested_list("members"):
        user = entry.text("user", required=True)
        roles = []
        for index, role in enumerate(entry.texts("roles")):
            if role in list(MemberRole):
                roles.append(MemberRole(role))
            else:
                entry.add_error(f"roles[{index}]", NOT_A_CHOICE(value=role, choices=tuple(MemberRole)))
        entry.reject_unknown_keys()
        members.append(MemberSpec(user, tuple(role for role in MemberRole if role in roles), entry.path("user")))
    _reject_duplicates(spec, "members", [member.user for member in members])
    return tuple(members)


def _reject_duplicates(spec: ObjectReader, key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name and name.casefold() in seen:
            spec.add_error(f"{key}[{index}]", DUPLICATE(value=name), "name_taken")
        seen.add(name.casefold())
