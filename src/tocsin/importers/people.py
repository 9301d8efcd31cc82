"""Builds users and contact methods as in YAML from what a product knows about a person. Pure.

Phone numbers are parsed by the rules of their country; steps of personal notification rules become delays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.validation import field_errors
from tocsin.core.validation.text_sanitizing import fold_login
from tocsin.importers import reasons
from tocsin.importers.config_builder import ConfigBuilder, ExistingUser, FindingSeverity
from tocsin.inbound.maintenance import MAX_USUAL_COVER
from tocsin.notify.channels import phone
from tocsin.people import addresses
from tocsin.people.changes import out_of_office
from tocsin.people.models import User
from tocsin.people.notification_rules import MAX_RULE_DELAY, MAX_RULE_REPEATS, PRIORITIES

# ---------- existing users
# Loads the existing users, so that an import neither duplicates nor changes them.


def users(now: datetime) -> dict[str, ExistingUser]:
    """Existing users by lower-case e-mail address."""
    absences: dict[int, list[dict[str, Any]]] = {}
    for absence in out_of_office.rows().filter(ends_at__gt=now):
        absences.setdefault(absence.user_id, []).append(out_of_office.nested_spec(absence))
    return {
        fold_login(user.email): ExistingUser(
            user.username, user.role, user.name, user.time_zone, user.is_active, tuple(absences.get(user.pk, ()))
        )
        for user in User.objects.all()
        if user.email
    }


_PHONE_CHARACTERS = re.compile(r"[0-9\s+()./-]*")
_LABELS = {"email": "Email-Official", "sms": "SMS-Official", "voice": "Phone-Official-Mobile"}


@dataclass(slots=True)
class ImportedContactMethod:
    """A contact method, and after which delays the user's rules use it; without times they never do."""

    channel: str
    address: str
    label: str = ""
    delays: list[timedelta] = field(default_factory=list)
    #: The same for alerts of medium and low priority, if they have separate rules.
    low_priority_delays: list[timedelta] = field(default_factory=list)
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ImportedUser:
    """A user in another product. `has_rules`: whether it had rules for the contact methods."""

    email: str
    name: str
    role: str
    time_zone: str
    contact_methods: Sequence[ImportedContactMethod] = ()
    has_rules: bool = False
    is_active: bool = True
    out_of_office: Sequence[dict[str, Any]] = ()


def add(builder: ConfigBuilder, user: ImportedUser, username: str) -> None:
    """Adds the user. An existing user stays unchanged; only absences are imported."""
    if builder.has_user(username):
        reason = reasons.SHARED_EMAIL()
        builder.report_omitted(
            reasons.USER(user=user.name), reasons.IS_USER(user=username), reason, reasons.CREATE_USER()
        )
        return
    entry: dict[str, Any] = {"username": username, "email": user.email}
    existing = builder.existing_users.get(fold_login(user.email))
    if existing is not None:
        # Repeated explicitly: a key omitted from a user's entry means its default, which would enable the user again.
        entry |= {"name": existing.name, "role": existing.role, "time_zone": existing.time_zone}
        is_active, absences = (
            existing.is_active,
            _merge_absences(builder, username, existing.absences, user.out_of_office),
        )
        builder.report_grouped(
            FindingSeverity.CHANGED,
            "users",
            username,
            reasons.KEEP_THEIR_DATA(),
            reasons.USERS_ALREADY(),
            reasons.ADD_UNDER_USERS(),
        )
    else:
        entry["name"] = user.name[:200] if user.name != username else ""
        entry |= {"role": user.role, "time_zone": builder.resolve_zone(user.time_zone, reasons.USER(user=username))}
        is_active, absences = user.is_active, list(user.out_of_office)
        methods, rules = _methods(builder, user, username)
        entry |= {"contact_methods": methods, "notification_rules": rules}
    if not is_active:
        entry["active"] = False
    builder.add("users", entry | {"out_of_office": absences})


def forwarded(builder: ConfigBuilder) -> str:
    """The note of imported absences, by which a later import recognizes them."""
    return f"Forwarded in {builder.product}"


