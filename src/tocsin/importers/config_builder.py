"""Builds the configuration during a conversion: valid and unique names, existing users, and the report. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol, Self

from django.utils.translation import gettext_noop

from tocsin.core.errors import Permanent
from tocsin.core.reasons import NO_REASON, Param, Reason, Term, as_reason, reason_as_json, reason_from_json
from tocsin.core.validation.inputs import MAX_LENGTH, fold_login, is_zone, name_problem
from tocsin.core.validation.spec import write_moment
from tocsin.escalation.policy import MAX_STEPS
from tocsin.importers import reasons
from tocsin.importers.api_reader import ApiReader, ProgressCallback, validate_base_url, validate_key

# ---------- json access
# Reads values from another product's documents, whatever their type.


type JsonObject = dict[str, Any]
#: All documents of an account, by kind.
type ProductDocuments = Mapping[str, list[JsonObject]]

_FIRST_YEAR, _LAST_YEAR = 1971, 2200


def objects_of(value: object) -> list[JsonObject]:
    """The objects in a list; other values are ignored."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


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


def id_of(document: object) -> str:
    """The id of a document or of a reference to one."""
    return str(object_of(document).get("id") or "")


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
# Findings with object, reason and remedy; never with secrets.


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
    """A configuration for `apply` by top-level key, and the report, missing objects first."""

    configuration: Mapping[str, list[dict[str, Any]]] = field(repr=False)
    findings: tuple[ImportFinding, ...] = ()

    def counts(self) -> dict[str, int]:
        """The number of objects by top-level key, in the order of the file."""
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
    return reasons.MORE_NAMES(names=", ".join(unique[:_MAX_NAMES]), count=len(unique) - _MAX_NAMES)


def as_text(converted: ConvertedConfig) -> str:
    """The report as lines of text."""
    return "".join(f"{line}\n" for line in converted.findings)


# ---------- zones
# Time zones by the names of other products: those of Windows and of Ruby on Rails.


#: The offset before a name: "(UTC-06:00) Central Time (US & Canada)", "(GMT+01:00) Bern".
_OFFSET = re.compile(r"\s*\((?:UTC|GMT)[^)]*\)\s*")

