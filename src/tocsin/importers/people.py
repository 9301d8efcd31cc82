"""Builds users and contact methods as in YAML from what a product knows about a person. Pure.

Phone numbers are parsed by the rules of their country; steps of personal notification rules become delays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import fold_login
from tocsin.importers import reasons
from tocsin.importers.config_builder import (
    ConfigBuilder,
    FindingSeverity,
    JsonObject,
    parse_time,
    unique_name,
)
from tocsin.inbound.maintenance import MAX_USUAL_COVER
from tocsin.notify.channels import phone
from tocsin.people import addresses
from tocsin.people.notification_rules import MAX_RULE_DELAY, MAX_RULE_REPEATS, PRIORITIES

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


def add_all(
    builder: ConfigBuilder,
    documents: Iterable[JsonObject],
    label: str,
    *,
    keys: Callable[[JsonObject], Iterable[str]],
    email_of: Callable[[JsonObject], str],
    person: Callable[[JsonObject, str], ImportedUser],
) -> None:
    """Adds every user with an e-mail address, whom other documents refer to by `keys`; the others are reported."""
    users = []
    for document in documents:
        email = email_of(document)
        if "@" not in email:
            subject = reasons.USER(user=str(document.get(label) or document.get("id") or ""))
            builder.report_omitted(subject, reasons.NOT_IMPORTED(), reasons.NO_EMAIL())
            continue
        username = builder.claim_username(email)
        builder.users |= dict.fromkeys(keys(document), username)
        users.append((document, username))
    # Afterwards, because absences name other users.
    for document, username in users:
        _add(builder, person(document, username), username)


def _add(builder: ConfigBuilder, user: ImportedUser, username: str) -> None:
    """Adds the user. An existing user stays unchanged; only absences are imported."""
    if username in builder.added_users:
        subject, difference = reasons.USER(user=user.name), reasons.IS_USER(user=username)
        builder.report_omitted(subject, difference, reasons.SHARED_EMAIL(), reasons.CREATE_USER())
        return
    builder.added_users.add(username)
    entry: dict[str, Any] = {"username": username, "email": user.email}
    existing = builder.existing_users.get(fold_login(user.email))
    if existing is not None:
        # Repeated explicitly: a key omitted from a user's entry means its default, which would enable the user again.
        entry |= {"name": existing.name, "role": existing.role, "time_zone": existing.time_zone}
        is_active = existing.is_active
        absences = _merge_absences(builder, username, existing.absences, user.out_of_office)
        keep, already = reasons.KEEP_THEIR_DATA(), reasons.USERS_ALREADY()
        builder.report_grouped(FindingSeverity.CHANGED, "users", username, keep, already, reasons.ADD_UNDER_USERS())
    else:
        entry["name"] = user.name[:200] if user.name != username else ""
        entry |= {"role": user.role, "time_zone": builder.resolve_zone(user.time_zone, reasons.USER(user=username))}
        is_active, absences = user.is_active, list(user.out_of_office)
        methods, rules = _methods(builder, user, username)
        entry |= {"contact_methods": methods, "notification_rules": rules}
    if not is_active:
        entry["active"] = False
    builder.add("users", entry | {"out_of_office": absences})


def report_push(builder: ConfigBuilder, username: str, difference: Reason) -> None:
    """Reports that another product's app no longer reaches the user."""
    reason, remedy = reasons.PUSH_NEEDS_DEVICE(), reasons.ENABLE_PUSH()
    builder.report_grouped(FindingSeverity.TO_DO, "users", username, difference, reason, remedy)


def forwarded(builder: ConfigBuilder) -> str:
    """The note of imported absences, by which a later import recognizes them."""
    return f"Forwarded in {builder.product}"


def without_overlaps[A: Mapping[str, Any]](
    builder: ConfigBuilder, username: str, accepted: Sequence[A], absences: Iterable[A], reason: Reason
) -> list[A]:
    """The accepted absences, and those that do not overlap an earlier or accepted one; all in UTC."""
    merged = list(accepted)
    for absence in absences:
        if any(absence["from"] < other["to"] and other["from"] < absence["to"] for other in merged):
            difference = reasons.NO_COVER(start=absence["from"], end=absence["to"], cover=absence["cover"])
            builder.report_omitted(reasons.USER(user=username), difference, reason, reasons.ENTER_ABSENCE())
        else:
            merged.append(absence)
    return merged