def _merge_absences(
    builder: ConfigBuilder, username: str, existing: Sequence[Mapping[str, Any]], imported: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The absences entered here, and the imported ones that do not overlap them, all in UTC.

    If none are imported, the existing ones are left alone.
    """
    manual = [absence for absence in existing if absence.get("note") != forwarded(builder)]
    merged = list(manual)
    for absence in imported:
        if not any(
            absence["from"] < manual_absence["to"] and manual_absence["from"] < absence["to"]
            for manual_absence in manual
        ):
            merged.append(absence)
            continue
        builder.report_omitted(
            reasons.USER(user=username),
            reasons.NO_COVER(start=absence["from"], end=absence["to"], cover=absence["cover"]),
            reasons.OVERLAPS_OWN_ABSENCE(),
            reasons.ENTER_ABSENCE(),
        )
    return merged if imported else []


def normalize_phone(text: str) -> str:
    """A phone number as stored, from a product's text with country code. Raises Rejected for an invalid number.

    A number with an extension is rejected too: its extra digits would make it somebody else's number.
    """
    if not _PHONE_CHARACTERS.fullmatch(text):
        raise Rejected("invalid_address", reasons.NOT_A_PHONE_NUMBER(), "address")
    digits = "".join(character for character in text if character.isascii() and character.isdigit())
    return phone.format_for_entry(f"+{digits.removeprefix('00')}", "")


def _methods(builder: ConfigBuilder, user: ImportedUser, username: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The contact methods, and rules if the methods' own delays are not sufficient."""
    usable_methods = [
        contact_method for contact_method in user.contact_methods if _is_usable(builder, contact_method, username)
    ]
    if not any(contact_method.channel == "email" for contact_method in usable_methods):
        usable_methods.append(ImportedContactMethod("email", user.email))
    usable_methods.sort(
        key=lambda contact_method: (not contact_method.delays, min(contact_method.delays, default=timedelta()))
    )
    methods: list[dict[str, Any]] = []
    labels: set[str] = set()
    has_simple_delays = True
    for contact_method in usable_methods:
        contact_method.label = _label(contact_method, labels)
        method: dict[str, Any] = {
            "label": contact_method.label,
            "channel": contact_method.channel,
            "address": contact_method.address,
        }
        delays = _capped_delays(contact_method.delays)
        repeat = _repeat(delays)
        if delays and repeat is not None:
            method |= _wait(delays[0]) | repeat
        has_simple_delays = (
            has_simple_delays and repeat is not None and (bool(delays) or not contact_method.low_priority_delays)
        )
        if not contact_method.is_enabled or (user.has_rules and not delays and not contact_method.low_priority_delays):
            method["enabled"] = False
        methods.append(method)
    if user.has_rules and not any("enabled" not in method for method in methods):
        _enable_email(builder, methods, username)
        return methods, {}
    high, low = (
        _rules(usable_methods, lambda contact_method: contact_method.delays),
        _rules(usable_methods, lambda contact_method: contact_method.low_priority_delays),
    )
    by_priority: dict[str, Any] = {}
    for priority in PRIORITIES:
        if priority in ("medium", "low") and low and low != high:
            by_priority[priority] = low
        elif not has_simple_delays and high:
            by_priority[priority] = list(high)
    return methods, {"by_priority": by_priority} if by_priority else {}


def _enable_email(builder: ConfigBuilder, methods: list[dict[str, Any]], username: str) -> None:
    """The user's rules refer to nothing that was converted: e-mail is better than nothing."""
    email_method = next(method for method in methods if method["channel"] == "email")
    del email_method["enabled"]
    builder.report_grouped(
        FindingSeverity.CHANGED,
        "users",
        username,
        reasons.REACHED_BY_EMAIL(),
        reasons.NO_USABLE_RULES(product=builder.product),
        reasons.ADD_METHOD(),
    )


def _rules(
    contact_methods: Iterable[ImportedContactMethod], delays_of: Callable[[ImportedContactMethod], list[timedelta]]
) -> list[dict[str, Any]]:
    """The notification rules by time; evenly spaced repeats become one rule, all others one rule per time."""
    timed_rules: list[tuple[timedelta, dict[str, Any]]] = []
    for contact_method in contact_methods:
        delays = _capped_delays(delays_of(contact_method)) if contact_method.is_enabled else []
        repeat = _repeat(delays)
        if delays and repeat is not None:
            timed_rules.append((delays[0], {"method": contact_method.label, **_wait(delays[0]), **repeat}))
        else:
            timed_rules += [(delay, {"method": contact_method.label, **_wait(delay)}) for delay in delays]
    return [rule for _, rule in sorted(timed_rules, key=lambda entry: entry[0])]


def _capped_delays(delays: Iterable[timedelta]) -> list[timedelta]:
    return sorted({min(delay, MAX_RULE_DELAY) for delay in delays})


def _is_usable(builder: ConfigBuilder, contact_method: ImportedContactMethod, username: str) -> bool:
    if contact_method.channel == "email":
        try:
            contact_method.address = addresses.email(contact_method.address.strip())
        except Rejected:
            builder.report_omitted(reasons.USER(user=username), reasons.ONE_EMAIL_LESS(), reasons.NOT_AN_EMAIL())
            return False
        return True
    try:
        contact_method.address = normalize_phone(contact_method.address)
    except Rejected:
        masked = addresses.mask(contact_method.channel, contact_method.address)
        builder.report_omitted(
            reasons.USER(user=username),
            reasons.ONE_NUMBER_LESS(channel=contact_method.channel, number=masked),
            reasons.INVALID_NUMBER(),
            reasons.CORRECT_NUMBER(),
        )
        return False
    return True


def _label(contact_method: ImportedContactMethod, used_labels: set[str]) -> str:
    base_label = (contact_method.label or _LABELS.get(contact_method.channel, contact_method.channel))[:90]
    label, suffix = base_label, 1
    while label.casefold() in used_labels:
        suffix += 1
        label = f"{base_label} {suffix}"
    used_labels.add(label.casefold())
    return label


def _wait(delay: timedelta) -> dict[str, Any]:
    return {"wait": field_errors.write(delay)} if delay else {}


def _repeat(delays: Sequence[timedelta]) -> dict[str, Any] | None:
    """`repeat` for evenly spaced times; None for others."""
    intervals = {later - earlier for earlier, later in pairwise(delays)}
    if not intervals:
        return {}
    if len(intervals) > 1 or len(delays) - 1 > MAX_RULE_REPEATS:
        return None
    return {"repeat": {"times": len(delays) - 1, "every": field_errors.write(intervals.pop())}}


# ---------- maintenance
# Converts other products' upcoming maintenance windows. Pure.


_CLOCK = "%Y-%m-%d %H:%M"
_REMEDY = reasons.ENTER_MAINTENANCE()


def window(
    builder: ConfigBuilder,
    requested_name: str,
    starts: datetime | None,
    ends: datetime | None,
    integrations: Iterable[str],
) -> None:
    """Adds a window that suppresses alerts of these integrations (by their new names).

    Past windows are skipped silently; windows that cannot be converted are reported.
    """
    if ends is not None and ends <= builder.now:
        return
    subject, integration_names = reasons.MAINTENANCE(window=requested_name), list(dict.fromkeys(integrations))
    if starts is None or ends is None or starts >= ends:
        reason = reasons.NO_END()
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), reason, reasons.DISABLE_OR_ENTER())
        return
    if not integration_names:
        # A window without integrations would apply to all of them.
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), reasons.NOTHING_AFFECTED(), _REMEDY)
        return
    name = builder.claim_name("maintenance_windows", requested_name)
    builder.add(
        "maintenance_windows",
        {
            "name": name,
            "starts": starts.strftime(_CLOCK),
            "ends": ends.strftime(_CLOCK),
            "time_zone": "UTC",
            "integrations": integration_names,
            "action": "suppress",
            # It was saved elsewhere, and doctor names it.
            **({"anyway": True} if ends - max(starts, builder.now) > MAX_USUAL_COVER else {}),
        },
    )
