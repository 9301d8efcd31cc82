"""Changes users and their contact methods: validates, writes the audit log, and makes all nodes reload.

A spec has the form of YAML and the API. The caller checks permissions first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Lower
from pydantic import AfterValidator, Field, PlainSerializer, ValidationInfo

from tocsin.access import audit, boundary, tokens
from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole, Role
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Person, Text, as_reason, sentence, translatable
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import NO_SUCH_CONTACT_METHOD, NOT_A_CHOICE, fold_login, raise_all, rejected_at
from tocsin.core.validation.spec import (
    Duration,
    InForm,
    InvalidValue,
    Line,
    ListOf,
    Name,
    OneOf,
    Spec,
    SpecErrors,
    TimeOfDay,
    TimeZone,
    at_most,
    list_of,
    list_of_choices,
    reading_context,
)
from tocsin.people import addresses, notification_rules, permissions, sign_in_rules
from tocsin.people.models import ContactMethod, User
from tocsin.people.notification_rules import NotificationRules, RepeatSpec, RuleDelay

# ---------- specs
# Users, contact methods and groups as YAML, the API and forms write them. The commands resolve names.


MAX_CLIENTS = 100


LANGUAGES = tuple(code for code, _name in settings.LANGUAGES)


def _email(text: str) -> str:
    try:
        # Lower case, as django-allauth stores and looks up addresses.
        return fold_login(addresses.email(text))
    except Rejected as rejection:
        raise InvalidValue(rejection.reason, rejection.code) from None


def _channel(text: str) -> str:
    if text not in addresses.channels():
        raise InvalidValue(addresses.unknown_channel(text), "unknown_channel")
    return text


def _address(text: str, info: ValidationInfo) -> str:
    channel = info.data["channel"]
    try:
        return addresses.validate_address(channel, text) if channel else text
    except Rejected as rejection:
        raise InvalidValue(rejection.reason, rejection.code) from None


Email = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(_email)]

#: The name of a user.
Username = Annotated[str, Field(min_length=1, max_length=200)]

ContactLabel = Annotated[Line, Field(min_length=1, max_length=100)]

Channel = Annotated[str, Field(min_length=1, max_length=20), AfterValidator(_channel)]

#: An address in the form of the channel, which is read before it.
Address = Annotated[str, Field(min_length=1, max_length=addresses.MAX_ADDRESS_CHARS), AfterValidator(_address)]


class ContactSpec(Spec):
    """One contact method."""

    label: ContactLabel = Field(description="Name of the contact method, unique for its user.")
    channel: Channel = Field(description="Channel, such as `email` or `sms`.")
    address: Address = Field(
        description="Address in the form of the channel, such as a phone number with country code."
    )
    repeat: RepeatSpec = Field(default=RepeatSpec(), description="Repeats of a page.")
    wait: RuleDelay = Field(default=timedelta(), description="Delay after the escalation step.")
    is_enabled: bool = Field(default=True, alias="enabled", description="Whether the contact method is used.")


#: The name of a client, as alerts have it; case does not matter.
ClientName = Annotated[Line, Field(min_length=1, max_length=200)]


class UserSpec(Spec):
    """A user. Without `contact_methods`, `notification_rules` or `language`, these stay unchanged."""

    notification_rules: NotificationRules | None = Field(
        default=None, description="When and by which contact methods the user is paged. Default: unchanged."
    )
    username: Name = Field(description="Unique name, for sign-in and references.")
    name: Line = Field(default="", max_length=200, description="Full name, shown to other users.")
    email: Email = Field(description="Email address, for sign-in and password resets.")
    role: Annotated[Role, OneOf()] = Field(
        default=Role.RESPONDER, description="Role, which decides what the user may do."
    )
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of the user. Default: the setting `time_zone`."
    )
    is_active: bool = Field(default=True, alias="active", description="Whether the user can sign in and is paged.")
    is_break_glass: bool | None = Field(
        default=None,
        alias="break_glass",
        description="Whether the user may sign in with a password even if only single sign-on is allowed. Default: "
        "unchanged.",
    )
    language: Annotated[str, OneOf(("", *LANGUAGES))] | None = Field(
        default=None,
        description="Language of the web interface and of messages; empty: that of the browser. Default: unchanged.",
    )
    clients: ListOf[ClientName] = Field(
        default=(),
        max_length=MAX_CLIENTS,
        description="Makes an observer a client observer, who sees the alerts and reports of these clients only.",
    )
    contact_methods: ListOf[ContactSpec] | None = Field(
        default=None,
        description="Contact methods, in the order of use. Default: unchanged; a new user gets one by email.",
    )

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("contact_methods", (method.label for method in self.contact_methods or ()))
        if self.clients and self.role is not Role.OBSERVER:
            errors.add("clients", sentence("are possible with the role observer only."))


_MemberRoles = Annotated[
    tuple[MemberRole, ...],
    list_of_choices(MemberRole),
    AfterValidator(lambda roles: tuple(role for role in MemberRole if role in roles)),
]


#: A role in a group. Nobody administers a single group; empty: the user's own role.
GroupRole = Annotated[str, OneOf(("", Role.RESPONDER, Role.MANAGER))]


class MemberSpec(Spec):
    """A member of a group."""

    user: Username = Field(description="Username of the member.")
    role: GroupRole | None = Field(
        default=None, description="Role for this group's objects, if higher than the user's own. Default: unchanged."
    )
    roles: _MemberRoles = Field(default=(), description="On-call roles of the member, where no schedule applies.")


class GroupContactSpec(Spec):
    """A contact of a whole group."""

    label: ContactLabel = Field(description="Name of the contact, unique in its group.")
    channel: Channel = Field(description="Channel of the address.")
    address: Address = Field(description="Address in the form of the channel.")


class AnnouncementTopic(StrEnum):
    """What an announcement is about."""

    ON_CALL = "on_call"
    HANDOVERS = "handovers"
    WEEK = "week"
    GAPS = "gaps"
    MAINTENANCE = "maintenance"


#: What is announced at the time of day, the week on Fridays.
TIMED = frozenset({AnnouncementTopic.ON_CALL, AnnouncementTopic.WEEK, AnnouncementTopic.GAPS})

MAX_ANNOUNCEMENTS = 10

_USER_GROUP = re.compile(r"[a-z]+:[A-Za-z0-9]+")
_NO_TOPIC = Text("choose what is announced, or enter a user group.")
_NO_CONTACT = Text("The group has no contact. Add one, such as a chat channel.")
_UNKNOWN_CONTACT = Text('The group has no contact "{label}".')


def _user_group(address: str) -> str:
    if address and not _USER_GROUP.fullmatch(address):
        raise InvalidValue(sentence('"{value}" is not a user group; write it like slack:S0614TZR7.', value=address))
    return address


class AnnouncementSpec(Spec):
    """What contacts of a group are notified of."""

    topics: Annotated[tuple[AnnouncementTopic, ...], list_of_choices(AnnouncementTopic)] = Field(
        default=(),
        description="What is announced: who is on call (`on_call`, daily), `handovers`, the plan of the next `week` "
        "(on Fridays), `gaps` of the next 7 days (daily, if there are any), `maintenance` announced to the group.",
    )
    contacts: Annotated[tuple[str, ...], list_of(str, {})] = Field(
        default=(), description="Labels of the contacts that are notified. Default: all contacts of the group."
    )
    at: Annotated[TimeOfDay, PlainSerializer(inputs.format_time, return_type=str)] = Field(
        default=8 * 60, description="Local time in the group's time zone, such as `08:00`."
    )
    roles: _MemberRoles = Field(default=(), description="On-call roles that are named. Default: all.")
    language: Annotated[str, OneOf(LANGUAGES)] = Field(default="en", description="Language of the messages.")
    user_group: Annotated[str, AfterValidator(_user_group)] = Field(
        default="",
        max_length=60,
        description="User group of a chat service whose members are those on call, such as `slack:S0614TZR7`.",
    )

    def check(self, errors: SpecErrors) -> None:
        if not self.topics and not self.user_group and not errors:
            errors.add("topics", _NO_TOPIC(), "missing")


class GroupSpec(Spec):
    """A group of users who are paged together."""

    name: Annotated[Name, InForm(_("Name"))]
    description: Annotated[str, InForm(_("Description"), widget="long text")] = Field(
        default="", max_length=2000, description="Description, shown to users."
    )
    time_zone: Annotated[TimeZone | None, InForm(_("Time zone"), widget="zone", is_required=True)] = Field(
        default=None, description="Time zone of the group. Default: the setting `time_zone`."
    )
    members: ListOf[MemberSpec] = Field(default=(), description="Members, in the order in which they are paged.")
    contacts: ListOf[GroupContactSpec] = Field(default=(), description="Addresses of the whole group.")
    announcements: ListOf[AnnouncementSpec] = Field(
        default=(), max_length=MAX_ANNOUNCEMENTS, description="What its contacts are notified of."
    )

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("contacts", (contact.label for contact in self.contacts))
        errors.add_duplicates("members", (member.user for member in self.members))
        known = {contact.label.casefold() for contact in self.contacts}
        for index, announcement in enumerate(self.announcements):
            if announcement.topics and not known:
                errors.add(f"announcements[{index}].contacts", _NO_CONTACT(), "missing")
            for number, label in enumerate(announcement.contacts):
                if known and label.casefold() not in known:
                    errors.add(f"announcements[{index}].contacts[{number}]", _UNKNOWN_CONTACT(label=label), "not_found")


# ---------- reminder rules
# Shift reminders: how long before a shift, and by which contact method. A user has at most three.


MAX_REMINDERS = 3
MAX_LEAD_TIME = timedelta(days=30)

_TOO_MANY = Text("a user can have at most {count} reminder.", "a user can have at most {count} reminders.")


def _lead_time(duration: timedelta) -> timedelta:
    if duration < timedelta(minutes=1):
        raise InvalidValue(sentence("must be at least 1m before the shift, such as 1h."), "missing")
    return duration


def _known_label(label: str, info: ValidationInfo) -> str:
    """Returns the label as its contact method has it."""
    labels = reading_context(info).get("labels")
    if labels is None or not label:
        return label
    if label.casefold() not in labels:
        raise InvalidValue(NO_SUCH_CONTACT_METHOD(label=label), "not_found")
    return str(labels[label.casefold()])


class ReminderSpec(Spec):
    """A reminder of a shift. With `labels` as context, by its case-folded name, the contact method must exist."""

    lead_time: Annotated[Duration, at_most(MAX_LEAD_TIME), AfterValidator(_lead_time)] = Field(
        alias="before", description="How long before the shift the reminder is sent."
    )
    contact_label: Annotated[str, Field(max_length=200), AfterValidator(_known_label)] = Field(
        "", alias="by", description="Label of the contact method. Default: email to the account's address."
    )


def load_rules(stored: Any) -> tuple[ReminderSpec, ...]:
    """Returns the rules from their stored form, which is the form that users write."""
    return ReminderSpec.read_list(stored, "reminders")


def rename_method(stored: Any, old: str, new: str | None) -> list[dict[str, str]]:
    """Returns the stored rules after a method was relabelled, or deleted (`new` is None), which falls back
    to e-mail."""
    rules = [
        rule.model_copy(update={"contact_label": new or ""})
        if rule.contact_label.casefold() == old.casefold()
        else rule
        for rule in load_rules(stored)
    ]
    return [rule.written() for rule in dict.fromkeys(rules)]


def replace_all(user: User, value: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's reminders with a list of specs. Returns False if nothing changed.

    Raises Rejected, naming the field from `reminders` on.
    """
    with boundary.config_command():
        labels = {m.label.casefold(): m.label for m in ContactMethod.objects.filter(user=user)}
        rules = ReminderSpec.read_list(value, "reminders", labels=labels)
        if len(rules) > MAX_REMINDERS:
            raise rejected_at("reminders", _TOO_MANY(count=MAX_REMINDERS))
        stored = [rule.written() for rule in sorted(rules, key=lambda rule: -rule.lead_time)]
        if len({(rule.lead_time, rule.contact_label) for rule in rules}) < len(rules):
            raise rejected_at("reminders", sentence("the same reminder is listed twice."))
        current = User.objects.get(pk=user.pk).reminders
        if current == stored:
            return False
        User.objects.filter(pk=user.pk).update(reminders=stored)
        before, after = {"reminders": current}, {"reminders": stored}
        audit.record_change(actor, now=now, before=before, after=after, **audit.about("user", user))
        settings_store.bump()
    return True


