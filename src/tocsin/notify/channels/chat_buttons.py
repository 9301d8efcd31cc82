"""The buttons under a chat message, and the buttons that remain after one was pressed. Pure."""

from __future__ import annotations

from tocsin.alerts.states import CommandKind
from tocsin.core.reasons import ReasonType
from tocsin.notify.interfaces import Rendered
from tocsin.notify.text import signed_links
from tocsin.notify.text.phrases import phrase

#: In display order.
BUTTONS = (CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN, CommandKind.CLOSE)

_UNLINKED = ReasonType(
    "chat.unlinked_member",
    "Tocsin doesn't recognize you here, so nothing was changed. Sign in to Tocsin and add this chat as "
    "a contact method: {address}",
)

#: The buttons that are still useful after each command.
_BUTTONS_AFTER = {
    CommandKind.ACKNOWLEDGE: (CommandKind.ASSIGN, CommandKind.CLOSE),
    CommandKind.ASSIGN: (CommandKind.CLOSE,),
}


def label(button: CommandKind, language: str) -> str:
    """Returns the label of one of `BUTTONS` in a language."""
    match button:
        case CommandKind.ACKNOWLEDGE:
            return phrase(language, "Acknowledge")
        case CommandKind.ASSIGN:
            return phrase(language, "Assign to me")
        case _:
            return phrase(language, "Close")


def alert_of(rendered: Rendered) -> int | None:
    """Returns the id of the alert that the message's buttons act on; None if it has no buttons or covers several
    alerts.
    """
    return signed_links.alert_of(rendered.link) if rendered.buttons else None


def buttons_after(pressed: str) -> tuple[CommandKind, ...]:
    """Returns the buttons that remain under a message after one was pressed."""
    return next((buttons for kind, buttons in _BUTTONS_AFTER.items() if kind == pressed), ())


def parse_button_data(text: str) -> tuple[str, int] | None:
    """Parses button data such as `acknowledge:42` into the command and the alert id; None for anything else."""
    command, _, number = text.partition(":")
    if command not in BUTTONS or not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    return command, int(number)


def format_button_data(kind: CommandKind, alert_id: int) -> str:
    """Returns a button's data, which `read` parses."""
    return f"{kind}:{alert_id}"


def unlinked_member_answer(address: str) -> str:
    """Returns the answer to a chat member who is not linked to a Tocsin user, whose language is not known."""
    return str(_UNLINKED(address=address))
