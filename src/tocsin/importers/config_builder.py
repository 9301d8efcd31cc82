"""The configuration while it is being translated: names made legal and unique, people found again, the report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.validation.naming_rules import MAX_LENGTH, problem_with_name
from tocsin.importers import zones
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import ConvertedConfig, FindingSeverity, ImportFinding, said_count, several

#: The top keys, in the order in which people read them.
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
    """Somebody who is a user already."""

    username: str
    role: str
    name: str = ""
    time_zone: str = "UTC"
    is_active: bool = True
    #: Their absences that are not over, as YAML has them.
    away: tuple[Mapping[str, Any], ...] = ()


class ConfigBuilder:
    """Collects what a translation comes to.

    `known` are the users that there are, by e-mail in lower case: they stay as they are, but for who covers them.
    """

    def __init__(self, product: str, now: datetime, known: Mapping[str, ExistingUser] | None = None) -> None:
        self.product = product
        self.now = now
        self.known = dict(known or {})
        self._entries: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS}
        self._taken: dict[str, set[str]] = {key: set() for key in KEYS}
        #: Of those who come in, by e-mail in lower case.
        self._usernames: dict[str, str] = {}
        self._added: set[str] = set()
        self._findings: list[ImportFinding] = []
        self._together: dict[tuple[FindingSeverity, str, str, str, str], list[str]] = {}
        # Nobody who comes in may take the name of somebody who is here.
        self._taken["users"] |= {one.username.casefold() for one in self.known.values()}
        self._taken["users"] |= self.known.keys()

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Adds an object below a top key, without the keys that have no value."""
        if key == "users":
            self._added.add(entry["username"])
        self._entries[key].append({name: value for name, value in entry.items() if value not in (None, "", [], {})})

    def has_user(self, username: str) -> bool:
        """Whether somebody is in it already under that username."""
        return username in self._added

    def name(self, key: str, wanted: object) -> str:
        """A legal name that nothing else below this top key has, as near to `wanted` as can be; a change is told."""
        given = str(wanted or "").strip()
        name = _unused(_legal(given, _WORDS[key]), self._taken[key])
        self._taken[key].add(name.casefold())
        if name != given:
            why = (
                problem_with_name(given)
                or f"There are two {_WORDS[key]} names that differ in upper and lower case only."
            )
            self.change(f"{_WORDS[key]} {given or '(without a name)'}", f"is called {name} here", why)
        return name

    def username(self, email: str) -> str:
        """The username of somebody with that e-mail address: theirs if they are here, else what stands before the @.
        Two who share an address are one user.
        """
        held = self.known.get(email.casefold())
        if held is not None:
            return held.username
        if (given := self._usernames.get(email.casefold())) is not None:
            return given
        short = email.partition("@")[0].strip()
        name = short if problem_with_name(short) is None and short.casefold() not in self._taken["users"] else email
        name = _unused(_legal(name, "user"), self._taken["users"])
        self._taken["users"] |= {name.casefold(), email.casefold()}
        self._usernames[email.casefold()] = name
        return name

    def group_for(self, wanted: str, schedule: str, users: Iterable[str]) -> str:
        """A new group for a schedule that no team owns, with whoever is in it; who has several of its turns, once."""
        group = self.name("groups", wanted)
        self.add("groups", {"name": group, "members": [{"user": user, "roles": []} for user in dict.fromkeys(users)]})
        self.change(f"schedule {schedule}", f"belongs to the group {group}", "Here every schedule is a group's.")
        return group

    def zone(self, wanted: object, subject: str, default: str = "UTC") -> str:
        """The time zone, if there is such a one."""
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
        """Notes something that is not there."""
        self._findings.append(ImportFinding(FindingSeverity.LEFT_OUT, subject, what, why, remedy))

    def change(self, subject: str, what: str, why: str, remedy: str = "") -> None:
        """Notes something that is there and differs."""
        self._findings.append(ImportFinding(FindingSeverity.CHANGED, subject, what, why, remedy))

    def to_do(self, subject: str, what: str, why: str, remedy: str = "") -> None:
        """Notes something that people have to do themselves."""
        self._findings.append(ImportFinding(FindingSeverity.TO_DO, subject, what, why, remedy))

    def not_carried(self, what: str, documents: Iterable[JsonObject], why: str, remedy: str) -> None:
        """Notes that all objects of a kind are not there."""
        names = [str(one.get("name") or one.get("description") or one.get("id") or "") for one in documents]
        if names:
            known = several(name for name in names if name)
            is_one = len(names) == 1
            self.leave_out(said_count(what, len(names)), f"{'is' if is_one else 'are'} not here ({known})", why, remedy)

    def not_read(self, documents: Iterable[JsonObject]) -> None:
        """Notes what the key may not see: each with `path` and `why`."""
        for one in documents:
            self.leave_out(str(one["path"]), "was not read", str(one["why"]), "Read again with a key that may see it.")

    def together(self, weight: FindingSeverity, nouns: str, one: str, what: str, why: str, remedy: str = "") -> None:
        """Notes the same thing of many: one line says of which. `nouns` is "users"."""
        self._together.setdefault((weight, nouns, what, why, remedy), []).append(one)

    def acknowledgements_run_out(self, nouns: str, one: str) -> None:
        """Notes that policies ask again after an acknowledgement, where the other product never does."""
        self.together(
            FindingSeverity.CHANGED,
            nouns,
            one,
            "ask “Still on it?” 30 minutes after an acknowledgement",
            f"In {self.product} an acknowledgement never runs out; here whoever does not answer is no longer on it.",
            "Make that time longer on the policy, if it is too soon.",
        )

    def translation(self) -> ConvertedConfig:
        """All of it."""
        findings = list(self._findings)
        for (weight, nouns, what, why, remedy), ones in self._together.items():
            findings.append(ImportFinding(weight, f"{nouns} {several(ones)}", what, why, remedy))
        entries = {key: found for key, found in self._entries.items() if found}
        return ConvertedConfig(entries, tuple(dict.fromkeys(findings)))


def _legal(wanted: str, word: str) -> str:
    """The nearest legal name."""
    name = " ".join(_CONTROL.sub(" ", wanted).replace("/", "-").split())
    if not name:
        name = word.capitalize()
    if name.isdigit():
        name = f"{word.capitalize()} {name}"
    return name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 1].rstrip()}…"


def _unused(name: str, taken: set[str]) -> str:
    """The name, or the name with the first number that makes it one of its own."""
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        found = f"{name[: MAX_LENGTH - 6].rstrip()} ({number})"
    return found