#: Label of the first contact method of a user created without any.
FIRST_LABEL = "Email-Official"

#: Columns that a spec writes for an existing user.
_SPEC_COLUMNS = (
    "username",
    "name",
    "email",
    "role",
    "role_source",
    "clients",
    "time_zone",
    "is_active",
    "is_break_glass",
    "language",
)

#: Actors with the machine's shell, who count as having verified an e-mail address.
_TRUSTED = ("cli", "yaml")


def user_spec(user: User) -> dict[str, Any]:
    """Returns the user in the form of YAML and the API."""
    spec: dict[str, Any] = {"username": user.username}
    if user.name:
        spec["name"] = user.name
    spec |= {"email": user.email, "role": user.role, "time_zone": user.time_zone}
    if user.clients:
        spec["clients"] = list(user.clients)
    if user.language:
        spec["language"] = user.language
    if not user.is_active:
        spec["active"] = False
    if user.is_break_glass:
        spec["break_glass"] = True
    spec["contact_methods"] = [contact_method_spec(method) for method in user.contact_methods.all()]
    if user.notification_rules:
        spec["notification_rules"] = user.notification_rules
    return spec


def contact_method_spec(method: ContactMethod) -> dict[str, Any]:
    """Returns the contact method in the form of YAML and the API."""
    spec: dict[str, Any] = {"label": method.label, "channel": method.channel, "address": method.address}
    if method.wait:
        spec["wait"] = inputs.write_duration(method.wait)
    if method.repeat_times:
        spec["repeat"] = {"times": method.repeat_times, "every": inputs.write_duration(method.repeat_every)}
    if not method.is_enabled:
        spec["enabled"] = False
    return spec


