"""One thing that `tocsin doctor` found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    #: Something must be mended.
    PROBLEM = "problem"
    #: Worth knowing; nothing need be done.
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, or a note. `id` is what it is, in dotted words; where there may be several, `about` says of what."""

    id: str
    #: What is so: sentences.
    detail: str
    #: What to do about it; empty only for a note.
    remedy: str = ""
    about: str = ""
    level: Level = Level.PROBLEM

    @property
    def is_problem(self) -> bool:
        return self.level is Level.PROBLEM


def note(name: str, detail: str, remedy: str = "") -> Finding:
    """Something worth knowing."""
    return Finding(name, detail, remedy, level=Level.NOTE)
