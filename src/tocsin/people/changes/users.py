"""Changes users and their contact methods: validates, writes the audit log, and makes all nodes reload.

A spec has the form of YAML and the API. The caller checks permissions first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Lower

from tocsin.access import audit, boundary, setup_link
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core import object_hooks
from tocsin.core.config import config_version, settings_store
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Person, ReasonType, as_reason, translatable
from tocsin.core.validation import durations
from tocsin.core.validation.field_errors import raise_all
from tocsin.core.validation.spec import SpecErrors
from tocsin.people import chat_servers, encrypted_addresses, notification_rules, sessions, sign_in_rules
from tocsin.people.changes import reminder_rules
from tocsin.people.changes.specs import ContactSpec, UserSpec
from tocsin.people.models import ContactMethod, User, accepts_code

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

_DELETED = ReasonType("user.deleted", "This user was deleted.")
_SETUP_DONE = ReasonType("user.setup_done", "There is already an administrator. Sign in, or ask them for an account.")
_LABEL_TAKEN = ReasonType("contact_method.label_taken", 'There is already a contact method "{label}".')
_USERNAME_TAKEN = ReasonType("user.username_taken", 'The username "{username}" is already in use.')
_EMAIL_TAKEN = ReasonType("user.email_taken", 'The email address "{email}" is already in use.')
_LAST_ADMINISTRATOR = ReasonType(
    "user.last_administrator", "{user} is the last administrator. Make another user an administrator first."
)


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
        spec["wait"] = durations.write(method.wait)
    if method.repeat_times:
        spec["repeat"] = {"times": method.repeat_times, "every": durations.write(method.repeat_every)}
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
    with boundary.command():
        config_version.lock()
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
            setup_link.revoke_all()
        _record(user, before, actor, now)
        if password is not None and existing:
            audit.record(
                actor, "set_password", now=now, object_type="user", object_id=user.pk, object_name=user.username
            )
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
    with boundary.command():
        config_version.lock()
        current = User.objects.filter(pk=user.pk).first()
        if current is None:
            raise Rejected("not_found", _DELETED())
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
    with boundary.command():
        config_version.lock()
        if has_administrator():
            raise Rejected("setup_done", _SETUP_DONE())
        setup_link.consume(token)
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
    with boundary.command():
        config_version.lock()
        _reject_last_administrator(user)
        sign_in_rules.reject_last_break_glass(user)
        before, user_id, email = user_spec(user), user.pk, user.email
        object_hooks.run_deletion_hooks("user", user_id)
        # The last of the locks. A concurrent assignment of an alert to this user waits for this transaction and is then
        # rejected. Otherwise the alert would belong to a missing user and page nobody.
        list(User.objects.select_for_update().filter(pk=user_id))
        object_hooks.reject_if_referenced("user", user_id, user.username)
        user.delete()
        audit.record_change(
            actor, now=now, object_type="user", object_id=user_id, object_name=user.username, before=before, after=None
        )
        audit.erase_person("user", user_id, email=email, replacement=user.username, actor=actor, now=now)
        config_version.bump()


def save_contact_method(
    user: User, spec: Mapping[str, object], *, existing: ContactMethod | None = None, actor: AuditActor, now: datetime
) -> ContactMethod:
    """Adds a contact method at the end of the user's list, or changes `existing` to match the spec.

    A new address is not used until the user confirms the code sent to it, unless an administrator enters their own.
    Raises Rejected, naming the field.
    """
    with boundary.command():
        config_version.lock()
        parsed = ContactSpec.read(spec)
        others = user.contact_methods.exclude(pk=existing.pk) if existing else user.contact_methods.all()
        if others.filter(label__iexact=parsed.label).exists():
            raise Rejected("name_taken", _LABEL_TAKEN(label=parsed.label), "label")
        before = user_spec(user)
        last = others.order_by("position").last()
        method = existing or ContactMethod(user=user, position=last.position + 1 if last else 0)
        old_label, old_target = method.label, (method.channel, method.address)
        _write_contact_method(method, parsed, actor, needs_code=user.role != Role.ADMIN or actor.user_id != user.pk)
        if (method.channel, method.address) != old_target:
            chat_servers.require_allowed(method.channel, method.address, actor, is_group=False)
        if existing:
            _relabel(user, old_label, method.label)
        _record(user, before, actor, now)
    return method


def delete_contact_method(method: ContactMethod, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a contact method."""
    with boundary.command():
        config_version.lock()
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
            reason = _USERNAME_TAKEN(username=value) if field == "username" else _EMAIL_TAKEN(email=value)
            problems.append(Rejected("name_taken", reason, field))
    raise_all(problems)


def _reject_last_administrator(user: User) -> None:
    if user.role == Role.ADMIN and user.is_active and not has_administrator(except_for=user):
        raise Rejected("last_administrator", _LAST_ADMINISTRATOR(user=Person(user.username, user.pk)), "role")


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
        sessions.end_all(user)


def _write_contact_methods(
    user: User, contact_specs: Sequence[ContactSpec], actor: AuditActor, *, needs_code: bool
) -> None:
    """Replaces the user's contact methods, in this order. A method is identified by its label."""
    known = {method.label.lower(): method for method in user.contact_methods.all()}
    kept_labels = {contact_spec.label.lower() for contact_spec in contact_specs}
    for label, method in known.items():
        if label not in kept_labels:
            method.delete()
            user.reminders = reminder_rules.rename_method(user.reminders, label, None)
            user.save(update_fields=["reminders"])
    for position, contact_spec in enumerate(contact_specs):
        method = known.get(contact_spec.label.lower()) or ContactMethod(user=user)
        method.position = position
        _write_contact_method(method, contact_spec, actor, needs_code=needs_code)


def _in_use(method: ContactMethod, channel: str, address: str) -> QuerySet[ContactMethod]:
    """Returns the user's other contact methods in use with that address. A phone number serves texts and calls."""
    channels = ("sms", "voice") if channel in ("sms", "voice") else (channel,)
    others = ContactMethod.objects.filter(user=method.user, channel__in=channels, address__iexact=address)
    return others.filter(awaits_code=False).exclude(pk=method.pk)


def _write_contact_method(
    method: ContactMethod, contact_spec: ContactSpec, actor: AuditActor, *, needs_code: bool
) -> None:
    """Writes a contact method. `needs_code` is whether a new address must be verified before it is used; files and the
    command line are trusted.
    """
    is_trusted = actor.via in _TRUSTED
    channel, address = contact_spec.channel, encrypted_addresses.restore_masked(contact_spec.address, method.address)
    if (method.channel, method.address) != (channel, address):
        is_login = channel == "email" and address.lower() == method.user.email.lower()
        in_use = _in_use(method, channel, address)
        method.verified_at = in_use.aggregate(at=Max("verified_at"))["at"]
        is_pending = needs_code and not is_trusted and accepts_code(channel, address)
        method.awaits_code = is_pending and not is_login and not in_use.exists()
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
    current.reminders = reminder_rules.rename_method(current.reminders, old, new)
    current.save(update_fields=["notification_rules", "reminders"])


def move_contact_method(method: ContactMethod, offset: int, *, actor: AuditActor, now: datetime) -> None:
    """Moves a contact method up (negative `offset`) or down in the user's order."""
    with boundary.command():
        config_version.lock()
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
    if audit.record_change(
        actor, now=now, object_type="user", object_id=user.pk, object_name=user.username, before=before, after=after
    ):
        config_version.bump()
        object_hooks.run_change_hooks("user", user.pk, now)