def save_user(
    spec: Mapping[str, object],
    *,
    existing: User | None = None,
    actor: AuditActor,
    now: datetime,
    password: str | None = None,
    contacts_need_code: bool = False,
) -> User:
    """Creates a user, or changes `existing` to match the spec, and sets a password if one is given.

    Without `contact_methods`, an existing user's stay, and a new user gets one by e-mail. With `contacts_need_code`,
    new addresses are not used until the user confirms the code sent to them. Raises Rejected, naming the
    field: for invalid values, a username or e-mail address in use, and the last administrator.
    """
    with boundary.config_command():
        parsed = validate_user(spec, existing=existing, password=password)
        before = user_spec(existing) if existing else None
        user = existing or User()
        if before and not (parsed.is_active and parsed.role is Role.ADMIN):
            _reject_last_administrator(user)
        if before and not (parsed.is_active and parsed.role is Role.ADMIN and parsed.is_break_glass is not False):
            sign_in_rules.reject_last_break_glass(user)
        _write_user(user, parsed, password)
        methods = parsed.contact_methods
        if methods is None and not existing:
            methods = (ContactSpec(label=FIRST_LABEL, channel="email", address=parsed.email),)
        if methods is not None:
            _write_contact_methods(user, methods, actor, needs_code=contacts_need_code)
        _write_notification_rules(user, parsed)
        _write_email(user, is_verified=actor.via in _TRUSTED)
        if parsed.role is Role.ADMIN and parsed.is_active:
            tokens.revoke_all()
        _record(user, before, actor, now)
        if password is not None and existing:
            audit.record(actor, "set_password", now=now, **audit.about("user", user))
    return user


