"""Builds the configuration during a conversion: valid and unique names, existing users, and the report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.validation.naming_rules import MAX_LENGTH, name_problem
from tocsin.importers import zones
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import ConvertedConfig, FindingSeverity, ImportFinding, describe_count, several

#: The top-level keys in the order of a file.
KEYS = ("users", "groups", "schedules", "support_hours", "escalation_policies", "integrations", "maintenance_windows")

_WORDS = {
    "users": "user",
    "groups": "group",
    "schedules": "schedule",
    "support_hours": "support hours",
    "escalation_policies": "policy",
    "integrations": "integration",
    "maintenance_windows": "maintenance",
}
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
    away: tuple[Mapping[str, Any], ...] = ()


class ConfigBuilder:
    """Collects the results of a conversion.

    `known` are the existing users by lower-case e-mail address; they stay unchanged, except for their absences.
    """

    def __init__(self, product: str, now: datetime, known: Mapping[str, ExistingUser] | None = None) -> None:
        self.product = product
        self.now = now
        self.known = dict(known or {})
        self._entries: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS}
        self._taken: dict[str, set[str]] = {key: set() for key in KEYS}
        #: Usernames of imported users, by lower-case e-mail address.
        self._usernames: dict[str, str] = {}
        self._added: set[str] = set()
        self._findings: list[ImportFinding] = []
        self._together: dict[tuple[FindingSeverity, str, str, str, str], list[str]] = {}
        # An imported user must not take an existing user's name.
        self._taken["users"] |= {one.username.casefold() for one in self.known.values()}
        self._taken["users"] |= self.known.keys()

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Adds an object to a top-level key, without its empty values."""
        if key == "users":
            self._added.add(entry["username"])
        self._entries[key].append({name: value for name, value in entry.items() if value not in (None, "", [], {})})

    def has_user(self, username: str) -> bool:
        """Whether a user with that username was added."""
        return username in self._added

    def name(self, key: str, wanted: object) -> str:
        """A valid name, unique below this top-level key and as close to `wanted` as possible; changes are reported."""
        given = str(wanted or "").strip()
        name = _unused(_legal(given, _WORDS[key]), self._taken[key])
        self._taken[key].add(name.casefold())
        if name != given:
            why = name_problem(given) or f"There are two {_WORDS[key]} names that differ in upper and lower case only."
            self.change(f"{_WORDS[key]} {given or '(without a name)'}", f"is called {name} here", why)
        return name

    def username(self, email: str) -> str:
        """The username for an e-mail address: the existing user's, or else the part before the @.

        Two users who share an address become one.
        """
        held = self.known.get(email.casefold())
        if held is not None:
            return held.username
        if (given := self._usernames.get(email.casefold())) is not None:
            return given
        short = email.partition("@")[0].strip()
        name = short if name_problem(short) is None and short.casefold() not in self._taken["users"] else email
        name = _unused(_legal(name, "user"), self._taken["users"])
        self._taken["users"] |= {name.casefold(), email.casefold()}
        self._usernames[email.casefold()] = name
        return name

    def group_for(self, wanted: str, schedule: str, users: Iterable[str]) -> str:
        """A new group for a schedule without a team, with everybody in the schedule as a member."""
        group = self.name("groups", wanted)
        self.add("groups", {"name": group, "members": [{"user": user, "roles": []} for user in dict.fromkeys(users)]})
        self.change(f"schedule {schedule}", f"belongs to the group {group}", "Here every schedule is a group's.")
        return group

    def zone(self, wanted: object, subject: str, default: str = "UTC") -> str:
        """The time zone if it exists, or else `default`, which is reported."""
        name = str(wanted or "").strip()
        if (known := zones.zone(name)) is not None:
            return known
        if name:
            self.change(
                subject,
                f"is in the time zone {default}",
                f"There is no time zone {name[:64]} in the tz database.",
                "Set the right one.",
            )
        return default

    def leave_out(self, subject: str, what: str, why: str, remedy: str = "") -> None:
        """Reports something that is missing."""
        self._findings.append(ImportFinding(FindingSeverity.LEFT_OUT, subject, what, why, remedy))

    def change(self, subject: str, what: str, why: str, remedy: str = "") -> None:
        """Reports something that differs."""
        self._findings.append(ImportFinding(FindingSeverity.CHANGED, subject, what, why, remedy))

    def to_do(self, subject: str, what: str, why: str, remedy: str = "") -> None:
        """Reports something that people have to do themselves."""
        self._findings.append(ImportFinding(FindingSeverity.TO_DO, subject, what, why, remedy))

    def not_carried(self, what: str, documents: Iterable[JsonObject], why: str, remedy: str) -> None:
        """Reports that all objects of a kind are missing."""
        names = [str(one.get("name") or one.get("description") or one.get("id") or "") for one in documents]
        if names:
            known = several(name for name in names if name)
            is_one = len(names) == 1
            self.leave_out(
                describe_count(what, len(names)), f"{'is' if is_one else 'are'} not here ({known})", why, remedy
            )

    def not_read(self, documents: Iterable[JsonObject]) -> None:
        """Reports what the key may not read: each with `path` and `why`."""
        for one in documents:
            self.leave_out(str(one["path"]), "was not read", str(one["why"]), "Read again with a key that may see it.")

    def together(self, weight: FindingSeverity, nouns: str, one: str, what: str, why: str, remedy: str = "") -> None:
        """Reports the same finding for many objects on one line. `nouns` is "users", for example."""
        self._together.setdefault((weight, nouns, what, why, remedy), []).append(one)

    def acknowledgements_run_out(self, nouns: str, one: str) -> None:
        """Reports that policies repeat acknowledgement reminders, which the other product never does."""
        self.together(
            FindingSeverity.CHANGED,
            nouns,
            one,
            "ask “Still on it?” 30 minutes after an acknowledgement",
            f"In {self.product} an acknowledgement never runs out; here whoever does not answer is no longer on it.",
            "Make that time longer on the policy, if it is too soon.",
        )

    def translation(self) -> ConvertedConfig:
        """The result."""
        findings = list(self._findings)
        for (weight, nouns, what, why, remedy), ones in self._together.items():
            findings.append(ImportFinding(weight, f"{nouns} {several(ones)}", what, why, remedy))
        entries = {key: found for key, found in self._entries.items() if found}
        return ConvertedConfig(entries, tuple(dict.fromkeys(findings)))


def _legal(wanted: str, word: str) -> str:
    """The closest valid name."""
    name = " ".join(_CONTROL.sub(" ", wanted).replace("/", "-").split())
    if not name:
        name = word.capitalize()
    if name.isdigit():
        name = f"{word.capitalize()} {name}"
    return name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 1].rstrip()}…"


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number appended if it is taken."""
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        found = f"{name[: MAX_LENGTH - 6].rstrip()} ({number})"
    return found
