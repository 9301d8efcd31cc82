"""Parses the command in a text message or its first line: `ack 42`, `take`, `7`, `reply The line is back`. Pure.

Carriers' opt-out words are recognised, but no message ever suggests them as commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tocsin.alerts.states import CommandKind
from tocsin.core.reasons import MORE, NO_REASON, AlertRef, Reason, Text, joined, sentence

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


_UNKNOWN = Text("Unknown command. {help}")
_BULK_RESULTS = {
    CommandKind.ACKNOWLEDGE: Text("You acknowledged {count} alert.", "You acknowledged {count} alerts."),
    CommandKind.ASSIGN: Text("{count} alert is assigned to you.", "{count} alerts are assigned to you."),
    CommandKind.ESCALATE: Text("You escalated {count} alert.", "You escalated {count} alerts."),
    CommandKind.CLOSE: Text("You closed {count} alert.", "You closed {count} alerts."),
    CommandKind.REPLY: Text("You added a note to {count} alert.", "You added a note to {count} alerts."),
}
_REJECTED = Text(
    "{count} alert could not be changed. Open it to see why.",
    "{count} alerts could not be changed. Open them to see why.",
)

HELP = sentence(
    "ACK: acknowledge. TAKE: assign to me. CLOSE: close. ESCALATE: page the next step. REPLY text: add a note. "
    "With several alerts add the number (ACK 42), or ACK ALL."
)
UNKNOWN = _UNKNOWN(help=HELP)
NONE_OPEN = sentence("You have no open alerts.")

#: The alerts that an answer names.
_MAX_LISTED_ALERTS = 6


def word_of(command: CommandKind) -> str:
    """Returns the word that requests the command in a text message."""
    return {CommandKind.ASSIGN: "TAKE", CommandKind.ACKNOWLEDGE: "ACK"}.get(command, command.upper())


def ask_which_alert(command: CommandKind, numbers: Sequence[int]) -> Reason:
    """Returns the answer where several alerts are open and the command names none."""
    word = word_of(command)
    alerts: list[Reason] = [sentence("#{alert}", alert=AlertRef(number)) for number in numbers[:_MAX_LISTED_ALERTS]]
    if len(numbers) > _MAX_LISTED_ALERTS:
        alerts.append(MORE(count=len(numbers) - _MAX_LISTED_ALERTS))
    example = f"{word} {numbers[0]}"
    if command is CommandKind.REPLY:
        return sentence(
            "{count} alert is open for you: {alerts}. Send {command}.",
            "{count} alerts are open for you: {alerts}. Send {command}.",
            count=len(numbers),
            alerts=tuple(alerts),
            command=example,
        )
    return sentence(
        "{count} alert is open for you: {alerts}. Send {command}, or {command_for_all}.",
        "{count} alerts are open for you: {alerts}. Send {command}, or {command_for_all}.",
        count=len(numbers),
        alerts=tuple(alerts),
        command=example,
        command_for_all=f"{word} ALL",
    )


def bulk_result(command: CommandKind, done_count: int, rejected_count: int) -> Reason:
    """Returns the answer to one command on several alerts."""
    done = _BULK_RESULTS[command](count=done_count)
    return joined(done, _REJECTED(count=rejected_count) if rejected_count else NO_REASON, separator=" ")


# ---------- dtmf
# Maps phone keys to actions: 1 repeat, 6 escalate, 7 acknowledge, 8 assign to me, 9 twice close. Pure.


class Key(StrEnum):
    """What a key does that is not a command on an alert."""

    #: Read the prompt (again).
    REPEAT = "repeat"
    #: It has no function here: say so and repeat the prompt.
    INVALID = "invalid"
    #: Ask for the same key again.
    CONFIRM = "confirm"


_DTMF_COMMANDS = {key: _COMMANDS[key] for key in "6789"}


def interpret_key(digit: str, pending_digit: str, keys: str) -> CommandKind | Key:
    """Returns what `digit` does if `keys` are offered; "" means that someone picked up."""
    if not digit or digit == "1":
        return Key.REPEAT
    if digit not in keys or digit not in _DTMF_COMMANDS:
        return Key.INVALID
    return Key.CONFIRM if digit == "9" and pending_digit != "9" else _DTMF_COMMANDS[digit]