def save_notification_rules(user: User, rules: object, *, actor: AuditActor, now: datetime) -> User:
    """Replaces a user's notification rules only. Raises Rejected, naming the field from `notification_rules` on."""
    return change_own(user, {"notification_rules": rules}, actor=actor, now=now)


def change_own(
    user: User, changes: Mapping[str, object], *, actor: AuditActor, now: datetime, password: str | None = None
) -> User:
    """Changes only the values that users may change about themselves.

    Everything else is read again first, so that a concurrent change, such as the removal of a role, is kept. Raises
    Rejected as `save_user` does, or "not_found" if the user was deleted.
    """
    with boundary.config_command():
        current = User.objects.filter(pk=user.pk).first()
        if current is None:
            raise Rejected("not_found", sentence("This user was deleted."))
        spec = {key: value for key, value in user_spec(current).items() if key != "contact_methods"}
        return save_user({**spec, **changes}, existing=current, actor=actor, now=now, password=password)


def validate_user(spec: Mapping[str, object], *, existing: User | None = None, password: str | None = None) -> UserSpec:
    """Parses the spec and validates the password. Raises Rejected, or RejectedAll, with every error of both."""
    problems: list[Rejected] = []
    parsed = None
    try:
        parsed = UserSpec.read(spec)
        _reject_taken_logins(parsed, existing)
    except RejectedAll as rejected:
        problems.extend(rejected.problems)
    except Rejected as rejected:
        problems.append(rejected)
    if password is not None:
        # Uses the names in an invalid spec too, because a password must not resemble them.
        names = {key: value for key in ("username", "name", "email") if isinstance(value := spec.get(key), str)}
        try:
            validate_password(password, User(**names))
        except ValidationError as error:
            problems.append(Rejected("invalid_password", as_reason(" ".join(error.messages)), "password"))
    raise_all(problems)
    assert parsed is not None
    return parsed


