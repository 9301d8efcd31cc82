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
from tocsin.core.validation import durations
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.report import FindingSeverity
from tocsin.notify.channels import phone_numbers
from tocsin.people import addresses
from tocsin.people.notification_rules import MAX_RULE_DELAY, MAX_RULE_REPEATS, PRIORITIES

_NUMBER = re.compile(r"[0-9\s+()./-]*")
_LABELS = {"email": "Email-Official", "sms": "SMS-Official", "voice": "Phone-Official-Mobile"}


@dataclass(slots=True)
class ImportedContactMethod:
    """A contact method, and after which delays the user's rules use it; without times they never do."""

    channel: str
    address: str
    label: str = ""
    times: list[timedelta] = field(default_factory=list)
    #: The same for alerts of medium and low priority, if they have separate rules.
    low_times: list[timedelta] = field(default_factory=list)
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ImportedUser:
    """A user in another product. `has_rules`: whether it had rules for the contact methods."""

    email: str
    name: str
    role: str
    time_zone: str
    ways: Sequence[ImportedContactMethod] = ()
    has_rules: bool = False
    is_active: bool = True
    out_of_office: Sequence[dict[str, Any]] = ()


def add(draft: ConfigBuilder, person: ImportedUser, username: str) -> None:
    """Adds the user. An existing user stays unchanged; only absences are imported."""
    if draft.has_user(username):
        why = "They have the same e-mail address, and here each user has one of their own."
        draft.leave_out(f"user {person.name}", f"is {username} here", why, "Make a user with another address.")
        return
    entry: dict[str, Any] = {"username": username, "email": person.email}
    known = draft.known.get(person.email.casefold())
    if known is not None:
        # Repeated explicitly: a key omitted from a user's entry means its default, which would enable the user again.
        entry |= {"name": known.name, "role": known.role, "time_zone": known.time_zone}
        is_active, away = known.is_active, _beside(draft, username, known.away, person.out_of_office)
        draft.together(
            FindingSeverity.CHANGED,
            "users",
            username,
            "keep their name, role, time zone and contact methods",
            "They are users here already.",
            "Add what is missing under Users.",
        )
    else:
        entry["name"] = person.name[:200] if person.name != username else ""
        entry |= {"role": person.role, "time_zone": draft.zone(person.time_zone, f"user {username}")}
        is_active, away = person.is_active, list(person.out_of_office)
        methods, rules = _methods(draft, person, username)
        entry |= {"contact_methods": methods, "notification_rules": rules}
    if not is_active:
        entry["active"] = False
    draft.add("users", entry | {"out_of_office": away})


def forwarded(draft: ConfigBuilder) -> str:
    """The note of imported absences, by which a later import recognizes them."""
    return f"Forwarded in {draft.product}"


