"""A finding of `tocsin doctor`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingLevel(StrEnum):
    #: Must be fixed.
    PROBLEM = "problem"
    #: For information; no action needed.
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """A problem or a note. `id` is its dotted type; `about` names the affected object if there may be several."""

    id: str
    #: The situation, in sentences.
    detail: str
    #: What to do about it; empty only for a note.
    remedy: str = ""
    about: str = ""
    level: FindingLevel = FindingLevel.PROBLEM

    @property
    def is_problem(self) -> bool:
        return self.level is FindingLevel.PROBLEM


def note(name: str, detail: str, remedy: str = "") -> HealthFinding:
    """A finding for information."""
    return HealthFinding(name, detail, remedy, level=FindingLevel.NOTE)
