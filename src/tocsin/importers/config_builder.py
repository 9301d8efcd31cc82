"""Builds the configuration during a conversion: valid and unique names, existing users, and the report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

from django.utils.translation import gettext_noop

from tocsin.core.reasons import NO_REASON, Param, Reason, Term, as_reason, reason_as_json, reason_from_json
from tocsin.core.validation.field_errors import MAX_LENGTH, is_zone, name_problem
from tocsin.core.validation.text_sanitizing import fold_login
from tocsin.importers import reasons
from tocsin.importers.reasons import MORE_NAMES

# ---------- json access
# Reads values from another product's documents, whatever their type. Pure.


type JsonObject = dict[str, Any]

_FIRST_YEAR, _LAST_YEAR = 1971, 2200


def objects_of(value: object) -> list[JsonObject]:
    """The objects in a list; other values are ignored."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def without_duplicates(documents: Iterable[JsonObject]) -> list[JsonObject]:
    """The documents without duplicate ids: objects added during pagination push others onto the next page."""
    unique: dict[object, JsonObject] = {}
    for index, document in enumerate(documents):
        identity = document.get("id")
        unique.setdefault(identity if isinstance(identity, str | int) and identity != "" else (index,), document)
    return list(unique.values())


def object_of(value: object) -> JsonObject:
    """The value if it is an object, or else an empty one."""
    return value if isinstance(value, dict) else {}


def text_of(document: JsonObject, *names: str) -> str:
    """The first of these values that is a text or a number, as text; "" if there is none."""
    for name in names:
        value = document.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def int_of(document: JsonObject, name: str, default: int = 0) -> int:
    """A non-negative integer; `default` for anything else."""
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**8 else default


def parse_time(value: object) -> datetime | None:
    """A time in UTC: ISO 8601 as in APIs, or milliseconds or `2026-01-05 09:00` (UTC) as in backups.

    None if it is invalid or in an implausible year: `9999-12-31` means no end.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC) if 0 < value < 7_258_118_400_000 else None
    at = parse_local_time(value)
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def parse_local_time(value: object) -> datetime | None:
    """Like `parse_time`, with the zone as written, or none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return at if _FIRST_YEAR <= at.year < _LAST_YEAR else None


# ---------- report
# The report of an import: findings with object, reason and remedy. Pure; never contains secrets.


#: Names listed per line; the rest is only counted.
_MAX_NAMES = 5


class FindingSeverity(StrEnum):
    """The importance of a finding."""

    #: The object is missing: check this first.
    OMITTED = "left out"
    #: The object was imported, with differences.
    CHANGED = "changed"
    #: People have to do something themselves.
    TO_DO = "to do"


@dataclass(frozen=True, slots=True)
class ImportFinding:
    """One line: the object, the difference, the reason and the remedy."""

    severity: FindingSeverity
    object: Reason
    difference: Reason
    reason: Reason = NO_REASON
    remedy: Reason = NO_REASON

    def __str__(self) -> str:
        return f"{self.severity:<8}  {self.object}: {self.difference}. {self.reason} {self.remedy}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """As stored in the run. `from_json` reads it back."""
        return {
            "weight": str(self.severity),
            "object": reason_as_json(self.object),
            "what": reason_as_json(self.difference),
            "why": reason_as_json(self.reason),
            "remedy": reason_as_json(self.remedy),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Reads a stored finding."""
        return cls(
            FindingSeverity(stored["weight"]),
            *(reason_from_json(stored[name]) for name in ("object", "what", "why", "remedy")),
        )


@dataclass(frozen=True, slots=True)
class ConvertedConfig:
    """A configuration for `apply` by top-level key, and the report."""

    configuration: Mapping[str, list[dict[str, Any]]] = field(repr=False)
    findings: tuple[ImportFinding, ...] = ()

    def counts(self) -> dict[str, int]:
        """The number of objects by top-level key."""
        # In the order of the file.
        return {key: len(entries) for key, entries in self.configuration.items() if entries}