def _merge_absences(
    builder: ConfigBuilder, username: str, existing: Sequence[Mapping[str, Any]], imported: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The absences entered here, and the imported ones. If none are imported, the existing ones are left alone."""
    manual = [absence for absence in existing if absence.get("note") != forwarded(builder)]
    overlaps = reasons.OVERLAPS_OWN_ABSENCE()
    return without_overlaps(builder, username, manual, imported, overlaps) if imported else []


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
    usable_methods = [item for item in user.contact_methods if _is_usable(builder, item, username)]
    if not any(item.channel == "email" for item in usable_methods):
        usable_methods.append(ImportedContactMethod("email", user.email))
    usable_methods.sort(key=lambda item: (not item.delays, min(item.delays, default=timedelta())))
    methods: list[dict[str, Any]] = []
    labels: set[str] = set()
    has_simple_delays = True
    for item in usable_methods:
        label = (item.label or _LABELS.get(item.channel, item.channel))[:90]
        item.label = unique_name(label, labels, " {}")
        method: dict[str, Any] = {"label": item.label, "channel": item.channel, "address": item.address}
        delays = _capped_delays(item.delays)
        repeat = _repeat(delays)
        if delays and repeat is not None:
            method |= _wait(delays[0]) | repeat
        has_simple_delays &= repeat is not None and (bool(delays) or not item.low_priority_delays)
        if not item.is_enabled or (user.has_rules and not delays and not item.low_priority_delays):
            method["enabled"] = False
        methods.append(method)
    if user.has_rules and all("enabled" in method for method in methods):
        # The rules refer to nothing that was converted: e-mail is better than nothing.
        del next(method for method in methods if method["channel"] == "email")["enabled"]
        difference, reason = reasons.REACHED_BY_EMAIL(), reasons.NO_USABLE_RULES(product=builder.product)
        builder.report_grouped(FindingSeverity.CHANGED, "users", username, difference, reason, reasons.ADD_METHOD())
        return methods, {}
    high = _rules(usable_methods, lambda item: item.delays)
    low = _rules(usable_methods, lambda item: item.low_priority_delays)
    by_priority: dict[str, Any] = {}
    for priority in PRIORITIES:
        if priority in ("medium", "low") and low and low != high:
            by_priority[priority] = low
        elif not has_simple_delays and high:
            by_priority[priority] = list(high)
    return methods, {"by_priority": by_priority} if by_priority else {}


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
    """Whether the address is valid, which is then as stored."""
    channel, address = contact_method.channel, contact_method.address
    try:
        contact_method.address = addresses.email(address.strip()) if channel == "email" else normalize_phone(address)
    except Rejected:
        subject = reasons.USER(user=username)
        if channel == "email":
            builder.report_omitted(subject, reasons.ONE_EMAIL_LESS(), reasons.NOT_AN_EMAIL())
        else:
            less = reasons.ONE_NUMBER_LESS(channel=channel, number=addresses.mask(channel, address))
            builder.report_omitted(subject, less, reasons.INVALID_NUMBER(), reasons.CORRECT_NUMBER())
        return False
    return True


def _wait(delay: timedelta) -> dict[str, Any]:
    return {"wait": inputs.write_duration(delay)} if delay else {}


def _repeat(delays: Sequence[timedelta]) -> dict[str, Any] | None:
    """`repeat` for evenly spaced times; None for others."""
    intervals = {later - earlier for earlier, later in pairwise(delays)}
    if not intervals:
        return {}
    if len(intervals) > 1 or len(delays) - 1 > MAX_RULE_REPEATS:
        return None
    return {"repeat": {"times": len(delays) - 1, "every": inputs.write_duration(intervals.pop())}}


# ---------- maintenance
# Converts other products' upcoming maintenance windows. Pure.


_CLOCK = "%Y-%m-%d %H:%M"


def window(
    builder: ConfigBuilder,
    requested_name: str,
    start: object,
    end: object,
    integrations: Iterable[str],
) -> None:
    """Adds a window that suppresses alerts of these integrations (by their new names).

    Past windows are skipped silently; windows that cannot be converted are reported.
    """
    starts, ends = parse_time(start), parse_time(end)
    if ends is not None and ends <= builder.now:
        return
    subject, integration_names = reasons.MAINTENANCE(window=requested_name), list(dict.fromkeys(integrations))
    if starts is None or ends is None or starts >= ends:
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), reasons.NO_END(), reasons.DISABLE_OR_ENTER())
        return
    if not integration_names:
        # A window without integrations would apply to all of them.
        nothing = reasons.NOTHING_AFFECTED()
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), nothing, reasons.ENTER_MAINTENANCE())
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
