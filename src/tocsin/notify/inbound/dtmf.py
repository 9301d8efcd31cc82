"""Maps phone keys to actions: 1 repeat, 6 escalate, 7 acknowledge, 8 assign to me, 9 twice close. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.alerts.states import CommandKind


@dataclass(frozen=True, slots=True)
class RepeatPrompt:
    """Read the prompt (again)."""


@dataclass(frozen=True, slots=True)
class InvalidDigit:
    """The key has no function here: say so and repeat the prompt."""


@dataclass(frozen=True, slots=True)
class ConfirmKey:
    """Ask for the same key again."""

    digit: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Run a command."""

    command: CommandKind


type KeyAction = RepeatPrompt | InvalidDigit | ConfirmKey | RunCommand

_COMMANDS = {
    "6": CommandKind.ESCALATE,
    "7": CommandKind.ACKNOWLEDGE,
    "8": CommandKind.ASSIGN,
    "9": CommandKind.CLOSE,
}


def interpret_key(digit: str, pending_digit: str, keys: str) -> KeyAction:
    """Returns the action of `digit` if `keys` are offered and `pending_digit` awaits confirmation. No digit means that
    someone picked up.
    """
    if not digit or digit == "1":
        return RepeatPrompt()
    if digit not in keys or digit not in _COMMANDS:
        return InvalidDigit()
    if digit == "9" and pending_digit != "9":
        return ConfirmKey("9")
    return RunCommand(_COMMANDS[digit])