def create_first_administrator(
    token: str, spec: Mapping[str, object], *, password: str, now: datetime, address: str | None = None
) -> User:
    """Creates the first administrator through the set-up link's `token`, which works once.

    Raises `Rejected("setup_done")` if an administrator exists, "setup_link_used" for an invalid token, or the errors of
    `save_user`.
    """
    with boundary.config_command():
        if has_administrator():
            raise Rejected(
                "setup_done", sentence("There is already an administrator. Sign in, or ask them for an account.")
            )
        tokens.consume(token)
        actor = AuditActor(None, translatable("set-up link"), "web", address)
        return save_user({**spec, "role": Role.ADMIN, "active": True}, actor=actor, now=now, password=password)


def has_administrator(*, except_for: User | None = None) -> bool:
    """Returns whether the installation has an active administrator, besides `except_for`."""
    administrators = User.objects.filter(role=Role.ADMIN, is_active=True)
    return (administrators.exclude(pk=except_for.pk) if except_for else administrators).exists()


def delete_user(user: User, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a user with their contact methods and tokens, and every address that messages were sent to.

    Their actions stay on record under their name. Raises `Rejected("in_use")` while configuration or an active alert
    references them, and "last_administrator".
    """
    with boundary.config_command():
        _reject_last_administrator(user)
        sign_in_rules.reject_last_break_glass(user)
        before, user_id, email = user_spec(user), user.pk, user.email
        for on_delete in hooks.DELETIONS.of("user"):
            on_delete(user_id)
        # The last of the locks. A concurrent assignment of an alert to this user waits for this transaction and is then
        # rejected. Otherwise the alert would belong to a missing user and page nobody.
        list(User.objects.select_for_update().filter(pk=user_id))
        hooks.reject_if_referenced("user", user_id, user.username)
        user.delete()
        audit.record_change(
            actor, now=now, object_type="user", object_id=user_id, object_name=user.username, before=before, after=None
        )
        audit.erase_person("user", user_id, email=email, replacement=user.username, actor=actor, now=now)
        settings_store.bump()


def save_contact_method(
    user: User, spec: Mapping[str, object], *, existing: ContactMethod | None = None, actor: AuditActor, now: datetime
) -> ContactMethod:
    """Adds a contact method at the end of the user's list, or changes `existing` to match the spec.

    A new address is not used until the user confirms the code sent to it, unless an administrator enters their own.
    Raises Rejected, naming the field.
    """
    with boundary.config_command():
        parsed = ContactSpec.read(spec)
        others = user.contact_methods.exclude(pk=existing.pk) if existing else user.contact_methods.all()
        if others.filter(label__iexact=parsed.label).exists():
            raise Rejected(
                "name_taken", sentence('There is already a contact method "{label}".', label=parsed.label), "label"
            )
        before = user_spec(user)
        last = others.order_by("position").last()
        method = existing or ContactMethod(user=user, position=last.position + 1 if last else 0)
        old_label, old_target = method.label, (method.channel, method.address)
        _write_contact_method(method, parsed, actor, needs_code=user.role != Role.ADMIN or actor.user_id != user.pk)
        if (method.channel, method.address) != old_target:
            permissions.require_allowed(method.channel, method.address, actor, is_group=False)
        if existing:
            _relabel(user, old_label, method.label)
        _record(user, before, actor, now)
    return method


def record_ring(method: ContactMethod, *, rings_silenced: bool, actor: AuditActor, now: datetime) -> None:
    """Records whether a test rang while the phone was silenced, as its user says."""
    with boundary.config_command():
        ContactMethod.objects.filter(pk=method.pk).update(rings_silenced=rings_silenced)
        audit.record(
            actor, "verify", now=now, **audit.about("user", method.user),
            after={"contact_method": method.label, "rings_silenced": rings_silenced},
        )  # fmt: skip
        settings_store.bump()


def delete_contact_method(method: ContactMethod, *, actor: AuditActor, now: datetime) -> None:
    with boundary.config_command():
        user = method.user
        before = user_spec(user)
        method.delete()
        _relabel(user, method.label, None)
        _record(user, before, actor, now)


def _reject_taken_logins(parsed: UserSpec, existing: User | None) -> None:
    """Rejects a username or e-mail address that another user has as either, because sign-in accepts both.

    Case is ignored as Unicode does, in both directions: nobody is found by a name that only looks like theirs, and
    nobody new gets one.
    """
    problems = []
    others = User.accounts.exclude(pk=existing.pk) if existing else User.accounts.all()
    for field, value in (("username", parsed.username), ("email", parsed.email)):
        same = (
            Q(username__iexact=value) | Q(email__iexact=value) | Q(low_name=value.lower()) | Q(low_email=value.lower())
        )
        if value and others.annotate(low_name=Lower("username"), low_email=Lower("email")).filter(same).exists():
            reason = (
                sentence('The username "{username}" is already in use.', username=value)
                if field == "username"
                else sentence('The email address "{email}" is already in use.', email=value)
            )
            problems.append(Rejected("name_taken", reason, field))
    raise_all(problems)


def _reject_last_administrator(user: User) -> None:
    if user.role == Role.ADMIN and user.is_active and not has_administrator(except_for=user):
        raise Rejected(
            "last_administrator",
            sentence(
                "{user} is the last administrator. Make another user an administrator first.",
                user=Person(user.username, user.pk),
            ),
            "role",
        )


def _write_user(user: User, parsed: UserSpec, password: str | None) -> None:
    user.username, user.name, user.email = parsed.username, parsed.name, parsed.email
    if user.role != parsed.role:
        user.role_source = ""
    user.role, user.is_active, user.clients = parsed.role, parsed.is_active, list(parsed.clients)
    user.time_zone = parsed.time_zone or settings_store.get(settings_store.TIME_ZONE)
    if parsed.language is not None:
        user.language = parsed.language
    if parsed.is_break_glass is not None:
        user.is_break_glass = parsed.is_break_glass
    if password is not None:
        user.set_password(password)
    if user._state.adding:
        if password is None:
            user.set_unusable_password()
        user.save()
        return
    # Writes only these columns, so that a password changed since the user was read is kept.
    user.save(update_fields=[*_SPEC_COLUMNS, *(["password"] if password is not None else [])])
    if not user.is_active:
        sign_in_rules.end_all(user)


def _write_contact_methods(
    user: User, contact_specs: Sequence[ContactSpec], actor: AuditActor, *, needs_code: bool
) -> None:
    """Replaces the user's contact methods, in this order. A method is identified by its label."""
    known = {method.label.lower(): method for method in user.contact_methods.all()}
    kept_labels = {contact_spec.label.lower() for contact_spec in contact_specs}
    for label, method in known.items():
        if label not in kept_labels:
            method.delete()
            user.reminders = rename_method(user.reminders, label, None)
            user.save(update_fields=["reminders"])
    for position, contact_spec in enumerate(contact_specs):
        method = known.get(contact_spec.label.lower()) or ContactMethod(user=user)
        method.position = position
        _write_contact_method(method, contact_spec, actor, needs_code=needs_code)


def _in_use(method: ContactMethod, channel: str, address: str) -> QuerySet[ContactMethod]:
    """Returns the user's other contact methods in use with that address. A phone number serves texts and calls."""
    channels = addresses.same_address(channel)
    others = ContactMethod.objects.filter(user=method.user, channel__in=channels, address__iexact=address)
    return others.filter(awaits_code=False).exclude(pk=method.pk)


def _write_contact_method(
    method: ContactMethod, contact_spec: ContactSpec, actor: AuditActor, *, needs_code: bool
) -> None:
    """Writes a contact method. `needs_code` is whether a new address must be verified before it is used; files and the
    command line are trusted.
    """
    is_trusted = actor.via in _TRUSTED
    channel, address = contact_spec.channel, addresses.restore_masked(contact_spec.address, method.address)
    if (method.channel, method.address) != (channel, address):
        is_login = channel == "email" and address.lower() == method.user.email.lower()
        in_use = _in_use(method, channel, address)
        method.verified_at = in_use.aggregate(at=Max("verified_at"))["at"]
        is_pending = needs_code and not is_trusted and addresses.accepts_code(channel, address)
        method.awaits_code = is_pending and not is_login and not in_use.exists()
        method.rings_silenced = None
    elif is_trusted:
        method.awaits_code = False
    method.label, method.channel, method.address = contact_spec.label, contact_spec.channel, address
    method.wait = contact_spec.wait
    method.repeat_times, method.repeat_every = contact_spec.repeat.times, contact_spec.repeat.interval
    method.is_enabled = contact_spec.is_enabled
    method.save()


def _write_notification_rules(user: User, parsed: UserSpec) -> None:
    """Writes the spec's notification rules. Without any in the spec, only references to deleted methods are removed."""
    before = user.notification_rules
    labels = list(ContactMethod.objects.filter(user=user).values_list("label", flat=True))
    if parsed.notification_rules is not None:
        errors = SpecErrors()
        notification_rules.add_unknown_labels(errors, parsed.notification_rules, labels)
        errors.raise_all("notification_rules")
        user.notification_rules = notification_rules.write(parsed.notification_rules)
    else:
        rules = notification_rules.load(user.notification_rules)
        for deleted_label in notification_rules.labels(rules) - {label.casefold() for label in labels}:
            rules = notification_rules.rename_method(rules, deleted_label, None)
        user.notification_rules = notification_rules.write(rules)
    if user.notification_rules != before:
        user.save(update_fields=["notification_rules"])


def _relabel(user: User, old: str, new: str | None) -> None:
    """Updates the rules and reminders, which refer to methods by label, after a relabelling or deletion."""
    current = User.objects.get(pk=user.pk)
    current.notification_rules = notification_rules.write(
        notification_rules.rename_method(notification_rules.load(current.notification_rules), old, new)
    )
    current.reminders = rename_method(current.reminders, old, new)
    current.save(update_fields=["notification_rules", "reminders"])


def move_contact_method(method: ContactMethod, offset: int, *, actor: AuditActor, now: datetime) -> None:
    """Moves a contact method up (negative `offset`) or down in the user's order."""
    with boundary.config_command():
        user = method.user
        before = user_spec(user)
        order = list(ContactMethod.objects.filter(user=user))
        index = order.index(method)
        order.insert(max(0, min(len(order) - 1, index + offset)), order.pop(index))
        for position, other in enumerate(order):
            ContactMethod.objects.filter(pk=other.pk).update(position=position)
        _record(user, before, actor, now)


def _write_email(user: User, *, is_verified: bool) -> None:
    """Updates django-allauth's record of the user's only e-mail address."""
    primary = None
    for address in EmailAddress.objects.filter(user=user):
        if address.email.lower() == user.email.lower():
            primary = address
        else:
            address.delete()
    if primary is None:
        EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=is_verified)
    elif primary.email != user.email or (is_verified and not primary.verified):
        primary.email, primary.verified = user.email, is_verified or primary.verified
        primary.save(update_fields=["email", "verified"])