def _beside(
    draft: ConfigBuilder, username: str, here: Sequence[Mapping[str, Any]], coming: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The absences entered here, and the imported ones that do not overlap them, all in UTC.

    If none are imported, the existing ones are left alone.
    """
    own = [one for one in here if one.get("note") != forwarded(draft)]
    kept = list(own)
    for one in coming:
        if not any(one["from"] < other["to"] and other["from"] < one["to"] for other in own):
            kept.append(one)
            continue
        draft.leave_out(
            f"user {username}",
            f"has no cover from {one['from']} to {one['to']} by {one['cover']}",
            "It overlaps an absence that they entered here.",
            "Enter it under Me → Out of office, cut to fit.",
        )
    return kept if coming else []


def phone(text: str) -> str:
    """A phone number as stored, from a product's text with country code. Raises Rejected for an invalid number.

    A number with an extension is rejected too: its extra digits would make it somebody else's number.
    """
    if not _NUMBER.fullmatch(text):
        raise Rejected("invalid_address", "It has more than a phone number in it.", "address")
    digits = "".join(character for character in text if character.isascii() and character.isdigit())
    return phone_numbers.format_for_entry(f"+{digits.removeprefix('00')}", "")


def _methods(draft: ConfigBuilder, person: ImportedUser, username: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The contact methods, and rules if the methods' own delays are not sufficient."""
    usable = [way for way in person.ways if _is_usable(draft, way, username)]
    if not any(way.channel == "email" for way in usable):
        usable.append(ImportedContactMethod("email", person.email))
    usable.sort(key=lambda way: (not way.times, min(way.times, default=timedelta())))
    methods: list[dict[str, Any]] = []
    labels: set[str] = set()
    is_plain = True
    for way in usable:
        way.label = _label(way, labels)
        method: dict[str, Any] = {"label": way.label, "channel": way.channel, "address": way.address}
        times = _times(way.times)
        repeat = _repeat(times)
        if times and repeat is not None:
            method |= _wait(times[0]) | repeat
        is_plain = is_plain and repeat is not None and (bool(times) or not way.low_times)
        if not way.is_enabled or (person.has_rules and not times and not way.low_times):
            method["enabled"] = False
        methods.append(method)
    if person.has_rules and not any("enabled" not in method for method in methods):
        _fall_back(draft, methods, username)
        return methods, {}
    high, low = _rules(usable, lambda way: way.times), _rules(usable, lambda way: way.low_times)
    by_priority: dict[str, Any] = {}
    for priority in PRIORITIES:
        if priority in ("medium", "low") and low and low != high:
            by_priority[priority] = low
        elif not is_plain and high:
            by_priority[priority] = list(high)
    return methods, {"by_priority": by_priority} if by_priority else {}


def _fall_back(draft: ConfigBuilder, methods: list[dict[str, Any]], username: str) -> None:
    """The user's rules refer to nothing that was converted: e-mail is better than nothing."""
    mail = next(method for method in methods if method["channel"] == "email")
    del mail["enabled"]
    draft.together(
        FindingSeverity.CHANGED,
        "users",
        username,
        "are reached by e-mail",
        f"Their rules in {draft.product} use nothing that could be carried over.",
        "They add a way of their own under Me.",
    )


def _rules(
    ways: Iterable[ImportedContactMethod], times_of: Callable[[ImportedContactMethod], list[timedelta]]
) -> list[dict[str, Any]]:
    """The notification rules by time; evenly spaced repeats become one rule, all others one rule per time."""
    found: list[tuple[timedelta, dict[str, Any]]] = []
    for way in ways:
        times = _times(times_of(way)) if way.is_enabled else []
        repeat = _repeat(times)
        if times and repeat is not None:
            found.append((times[0], {"method": way.label, **_wait(times[0]), **repeat}))
        else:
            found += [(time, {"method": way.label, **_wait(time)}) for time in times]
    return [rule for _, rule in sorted(found, key=lambda entry: entry[0])]


def _times(times: Iterable[timedelta]) -> list[timedelta]:
    return sorted({min(time, MAX_RULE_DELAY) for time in times})


def _is_usable(draft: ConfigBuilder, way: ImportedContactMethod, username: str) -> bool:
    if way.channel == "email":
        try:
            way.address = addresses.email(way.address.strip())
        except ValueError:
            draft.leave_out(f"user {username}", "has one e-mail address less", "It is not an e-mail address.")
            return False
        return True
    try:
        way.address = phone(way.address)
    except Rejected:
        shown = addresses.mask(way.channel, way.address)
        draft.leave_out(
            f"user {username}",
            f"has one number for {way.channel} less ({shown})",
            "No country has such a number, or an extension follows it.",
            "They enter the right one under Me.",
        )
        return False
    return True


def _label(way: ImportedContactMethod, taken: set[str]) -> str:
    wanted = (way.label or _LABELS.get(way.channel, way.channel))[:90]
    label, number = wanted, 1
    while label.casefold() in taken:
        number += 1
        label = f"{wanted} {number}"
    taken.add(label.casefold())
    return label


def _wait(span: timedelta) -> dict[str, Any]:
    return {"wait": durations.write(span)} if span else {}


def _repeat(times: Sequence[timedelta]) -> dict[str, Any] | None:
    """`repeat` for evenly spaced times; None for others."""
    gaps = {later - earlier for earlier, later in pairwise(times)}
    if not gaps:
        return {}
    if len(gaps) > 1 or len(times) - 1 > MAX_RULE_REPEATS:
        return None
    return {"repeat": {"times": len(times) - 1, "every": durations.write(gaps.pop())}}