#: Their names without the offset, by zone.
_NAMES: Final = {
    "Pacific/Honolulu": "hawaii",
    "America/Anchorage": "alaska",
    "America/Los_Angeles": "pacific time (us & canada)",
    "America/Phoenix": "arizona",
    "America/Denver": "mountain time (us & canada)",
    "America/Chicago": "central time (us & canada)",
    "America/Regina": "saskatchewan",
    "America/New_York": "eastern time (us & canada)",
    "America/Indiana/Indianapolis": "indiana (east)",
    "America/Halifax": "atlantic time (canada)",
    "America/St_Johns": "newfoundland",
    "America/Mexico_City": "mexico city; guadalajara, mexico city, monterrey",
    "America/Bogota": "bogota; bogota, lima, quito, rio branco",
    "America/Lima": "lima",
    "America/Caracas": "caracas",
    "America/Santiago": "santiago",
    "America/Sao_Paulo": "brasilia",
    "America/Argentina/Buenos_Aires": "buenos aires; city of buenos aires",
    "Atlantic/Azores": "azores",
    "UTC": "coordinated universal time",
    "Europe/Dublin": "dublin",
    "Europe/London": "edinburgh; london; dublin, edinburgh, lisbon, london",
    "Europe/Lisbon": "lisbon",
    "Africa/Casablanca": "casablanca",
    "Europe/Amsterdam": "amsterdam",
    "Europe/Berlin": "berlin; amsterdam, berlin, bern, rome, stockholm, vienna",
    "Europe/Zurich": "bern; zurich",
    "Europe/Budapest": "belgrade, bratislava, budapest, ljubljana, prague; budapest",
    "Europe/Brussels": "brussels",
    "Europe/Paris": "brussels, copenhagen, madrid, paris; paris",
    "Europe/Copenhagen": "copenhagen",
    "Europe/Madrid": "madrid",
    "Europe/Prague": "prague",
    "Europe/Rome": "rome",
    "Europe/Warsaw": "sarajevo, skopje, warsaw, zagreb; warsaw",
    "Europe/Stockholm": "stockholm",
    "Europe/Vienna": "vienna",
    "Europe/Athens": "athens",
    "Europe/Bucharest": "athens, bucharest; bucharest",
    "Africa/Cairo": "cairo",
    "Africa/Johannesburg": "harare, pretoria; pretoria",
    "Europe/Helsinki": "helsinki; helsinki, kyiv, riga, sofia, tallinn, vilnius",
    "Europe/Kyiv": "kyiv",
    "Asia/Jerusalem": "jerusalem",
    "Europe/Istanbul": "istanbul",
    "Africa/Nairobi": "nairobi",
    "Asia/Riyadh": "riyadh; kuwait, riyadh",
    "Europe/Moscow": "moscow; moscow, st. petersburg",
    "Asia/Tehran": "tehran",
    "Asia/Dubai": "abu dhabi; abu dhabi, muscat",
    "Asia/Karachi": "karachi; islamabad, karachi",
    "Asia/Kolkata": "chennai; chennai, kolkata, mumbai, new delhi; kolkata; mumbai; new delhi",
    "Asia/Kathmandu": "kathmandu",
    "Asia/Dhaka": "dhaka",
    "Asia/Bangkok": "bangkok; bangkok, hanoi, jakarta",
    "Asia/Jakarta": "jakarta",
    "Asia/Shanghai": "beijing; beijing, chongqing, hong kong, urumqi",
    "Asia/Hong_Kong": "hong kong",
    "Asia/Kuala_Lumpur": "kuala lumpur",
    "Asia/Singapore": "kuala lumpur, singapore; singapore",
    "Asia/Taipei": "taipei",
    "Australia/Perth": "perth",
    "Asia/Tokyo": "osaka, sapporo, tokyo; tokyo",
    "Asia/Seoul": "seoul",
    "Australia/Adelaide": "adelaide",
    "Australia/Darwin": "darwin",
    "Australia/Brisbane": "brisbane",
    "Australia/Sydney": "canberra, melbourne, sydney; sydney",
    "Australia/Melbourne": "melbourne",
    "Australia/Hobart": "hobart",
    "Pacific/Auckland": "auckland; auckland, wellington",
    "Pacific/Fiji": "fiji",
}
_ZONES: Final = {name: zone for zone, names in _NAMES.items() for name in names.split("; ")}


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
    """Collects the results of a conversion; `now` decides what is over.

    `existing_users` are the existing users by lower-case e-mail address; they stay unchanged, except for their
    absences. `with_keys`: readable keys of senders become tokens.
    """

    def __init__(
        self,
        product: str,
        documents: ProductDocuments,
        now: datetime,
        existing_users: Mapping[str, ExistingUser] | None = None,
        *,
        with_keys: bool = False,
    ) -> None:
        self.product, self._documents, self.now, self.with_keys = product, documents, now, with_keys
        self.existing_users = dict(existing_users or {})
        # New names, by what the product refers to them by.
        self.users: dict[str, str] = {}
        self.groups: dict[str, str] = {}
        self.schedules: dict[str, str] = {}
        self.policies: dict[str, str] = {}
        self._entries: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS}
        self._used_names: dict[str, set[str]] = {key: set() for key in KEYS}
        #: Usernames of imported users, by lower-case e-mail address.
        self._usernames: dict[str, str] = {}
        self.added_users: set[str] = set()
        self._findings: list[ImportFinding] = []
        self._grouped_findings: dict[tuple[FindingSeverity, str, Reason, Reason, Reason], list[str]] = {}
        # An imported user must not take an existing user's name.
        self._used_names["users"] |= {user.username.casefold() for user in self.existing_users.values()}
        self._used_names["users"] |= self.existing_users.keys()

    def documents(self, kind: str) -> list[JsonObject]:
        """The documents without duplicate ids: objects added during pagination push others onto the next page."""
        unique: dict[object, JsonObject] = {}
        for index, document in enumerate(self._documents.get(kind, [])):
            identity = document.get("id")
            unique.setdefault(identity if isinstance(identity, str | int) and identity != "" else (index,), document)
        return list(unique.values())

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Adds an object to a top-level key, without its empty values."""
        self._entries[key].append({name: value for name, value in entry.items() if value not in (None, "", [], {})})

    def claim_name(self, key: str, requested: object) -> str:
        """A valid name, unique below this top-level key and as close to `requested` as possible; changes are
        reported."""
        cleaned = str(requested or "").strip()
        name = unique_name(_valid_name(cleaned, _LABELS[key]), self._used_names[key])
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
        is_free = name_problem(local_part) is None and local_part.casefold() not in self._used_names["users"]
        name = unique_name(_valid_name(local_part if is_free else email, "user"), self._used_names["users"])
        self._used_names["users"].add(email.casefold())
        self._usernames[email.casefold()] = name
        return name

    def claim_policy(self, requested: str, subject: Reason, steps: list[Any], nobody: Reason) -> str | None:
        """A name for a policy; None if it has no steps, which is reported. Steps beyond MAX_STEPS are cut off."""
        if not steps:
            self.report_omitted(subject, reasons.NOT_IMPORTED(), nobody, reasons.CREATE_POLICY())
            return None
        if len(steps) > MAX_STEPS:
            self.report_omitted(subject, reasons.TOO_MANY_STEPS(count=MAX_STEPS), reasons.STEP_LIMIT())
            del steps[MAX_STEPS:]
        return self.claim_name("escalation_policies", requested)

    def add_schedule(
        self, requested: str, group: str | None, users: Iterable[str], nobody: Reason, entry: dict[str, Any]
    ) -> tuple[str, str] | None:
        """Adds a schedule; returns its name and group. None if it has no shifts, which is reported.

        One without a group gets its own, with everybody in the schedule as a member.
        """
        if not entry["shifts"]:
            subject = reasons.SCHEDULE(schedule=requested)
            self.report_omitted(subject, reasons.NOT_IMPORTED(), nobody, reasons.CREATE_SCHEDULE())
            return None
        name = self.claim_name("schedules", requested)
        if group is None:
            group = self.claim_name("groups", requested)
            members = [{"user": user, "roles": []} for user in dict.fromkeys(users)]
            self.add("groups", {"name": group, "members": members})
            belongs = reasons.BELONGS_TO_GROUP(group=group)
            self.report_changed(reasons.SCHEDULE(schedule=name), belongs, reasons.SCHEDULES_HAVE_GROUPS())
        self.add("schedules", {"name": name, "group": group, **entry})
        return name, group

    def upcoming(self, start: object, end: object) -> dict[str, str] | None:
        """A span as in YAML; None if it is over or cannot be read."""
        since, until = parse_time(start), parse_time(end)
        if since is None or until is None or until <= self.now or until <= since:
            return None
        return {"from": write_moment(since), "to": write_moment(until)}

    def resolve_zone(self, requested: object, subject: Reason, default: str = "UTC") -> str:
        """The time zone if it exists, or else `default`, which is reported."""
        name = str(requested or "").strip()
        if (zone_name := zone(name)) is not None:
            return zone_name
        if name:
            unknown = reasons.UNKNOWN_ZONE(zone=name[:64])
            self.report_changed(subject, reasons.OTHER_ZONE(zone=default), unknown, reasons.SET_ZONE())
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

    def report_kind_omitted(self, source_kind: str, kind: str, reason: Reason, remedy: Reason) -> None:
        """Reports that all objects of a kind are missing."""
        names = [
            str(document.get("name") or document.get("description") or document.get("id") or "")
            for document in self.documents(source_kind)
        ]
        if names:
            subject = reasons.OBJECTS(kind=Term(kind), names=list_names(name for name in names if name))
            self.report_omitted(subject, reasons.NOT_IMPORTED(), reason, remedy)

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
        never = reasons.ACK_NEVER_ENDS(product=self.product)
        self.report_grouped(FindingSeverity.CHANGED, kind, name, reasons.ACK_TIMEOUT(), never, reasons.EXTEND_TIMEOUT())

    def report_no_policy(self, name: str, reason: Reason) -> None:
        """Reports that an integration pages nobody."""
        remedy = reasons.CHOOSE_POLICY_AND_RECIPIENTS()
        self.report_grouped(FindingSeverity.TO_DO, "integrations", name, reasons.HAVE_NO_POLICY(), reason, remedy)

    def report_senders(self, name: str, difference: Reason, reason: Reason, remedy: Reason) -> None:
        """Reports that the senders of an integration have to be changed."""
        self.report_grouped(FindingSeverity.TO_DO, "integrations", name, difference, reason, remedy)

    def build(self) -> ConvertedConfig:
        """The result."""
        for document in self.documents("not_shown"):
            path = reasons.PATH(path=str(document["path"]))
            self.report_omitted(path, reasons.NOT_READ(), document["why"], reasons.USE_OTHER_KEY())
        findings = list(self._findings)
        for (severity, kind, difference, reason, remedy), names in self._grouped_findings.items():
            subject = reasons.OBJECTS(kind=Term(kind), names=list_names(names))
            findings.append(ImportFinding(severity, subject, difference, reason, remedy))
        order = list(FindingSeverity)
        findings.sort(key=lambda finding: order.index(finding.severity))
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


def unique_name(name: str, used_names: set[str], pattern: str = " ({})", max_length: int = MAX_LENGTH) -> str:
    """The name, with a number appended if it is taken; it is taken from now on. Upper and lower case are the same."""
    candidate, suffix = name, 1
    while candidate.casefold() in used_names:
        suffix += 1
        candidate = f"{name[: max_length - 6].rstrip()}{pattern.format(suffix)}"
    used_names.add(candidate.casefold())
    return candidate


def clean_name(text: object, default: str) -> str:
    """A name that need not be unique or announced: of a shift."""
    return " ".join(str(text or default).replace("\0", "").split())[:80] or default


# ---------- products


class Converter(Protocol):
    """Converts documents to a configuration and a report."""

    def __call__(
        self,
        documents: ProductDocuments,
        now: datetime,
        existing_users: Mapping[str, ExistingUser] | None = None,
        *,
        with_keys: bool = False,
    ) -> ConvertedConfig: ...


def converter[B: ConfigBuilder](title: str, builder_type: type[B], fill: Callable[[B], None]) -> Converter:
    """The converter of a product, of a function that fills a builder."""

    def convert(
        documents: ProductDocuments,
        now: datetime,
        existing_users: Mapping[str, ExistingUser] | None = None,
        *,
        with_keys: bool = False,
    ) -> ConvertedConfig:
        builder = builder_type(title, documents, now, existing_users, with_keys=with_keys)
        fill(builder)
        return builder.build()

    return convert


@dataclass(frozen=True, slots=True)
class Product:
    """A product that can be imported."""

    name: str
    title: str
    #: The usual URL of its API; "": each installation has its own.
    base: str
    #: The environment variable with the key for the command line.
    key_variable: str
    #: Where the key is created, in one line, and as the remedy for a wrong key.
    key_location: str
    key_help: Reason
    #: The headers with a key in them.
    headers: Callable[[str], dict[str, str]]
    #: Reads all documents that are converted. Raises Permanent or Temporary with a message for users.
    fetch: Callable[[ApiReader, datetime], ProductDocuments]
    convert: Converter
    #: The end of every URL of its API.
    api_path: str = ""
    #: The reader of an export; None: there is none.
    read_export: Callable[[bytes], ProductDocuments] | None = None

    def reader(self, key: str, base: str, progress: ProgressCallback) -> ApiReader:
        """The API reader for that key. Raises Permanent for an invalid address or key."""
        if not (base.strip() or self.base):
            raise Permanent(reasons.OWN_ADDRESS(product=self.title), reasons.SET_OWN_ADDRESS())
        address = validate_base_url(base, self.base)
        address = address if address.endswith(self.api_path) else f"{address}{self.api_path}"
        headers = {"Accept": "application/json", **self.headers(validate_key(key))}
        return ApiReader(self.title, address, headers, key_help=self.key_help, progress=progress)
