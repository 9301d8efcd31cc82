"""The buttons under a message in a chat: which there are, and which stay once one was pressed. Pure."""

from __future__ import annotations

from tocsin.alerts.states import CommandKind
from tocsin.notify.interfaces import Rendered
from tocsin.notify.text import signed_links

#: In their order, with what they say; `say` has it in the reader's language.
LABELS = {
    CommandKind.ACKNOWLEDGE: "Acknowledge",
    CommandKind.ASSIGN: "Take it",
    CommandKind.CLOSE: "Close",
}

#: After these, the button before makes no sense any more.
_STAY = {
    CommandKind.ACKNOWLEDGE: (CommandKind.ASSIGN, CommandKind.CLOSE),
    CommandKind.ASSIGN: (CommandKind.CLOSE,),
}


def alert_of(rendered: Rendered) -> int | None:
    """The number of the alert that a message asks to be answered; None where it asks nothing, or about several."""
    return signed_links.alert_of(rendered.link) if rendered.buttons else None


def left_after(pressed: str) -> tuple[CommandKind, ...]:
    """The buttons that stay under a message after one was pressed."""
    return next((stay for kind, stay in _STAY.items() if kind == pressed), ())


def read(text: str) -> tuple[str, int] | None:
    """The command and the alert's number in `acknowledge:42`; None for anything else."""
    command, _, number = text.partition(":")
    if command not in LABELS or not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    return command, int(number)


def written(kind: CommandKind, alert_id: int) -> str:
    """What `read` reads: what a button carries."""
    return f"{kind}:{alert_id}"


def unknown(address: str) -> str:
    """What somebody hears who is no user here, or has not said so."""
    return (
        "Tocsin does not know who you are here, so nothing was done. Sign in there and add, on your own page, a way of "
        f"the channel Chat: {address}"
    )
