"""What could not be carried over as it was: one line each, with what, why, and what to do. Pure; never has a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: So many names stand in one line; the rest is a number.
_SHOWN = 5


class FindingSeverity(StrEnum):
    """How much a line matters."""

    #: It is not there: look at it before anything else.
    LEFT_OUT = "left out"
    #: It is there, and differs.
    CHANGED = "changed"
    #: Something that people have to do themselves.
    TO_DO = "to do"


@dataclass(frozen=True, slots=True)
class ImportFinding:
    """One line: which object, what of it, why, and what to do."""

    weight: FindingSeverity
    object: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.weight:<8}  {self.object}: {self.what}. {self.why} {self.remedy}".rstrip()

    def as_json(self) -> dict[str, str]:
        """By name, as the API and the pages show it."""
        return {
            "weight": str(self.weight),
            "object": self.object,
            "what": self.what,
            "why": self.why,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class ConvertedConfig:
    """A configuration as `apply` takes it, by top key, and the report."""

    configuration: Mapping[str, list[dict[str, Any]]] = field(repr=False)
    findings: tuple[ImportFinding, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many objects there are, by top key."""
        # In the order of the file.
        return {key: len(entries) for key, entries in self.configuration.items() if entries}


def said_count(key: str, count: int) -> str:
    """How many objects of a top key: "1 group", "2 groups", "1 escalation policy"."""
    words = key.replace("_", " ")
    if count == 1 and key != "support_hours":
        words = f"{words.removesuffix('ies')}y" if words.endswith("ies") else words.removesuffix("s")
    return f"{count} {words}"


def several(names: Iterable[str]) -> str:
    """The names in a line, the first few of them: "alice, bob and 3 more"."""
    found = list(dict.fromkeys(names))
    shown = ", ".join(found[:_SHOWN])
    return shown if len(found) <= _SHOWN else f"{shown} and {len(found) - _SHOWN} more"


def by_weight(findings: Iterable[ImportFinding]) -> list[ImportFinding]:
    """The lines in the order in which people read them: what is left out first."""
    order = list(FindingSeverity)
    return sorted(findings, key=lambda finding: order.index(finding.weight))


def as_text(translation: ConvertedConfig) -> str:
    """The report as lines of text."""
    return "".join(f"{line}\n" for line in by_weight(translation.findings))
