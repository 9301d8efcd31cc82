"""What a key of a phone asks for: 1 hear again, 6 wake the next, 7 acknowledge, 8 take, 9 and again 9 close. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.alerts.states import CommandKind


@dataclass(frozen=True, slots=True)
class Hear:
    """Say it (again)."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """This key does nothing here: say so, and say it all again."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask for the same key again."""

    digit: str


@dataclass(frozen=True, slots=True)
class Do:
    """Act."""

    command: CommandKind


type Meaning = Hear | Wrong | Confirm | Do

_COMMANDS = {
    "6": CommandKind.ESCALATE,
    "7": CommandKind.ACKNOWLEDGE,
    "8": CommandKind.ASSIGN,
    "9": CommandKind.CLOSE,
}


def meaning(digit: str, asked: str, keys: str) -> Meaning:
    """What `digit` means where `keys` are offered and `asked` was asked for again; no digit: somebody picked up."""
    if not digit or digit == "1":
        return Hear()
    if digit not in keys or digit not in _COMMANDS:
        return Wrong()
    if digit == "9" and asked != "9":
        return Confirm("9")
    return Do(_COMMANDS[digit])
