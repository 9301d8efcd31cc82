"""Parses the command in a text message or its first line: `ack 42`, `take`, `7`, `reply The line is back`. Pure.

Carriers' opt-out words are recognised, but no message ever suggests them as commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tocsin.alerts.states import CommandKind

LONGEST_REPLY = 2000


class Word(StrEnum):
    """Words that are not commands on an alert."""

    HELP = "help"
    HEAR_AGAIN = "again"
    STOP = "stop"
    START = "start"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed command."""

    what: CommandKind | Word
    #: The alert's number; None means the only open alert.
    number: int | None = None
    #: The further alerts, if several were named.
    others: tuple[int, ...] = ()
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
_WORDS = {"help": Word.HELP, "info": Word.HELP, "?": Word.HELP, "1": Word.HEAR_AGAIN, "again": Word.HEAR_AGAIN}
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
MOST_NAMED = 20
_ALL = re.compile(r"all\W*", re.IGNORECASE)


def parse_command(text: str) -> Asked:
    """Returns the command in `text`."""
    whole = " ".join(text.split()).casefold().rstrip(".!")
    if whole in _STOP:
        return Asked(Word.STOP)
    if whole in _START:
        return Asked(Word.START)
    first = _FIRST.match(text)
    if first is None:
        return Asked(Word.UNKNOWN)
    word, rest = first[1].casefold(), text[first.end() :]
    if word == "reply":
        return _reply(rest)
    if word in _WORDS:
        return Asked(_WORDS[word])
    command = _COMMANDS.get(word)
    if command is None:
        return Asked(Word.UNKNOWN)
    # On a phone keypad, closing takes two presses ("9 9"); by text, one is enough.
    if command is CommandKind.CLOSE and rest.strip() == "9" and word == "9":
        return Asked(command)
    if NUMBERS.fullmatch(rest):
        named = list(dict.fromkeys(int(number) for number in re.findall("[0-9]+", rest)))
        return Asked(command, named[0], tuple(named[1:MOST_NAMED]))
    number = _NUMBER.match(rest)
    if number is not None:
        return Asked(command, int(number[1]))
    if _ALL.fullmatch(rest):
        return Asked(command, is_all=True)
    return Asked(command) if word in _UNMISTAKABLE or not rest else Asked(Word.UNKNOWN)


def _reply(rest: str) -> Asked:
    """Parses "42 The line is back" or, for the only open alert, "The line is back"."""
    number = re.match(r"#([0-9]{1,18})\b[\s:,.]*|([0-9]{1,18})\s+(?=\S)", rest)
    text = rest[number.end() :] if number else rest
    said = text.strip()[:LONGEST_REPLY]
    if not said:
        return Asked(Word.UNKNOWN)
    return Asked(CommandKind.REPLY, int(number[1] or number[2]) if number else None, text=said)


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
    shown = ", ".join(f"#{number}" for number in numbers[:6])
    more = f" and {len(numbers) - 6} more" if len(numbers) > 6 else ""
    every = "" if command is CommandKind.REPLY else f", or {word} ALL"
    return f"{len(numbers)} alerts are open for you: {shown}{more}. Send {word} {numbers[0]}{every}."


def bulk_result(command: CommandKind, done: int, refused: int) -> str:
    """Returns the answer to one command on several alerts."""
    verb = {
        CommandKind.ACKNOWLEDGE: "acknowledged",
        CommandKind.ASSIGN: "took",
        CommandKind.ESCALATE: "escalated",
        CommandKind.CLOSE: "closed",
    }.get(command, "answered")
    rest = f" {refused} could not be: open them to see why." if refused else ""
    return f"You {verb} {done} {'alert' if done == 1 else 'alerts'}.{rest}"
