"""What a key of a phone asks for: 1 hear again, 6 wake the next, 7 acknowledge, 8 take, 9 and again 9 close. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.alerts.states import CommandKind


@dataclass(frozen=True, slots=True)
class RepeatPrompt:
    """Say it (again)."""


@dataclass(frozen=True, slots=True)
class InvalidKey:
    """This key does nothing here: say so, and say it all again."""


@dataclass(frozen=True, slots=True)
class ConfirmKey:
    """Ask for the same key again."""

    digit: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Act."""

    command: CommandKind


type KeyAction = RepeatPrompt | InvalidKey | ConfirmKey | RunCommand

_COMMANDS = {
    "6": CommandKind.ESCALATE,
    "7": CommandKind.ACKNOWLEDGE,
    "8": CommandKind.ASSIGN,
    "9": CommandKind.CLOSE,
}


def meaning(digit: str, asked: str, keys: str) -> KeyAction:
    """What `digit` means where `keys` are offered and `asked` was asked for again; no digit: somebody picked up."""
    if not digit or digit == "1":
        return RepeatPrompt()
    if digit not in keys or digit not in _COMMANDS:
        return InvalidKey()
    if digit == "9" and asked != "9":
        return ConfirmKey("9")
    return RunCommand(_COMMANDS[digit])