def describe_count(key: str, count: int) -> str:
    """The number of objects of a top-level key: "1 group", "2 groups", "1 escalation policy"."""
    label = key.replace("_", " ")
    if count == 1 and key != "support_hours":
        label = f"{label.removesuffix('ies')}y" if label.endswith("ies") else label.removesuffix("s")
    return f"{count} {label}"


def list_names(names: Iterable[str]) -> Param:
    """The first few names: "alice and bob", "alice, bob, … and 3 more"."""
    unique = tuple(dict.fromkeys(names))
    if len(unique) <= _MAX_NAMES:
        return unique
    return MORE_NAMES(names=", ".join(unique[:_MAX_NAMES]), count=len(unique) - _MAX_NAMES)


def sort_by_severity(findings: Iterable[ImportFinding]) -> list[ImportFinding]:
    """The findings sorted by importance: missing objects first."""
    order = list(FindingSeverity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def as_text(converted: ConvertedConfig) -> str:
    """The report as lines of text."""
    return "".join(f"{line}\n" for line in sort_by_severity(converted.findings))


# ---------- zones
# Time zones by the names of other products: those of Windows and of Ruby on Rails. Pure.


#: The offset before a name: "(UTC-06:00) Central Time (US & Canada)", "(GMT+01:00) Bern".
_OFFSET = re.compile(r"\s*\((?:UTC|GMT)[^)]*\)\s*")

_ZONES: Final = {
    "hawaii": "Pacific/Honolulu",
    "alaska": "America/Anchorage",
    "pacific time (us & canada)": "America/Los_Angeles",
    "arizona": "America/Phoenix",
    "mountain time (us & canada)": "America/Denver",
    "central time (us & canada)": "America/Chicago",
    "saskatchewan": "America/Regina",
    "eastern time (us & canada)": "America/New_York",
    "indiana (east)": "America/Indiana/Indianapolis",
    "atlantic time (canada)": "America/Halifax",
    "newfoundland": "America/St_Johns",
    "mexico city": "America/Mexico_City",
    "guadalajara, mexico city, monterrey": "America/Mexico_City",
    "bogota": "America/Bogota",
    "bogota, lima, quito, rio branco": "America/Bogota",
    "lima": "America/Lima",
    "caracas": "America/Caracas",
    "santiago": "America/Santiago",
    "brasilia": "America/Sao_Paulo",
    "buenos aires": "America/Argentina/Buenos_Aires",
    "city of buenos aires": "America/Argentina/Buenos_Aires",
    "azores": "Atlantic/Azores",
    "coordinated universal time": "UTC",
    "dublin": "Europe/Dublin",
    "edinburgh": "Europe/London",
    "lisbon": "Europe/Lisbon",
    "london": "Europe/London",
    "dublin, edinburgh, lisbon, london": "Europe/London",
    "casablanca": "Africa/Casablanca",
    "amsterdam": "Europe/Amsterdam",
    "berlin": "Europe/Berlin",
    "bern": "Europe/Zurich",
    "amsterdam, berlin, bern, rome, stockholm, vienna": "Europe/Berlin",
    "belgrade, bratislava, budapest, ljubljana, prague": "Europe/Budapest",
    "brussels": "Europe/Brussels",
    "brussels, copenhagen, madrid, paris": "Europe/Paris",
    "budapest": "Europe/Budapest",
    "copenhagen": "Europe/Copenhagen",
    "madrid": "Europe/Madrid",
    "paris": "Europe/Paris",
    "prague": "Europe/Prague",
    "rome": "Europe/Rome",
    "sarajevo, skopje, warsaw, zagreb": "Europe/Warsaw",
    "stockholm": "Europe/Stockholm",
    "vienna": "Europe/Vienna",
    "warsaw": "Europe/Warsaw",
    "zurich": "Europe/Zurich",
    "athens": "Europe/Athens",
    "athens, bucharest": "Europe/Bucharest",
    "bucharest": "Europe/Bucharest",
    "cairo": "Africa/Cairo",
    "harare, pretoria": "Africa/Johannesburg",
    "pretoria": "Africa/Johannesburg",
    "helsinki": "Europe/Helsinki",
    "helsinki, kyiv, riga, sofia, tallinn, vilnius": "Europe/Helsinki",
    "kyiv": "Europe/Kyiv",
    "jerusalem": "Asia/Jerusalem",
    "istanbul": "Europe/Istanbul",
    "nairobi": "Africa/Nairobi",
    "riyadh": "Asia/Riyadh",
    "kuwait, riyadh": "Asia/Riyadh",
    "moscow": "Europe/Moscow",
    "moscow, st. petersburg": "Europe/Moscow",
    "tehran": "Asia/Tehran",
    "abu dhabi": "Asia/Dubai",
    "abu dhabi, muscat": "Asia/Dubai",
    "karachi": "Asia/Karachi",
    "islamabad, karachi": "Asia/Karachi",
    "chennai": "Asia/Kolkata",
    "chennai, kolkata, mumbai, new delhi": "Asia/Kolkata",
    "kolkata": "Asia/Kolkata",
    "mumbai": "Asia/Kolkata",
    "new delhi": "Asia/Kolkata",
    "kathmandu": "Asia/Kathmandu",
    "dhaka": "Asia/Dhaka",
    "bangkok": "Asia/Bangkok",
    "bangkok, hanoi, jakarta": "Asia/Bangkok",
    "jakarta": "Asia/Jakarta",
    "beijing": "Asia/Shanghai",
    "beijing, chongqing, hong kong, urumqi": "Asia/Shanghai",
    "hong kong": "Asia/Hong_Kong",
    "kuala lumpur": "Asia/Kuala_Lumpur",
    "kuala lumpur, singapore": "Asia/Singapore",
    "singapore": "Asia/Singapore",
    "taipei": "Asia/Taipei",
    "perth": "Australia/Perth",
    "osaka, sapporo, tokyo": "Asia/Tokyo",
    "tokyo": "Asia/Tokyo",
    "seoul": "Asia/Seoul",
    "adelaide": "Australia/Adelaide",
    "darwin": "Australia/Darwin",
    "brisbane": "Australia/Brisbane",
    "canberra, melbourne, sydney": "Australia/Sydney",
    "melbourne": "Australia/Melbourne",
    "sydney": "Australia/Sydney",
    "hobart": "Australia/Hobart",
    "auckland": "Pacific/Auckland",
    "auckland, wellington": "Pacific/Auckland",
    "fiji": "Pacific/Fiji",
}


def zone(text: str) -> str | None:
    """The tz database's name for a product's time zone; None if unknown."""
    name = text.strip()
    if name and is_zone(name):
        return name
    return _ZONES.get(_OFFSET.sub("", name).casefold())


#: The top-level keys in the order of a file.
KEYS = ("users", "groups", "schedules", "support_hours", "escalation_policies", "integrations", "maintenance_windows")

_LABELS = {
    "users": gettext_noop("user"),
    "groups": gettext_noop("group"),
    "schedules": gettext_noop("schedule"),
    "support_hours": gettext_noop("support hours"),
    "escalation_policies": gettext_noop("policy"),
    "integrations": gettext_noop("integration"),
    "maintenance_windows": gettext_noop("maintenance"),
}

#: What `kind` of `report_grouped` and `report_kind_omitted` may be, for the catalogue of translations.
KINDS = (
    gettext_noop("users"), gettext_noop("integrations"), gettext_noop("services"), gettext_noop("chains"),
    gettext_noop("escalations"), gettext_noop("heartbeats"), gettext_noop("webhooks"),
    gettext_noop("workflows"), gettext_noop("alert and notification policies"), gettext_noop("event orchestrations"),
    gettext_noop("business services"), gettext_noop("rulesets"),
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class ExistingUser:
    """A user who already exists."""

    username: str
    role: str
    name: str = ""
    time_zone: str = "UTC"
    is_active: bool = True
    #: Their current and future absences, as in YAML.
    absences: tuple[Mapping[str, Any], ...] = ()


class ConfigBuilder:
    """Collects the results of a conversion.

    `existing_users` are the existing users by lower-case e-mail address; they stay unchanged, except for their
    absences.
    """

    def __init__(self, product: str, now: datetime, existing_users: Mapping[str, ExistingUser] | None = None) -> None:
        self.product = product
        self.now = now
        self.existing_users = dict(existing_users or {})
        self._entries: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS}
        self._used_names: dict[str, set[str]] = {key: set() for key in KEYS}
        #: Usernames of imported users, by lower-case e-mail address.
        self._usernames: dict[str, str] = {}
        self._added_usernames: set[str] = set()
        self._findings: list[ImportFinding] = []
        self._grouped_findings: dict[tuple[FindingSeverity, str, Reason, Reason, Reason], list[str]] = {}
        # An imported user must not take an existing user's name.
        self._used_names["users"] |= {user.username.casefold() for user in self.existing_users.values()}
        self._used_names["users"] |= self.existing_users.keys()

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Adds an object to a top-level key, without its empty values."""
        if key == "users":
            self._added_usernames.add(entry["username"])
        self._entries[key].append({name: value for name, value in entry.items() if value not in (None, "", [], {})})

    def has_user(self, username: str) -> bool:
        """Whether a user with that username was added."""
        return username in self._added_usernames

    def claim_name(self, key: str, requested: object) -> str:
        """A valid name, unique below this top-level key and as close to `requested` as possible; changes are
        reported."""
        cleaned = str(requested or "").strip()
        name = _unique_name(_valid_name(cleaned, _LABELS[key]), self._used_names[key])
        self._used_names[key].add(name.casefold())
        if name != cleaned:
            kind, problem = Term(_LABELS[key]), name_problem(cleaned)
            reason = as_reason(problem) if problem else reasons.NAME_TAKEN(kind=kind)
            subject = reasons.NAMED(kind=kind, name=cleaned) if cleaned else reasons.UNNAMED(kind=kind)
            self.report_changed(subject, reasons.RENAMED(name=name), reason)
        return name

    def claim_username(self, email: str) -> str:
        """The username for an e-mail address: the existing user's, or else the part before the @.

        Two users who share an address become one.
        """
        existing = self.existing_users.get(fold_login(email))
        if existing is not None:
            return existing.username
        if (assigned := self._usernames.get(email.casefold())) is not None:
            return assigned
        local_part = email.partition("@")[0].strip()
        name = (
            local_part
            if name_problem(local_part) is None and local_part.casefold() not in self._used_names["users"]
            else email
        )
        name = _unique_name(_valid_name(name, "user"), self._used_names["users"])
        self._used_names["users"] |= {name.casefold(), email.casefold()}
        self._usernames[email.casefold()] = name
        return name

    def add_schedule_group(self, requested: str, schedule: str, users: Iterable[str]) -> str:
        """A new group for a schedule without a team, with everybody in the schedule as a member."""
        group = self.claim_name("groups", requested)
        self.add("groups", {"name": group, "members": [{"user": user, "roles": []} for user in dict.fromkeys(users)]})
        self.report_changed(
            reasons.SCHEDULE(schedule=schedule), reasons.BELONGS_TO_GROUP(group=group), reasons.SCHEDULES_HAVE_GROUPS()
        )
        return group

    def resolve_zone(self, requested: object, subject: Reason, default: str = "UTC") -> str:
        """The time zone if it exists, or else `default`, which is reported."""
        name = str(requested or "").strip()
        if (zone_name := zone(name)) is not None:
            return zone_name
        if name:
            self.report_changed(
                subject,
                reasons.OTHER_ZONE(zone=default),
                reasons.UNKNOWN_ZONE(zone=name[:64]),
                reasons.SET_ZONE(),
            )
        return default

    def report_omitted(self, subject: Reason, difference: Reason, reason: Reason, remedy: Reason = NO_REASON) -> None:
        """Reports something that is missing."""
        self._findings.append(ImportFinding(FindingSeverity.OMITTED, subject, difference, reason, remedy))

    def report_changed(self, subject: Reason, difference: Reason, reason: Reason, remedy: Reason = NO_REASON) -> None:
        """Reports something that differs."""
        self._findings.append(ImportFinding(FindingSeverity.CHANGED, subject, difference, reason, remedy))

    def report_to_do(self, subject: Reason, difference: Reason, reason: Reason, remedy: Reason = NO_REASON) -> None:
        """Reports something that people have to do themselves."""
        self._findings.append(ImportFinding(FindingSeverity.TO_DO, subject, difference, reason, remedy))

    def report_kind_omitted(self, kind: str, documents: Iterable[JsonObject], reason: Reason, remedy: Reason) -> None:
        """Reports that all objects of a kind are missing."""
        names = [
            str(document.get("name") or document.get("description") or document.get("id") or "")
            for document in documents
        ]
        if names:
            subject = reasons.OBJECTS(kind=Term(kind), names=list_names(name for name in names if name))
            self.report_omitted(subject, reasons.NOT_IMPORTED(), reason, remedy)

    def report_unreadable(self, documents: Iterable[JsonObject]) -> None:
        """Reports what the key may not read: each with `path` and `why`."""
        for document in documents:
            path = reasons.PATH(path=str(document["path"]))
            self.report_omitted(path, reasons.NOT_READ(), document["why"], reasons.USE_OTHER_KEY())

    def report_grouped(
        self,
        severity: FindingSeverity,
        kind: str,
        name: str,
        difference: Reason,
        reason: Reason,
        remedy: Reason = NO_REASON,
    ) -> None:
        """Reports the same finding for many objects on one line. `kind` is "users", for example."""
        self._grouped_findings.setdefault((severity, kind, difference, reason, remedy), []).append(name)

    def report_ack_timeout(self, kind: str, name: str) -> None:
        """Reports that policies repeat acknowledgement reminders, which the other product never does."""
        self.report_grouped(
            FindingSeverity.CHANGED,
            kind,
            name,
            reasons.ACK_TIMEOUT(),
            reasons.ACK_NEVER_ENDS(product=self.product),
            reasons.EXTEND_TIMEOUT(),
        )

    def build(self) -> ConvertedConfig:
        """The result."""
        findings = list(self._findings)
        for (severity, kind, difference, reason, remedy), names in self._grouped_findings.items():
            findings.append(
                ImportFinding(
                    severity, reasons.OBJECTS(kind=Term(kind), names=list_names(names)), difference, reason, remedy
                )
            )
        entries = {key: objects for key, objects in self._entries.items() if objects}
        return ConvertedConfig(entries, tuple(dict.fromkeys(findings)))


def _valid_name(text: str, label: str) -> str:
    """The closest valid name."""
    name = " ".join(_CONTROL.sub(" ", text).replace("/", "-").split())
    if not name:
        name = label.capitalize()
    if name.isdigit():
        name = f"{label.capitalize()} {name}"
    return name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 1].rstrip()}…"


def _unique_name(name: str, used_names: set[str]) -> str:
    """The name, with a number appended if it is taken."""
    candidate, suffix = name, 1
    while candidate.casefold() in used_names:
        suffix += 1
        candidate = f"{name[: MAX_LENGTH - 6].rstrip()} ({suffix})"
    return candidate
