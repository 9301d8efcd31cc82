"""Parses the command in the new part of a mail. A command word alone on the first line acts; anything else is a reply
on the alert. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tocsin.alerts.states import CommandKind
from tocsin.notify.text import command_parser
from tocsin.notify.text.command_parser import NUMBERS, ParsedCommand, Word

#: A command word followed by nothing except alert numbers or "all": "Close the window in room 7" must close no alert.
#: The possessive quantifiers never backtrack, so that matching takes time linear in the line's length.
_ALONE = re.compile(rf"\W*+[^\W_]++[\s:,.#!]*+(?:{NUMBERS.pattern}|all)?+[\s.!]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MailCommand:
    """The command in a mail; `kind` is None for a request for help."""

    kind: CommandKind | None
    number: int | None = None
    other_numbers: tuple[int, ...] = ()
    is_all: bool = False
    text: str = ""


def parse_command(text: str) -> MailCommand:
    """Returns the command in a mail's new part. An empty part is a reply without text."""
    first = text.split("\n", 1)[0].strip()
    parsed = command_parser.parse_command(first)
    if parsed.action is CommandKind.REPLY:
        return _reply(parsed, text)
    if _ALONE.fullmatch(first):
        if isinstance(parsed.action, CommandKind):
            return MailCommand(parsed.action, parsed.number, parsed.other_numbers, parsed.is_all)
        if parsed.action is Word.HELP:
            return MailCommand(None)
    return MailCommand(CommandKind.REPLY, text=text)


def _reply(parsed: ParsedCommand, text: str) -> MailCommand:
    """Parses "reply 42 The line is back", including the lines below."""
    lines_below = text.split("\n", 1)[1:]
    return MailCommand(CommandKind.REPLY, parsed.number, text="\n".join([parsed.text, *lines_below]).strip())
