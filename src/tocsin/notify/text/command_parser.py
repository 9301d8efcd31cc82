"""Parses the command in a text message or its first line: `ack 42`, `take`, `7`, `reply The line is back`. Pure.

Carriers' opt-out words are recognised, but no message ever suggests them as commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tocsin.alerts.states import CommandKind

MAX_REPLY_CHARS = 2000


class Word(StrEnum):
    """Words that are not commands on an alert."""

    HELP = "help"
    REPEAT = "again"
    STOP = "stop"
    START = "start"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A parsed command."""

    action: CommandKind | Word
    #: The alert's number; None means the only open alert.
    number: int | None = None
    #: The further alerts, if several were named.
    other_numbers: tuple[int, ...] = ()
    #: Whether it applies to every alert that is open for the sender.
    is_all: bool = False
    #: The text of a reply.
    text: str = ""


_COMMANDS = {
    "ack": CommandKind.ACKNOWLEDGE,
    "acknowledge": CommandKind.ACKNOWLEDGE,
    "7": CommandKind.ACKNOWLEDGE,
    "take": CommandKind.ASSIGN,
    "assign": CommandKind.ASSIGN,
    "8": CommandKind.ASSIGN,
    "escalate": CommandKind.ESCALATE,
    "6": CommandKind.ESCALATE,
    "close": CommandKind.CLOSE,
    "9": CommandKind.CLOSE,
}
_WORDS = {"help": Word.HELP, "info": Word.HELP, "?": Word.HELP, "1": Word.REPEAT, "again": Word.REPEAT}
#: The carriers' opt-out and opt-in words (CTIA, Messaging Principles; Twilio and Telnyx use the same lists).
_STOP = frozenset({"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "optout", "revoke"})
_START = frozenset({"start", "yes", "unstop"})

#: Commands that may be followed by other text ("ack, on my way"), because no ordinary sentence begins with them. "Close
#: to home" must close nothing, nor must "9 minutes".
_UNMISTAKABLE = frozenset({"ack", "acknowledge"})

#: A word, also directly followed by a number (`ack42`), or digits alone; optionally in quotes, as it appears in the
#: instructions.
_QUOTES = "\"'“”„‚‘’«»"
_FIRST = re.compile(rf"[\s{_QUOTES}]*([^\W\d_]+|[0-9]+|\?)[\s:,.#!{_QUOTES}]*", re.UNICODE)
_NUMBER = re.compile(r"#?([0-9]{1,18})\b[\s:,.]*")
#: Nothing but numbers: "42 43", "#42, #43", "42 and 43". In "42 5 minutes", only the first number is an alert.
NUMBERS = re.compile(r"#?[0-9]{1,18}(?:(?:[\s,;+&]|\band\b|\bund\b)+#?[0-9]{1,18})*[\s.!]*", re.IGNORECASE)
#: The maximum number of alerts that one message can name.
MAX_NAMED_ALERTS = 20
_ALL = re.compile(r"all\W*", re.IGNORECASE)


def parse_command(text: str) -> ParsedCommand:
    """Returns the command in `text`."""
    normalized = " ".join(text.split()).casefold().rstrip(".!")
    if normalized in _STOP:
        return ParsedCommand(Word.STOP)
    if normalized in _START:
        return ParsedCommand(Word.START)
    first = _FIRST.match(text)
    if first is None:
        return ParsedCommand(Word.UNKNOWN)
    word, remainder = first[1].casefold(), text[first.end() :]
    if word == "reply":
        return _reply(remainder)
    if word in _WORDS:
        return ParsedCommand(_WORDS[word])
    command = _COMMANDS.get(word)
    if command is None:
        return ParsedCommand(Word.UNKNOWN)
    # On a phone keypad, closing takes two presses ("9 9"); by text, one is enough.
    if command is CommandKind.CLOSE and remainder.strip() == "9" and word == "9":
        return ParsedCommand(command)
    if NUMBERS.fullmatch(remainder):
        numbers = list(dict.fromkeys(int(number) for number in re.findall("[0-9]+", remainder)))
        return ParsedCommand(command, numbers[0], tuple(numbers[1:MAX_NAMED_ALERTS]))
    number = _NUMBER.match(remainder)
    if number is not None:
        return ParsedCommand(command, int(number[1]))
    if _ALL.fullmatch(remainder):
        return ParsedCommand(command, is_all=True)
    return ParsedCommand(command) if word in _UNMISTAKABLE or not remainder else ParsedCommand(Word.UNKNOWN)


def _reply(remainder: str) -> ParsedCommand:
    """Parses "42 The line is back" or, for the only open alert, "The line is back"."""
    number = re.match(r"#([0-9]{1,18})\b[\s:,.]*|([0-9]{1,18})\s+(?=\S)", remainder)
    text = remainder[number.end() :] if number else remainder
    reply_text = text.strip()[:MAX_REPLY_CHARS]
    if not reply_text:
        return ParsedCommand(Word.UNKNOWN)
    return ParsedCommand(CommandKind.REPLY, int(number[1] or number[2]) if number else None, text=reply_text)


HELP = (
    "ACK: I have seen it. TAKE: it is mine. CLOSE: it is over. ESCALATE: wake the next. REPLY text. "
    "With several alerts add the number (ACK 42), or ACK ALL."
)
UNKNOWN = f"Tocsin does not know this word. {HELP}"
NONE_OPEN = "No alert is open for you."


def word_of(command: CommandKind) -> str:
    """Returns the word that requests the command in a text message."""
    return {CommandKind.ASSIGN: "TAKE", CommandKind.ACKNOWLEDGE: "ACK"}.get(command, command.upper())


def ask_which_alert(command: CommandKind, numbers: Sequence[int]) -> str:
    """Returns the answer where several alerts are open and the command names none."""
    word = word_of(command)
    listed = ", ".join(f"#{number}" for number in numbers[:6])
    more = f" and {len(numbers) - 6} more" if len(numbers) > 6 else ""
    all_hint = "" if command is CommandKind.REPLY else f", or {word} ALL"
    return f"{len(numbers)} alerts are open for you: {listed}{more}. Send {word} {numbers[0]}{all_hint}."


def bulk_result(command: CommandKind, done_count: int, rejected_count: int) -> str:
    """Returns the answer to one command on several alerts."""
    verb = {
        CommandKind.ACKNOWLEDGE: "acknowledged",
        CommandKind.ASSIGN: "took",
        CommandKind.ESCALATE: "escalated",
        CommandKind.CLOSE: "closed",
    }.get(command, "answered")
    rejected_note = f" {rejected_count} could not be: open them to see why." if rejected_count else ""
    return f"You {verb} {done_count} {'alert' if done_count == 1 else 'alerts'}.{rejected_note}"
