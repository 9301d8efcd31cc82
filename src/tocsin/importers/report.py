"""The report of an import: findings with object, reason and remedy. Pure; never contains secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from tocsin.core.reasons import NO_REASON, Param, Reason, reason_as_json, reason_from_json
from tocsin.importers.reasons import MORE_NAMES

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
