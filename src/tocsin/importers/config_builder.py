"""Builds the configuration during a conversion: valid and unique names, existing users, and the report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext_noop

from tocsin.core.reasons import NO_REASON, Reason, Term, as_reason
from tocsin.core.validation.naming_rules import MAX_LENGTH, name_problem
from tocsin.core.validation.text_sanitizing import fold_login
from tocsin.importers import reasons, zones
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import ConvertedConfig, FindingSeverity, ImportFinding, list_names

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
        if (zone_name := zones.zone(name)) is not None:
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
