"""One thing that `tocsin doctor` found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingLevel(StrEnum):
    #: Something must be mended.
    PROBLEM = "problem"
    #: Worth knowing; nothing need be done.
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """A problem, or a note. `id` is what it is, in dotted words; where there may be several, `about` says of what."""

    id: str
    #: What is so: sentences.
    detail: str
    #: What to do about it; empty only for a note.
    remedy: str = ""
    about: str = ""
    level: FindingLevel = FindingLevel.PROBLEM

    @property
    def is_problem(self) -> bool:
        return self.level is FindingLevel.PROBLEM


def note(name: str, detail: str, remedy: str = "") -> HealthFinding:
    """Something worth knowing."""
    return HealthFinding(name, detail, remedy, level=FindingLevel.NOTE)