def _record(user: User, before: dict[str, Any] | None, actor: AuditActor, now: datetime) -> None:
    # Reads the user again, because relations prefetched on this object may be outdated.
    after = user_spec(User.objects.get(pk=user.pk))
    if audit.record_change(actor, now=now, before=before, after=after, **audit.about("user", user)):
        settings_store.bump()
        hooks.run_change_hooks("user", user.pk, now)


# ---------- preferences
# A user's own preferences: display name, time zone, language, theme, and how the alert list looks.


THEMES = ("light", "dark")

MAX_ALERT_FILTERS = 20


class AlertFilterSpec(Spec):
    """A saved filter of the alert list."""

    name: Annotated[str, Field(min_length=1, max_length=60)] = Field(description="Its name in the list.")
    query: Annotated[str, Field(max_length=1000)] = Field(
        description="The query of the list's URL, such as `tab=open&priority=critical`."
    )


def preferences_spec(user: User) -> dict[str, Any]:
    """Returns the user's preferences in the form of the API."""
    return {
        "name": user.name, "time_zone": user.time_zone, "language": user.language, "theme": user.theme,
        "compact_list": user.has_compact_list, "alert_filters": user.alert_filters,
    }  # fmt: skip


def change(user: User, values: Mapping[str, Any], *, actor: AuditActor, now: datetime) -> User:
    """Changes the preferences in `values`; None resets one to its default. Raises Rejected, naming the field."""
    private = _private_preferences(values)
    changes = {key: value for key, value in values.items() if key not in ("theme", "compact_list", "alert_filters")}
    if changes.get("language", "") is None:
        # A missing language would leave it unchanged.
        changes["language"] = ""
    with boundary.command():
        saved = change_own(user, changes, actor=actor, now=now) if changes else user
        if private:
            # They are private, and no configuration, so they are not in the audit log.
            User.objects.filter(pk=saved.pk).update(**private)
    for column, value in private.items():
        setattr(saved, column, value)
    return saved


def _private_preferences(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the columns of what only the user sees."""
    columns: dict[str, Any] = {}
    if "theme" in values:
        columns["theme"] = theme = values["theme"] or ""
        if theme and theme not in THEMES:
            raise rejected_at("theme", NOT_A_CHOICE(value=str(theme), choices=tuple(THEMES)))
    if "compact_list" in values:
        columns["has_compact_list"] = bool(values["compact_list"])
    if "alert_filters" in values:
        stored = values["alert_filters"] or []
        filters = AlertFilterSpec.read_list(stored, "alert_filters", maximum=MAX_ALERT_FILTERS)
        if len({one.name.casefold() for one in filters}) < len(filters):
            raise rejected_at("alert_filters", sentence("Two filters have the same name."))
        columns["alert_filters"] = [one.written() for one in filters]
    return columns
