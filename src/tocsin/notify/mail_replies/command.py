"""What the new part of a mail asks for: a word of the contract alone on its first line acts, anything else is a reply
on the alert. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tocsin.alerts.states import CommandKind
from tocsin.notify.text import command_parser
from tocsin.notify.text.command_parser import NUMBERS, Asked, Word

#: A word with, at most, alerts' numbers or "all": "Close the window in room 7" must close no alert. Each part takes all
#: it can and gives nothing back, so that a long line takes no longer than it is long.
_ALONE = re.compile(rf"\W*+[^\W_]++[\s:,.#!]*+(?:{NUMBERS.pattern}|all)?+[\s.!]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MailCommand:
    """What somebody wants: a command, or nothing but to be helped (`kind` None)."""

    kind: CommandKind | None
    number: int | None = None
    others: tuple[int, ...] = ()
    is_all: bool = False
    text: str = ""


def wanted(text: str) -> MailCommand:
    """What a mail's new part asks for; an empty one is a reply without text."""
    first = text.split("\n", 1)[0].strip()
    asked = command_parser.asked(first)
    if asked.what is CommandKind.REPLY:
        return _reply(asked, text)
    if _ALONE.fullmatch(first):
        if isinstance(asked.what, CommandKind):
            return MailCommand(asked.what, asked.number, asked.others, asked.is_all)
        if asked.what is Word.HELP:
            return MailCommand(None)
    return MailCommand(CommandKind.REPLY, text=text)


def _reply(asked: Asked, text: str) -> MailCommand:
    """ "reply 42 The line is back", with what stands on the lines below."""
    rest = text.split("\n", 1)[1:]
    return MailCommand(CommandKind.REPLY, asked.number, text="\n".join([asked.text, *rest]).strip())
