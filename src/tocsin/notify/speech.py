"""The words of a phone call. Pure."""

from __future__ import annotations

import re

from tocsin.notify.channels.contract import Message
from tocsin.notify.states import Purpose
from tocsin.notify.wording import first_name, headline, news, notice, one_line, priority, short

LONGEST_SPOKEN = 300


def spoken(message: Message) -> str:
    """What a call says: "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Press 7 to acknowledge, …"."""
    who = first_name(message.recipient)
    match message.purpose:
        case Purpose.PAGE if message.alerts:
            return _spoken_page(message, who)
        case Purpose.STILL_ON_IT if message.alerts:
            asked = f"Still on it{f', {who}' if who else ''}?"
            what = _told(headline(message.alerts[0]))
            keys = "Press 7 to acknowledge again, 1 to hear it again."
            return f"Tocsin. {asked} {what} {keys} In 5 minutes others are paged."
        case Purpose.ALL_CLEAR:
            return " ".join(["Tocsin.", *(_told(re.sub(r" ?\(#\d+\)", "", news(alert))) for alert in message.alerts)])
        case _:
            parts = dict.fromkeys(_told(part) for part in (message.title, notice(message)) if part.strip())
            return " ".join(["Tocsin.", *parts, "Press 1 to hear it again."])


def _spoken_page(message: Message, who: str) -> str:
    to = f" for {who}" if who else ""
    if len(message.alerts) == 1:
        alert = message.alerts[0]
        client = one_line(alert.client, 60)
        kind = f"{priority(alert)} {'test ' if alert.is_test else ''}alert"
        what = _told(f"{client}: {short(alert)}" if client else short(alert))
        keys = "Press 7 to acknowledge, 8 to take it, 6 to wake the next person, 9 to close, 1 to hear it again."
        return f"Tocsin. {kind}{to}. {what} {keys}"
    told = " ".join(_told(f"{priority(alert)}: {headline(alert, 100)}") for alert in message.alerts)
    keys = "Press 7 to acknowledge them, 8 to take them, 1 to hear them again."
    return f"Tocsin. {len(message.alerts)} alerts{to}. {told} {keys}"


def _told(text: str) -> str:
    line = one_line(text, LONGEST_SPOKEN)
    return line if line.endswith((".", "!", "?")) else f"{line.rstrip('…,;:')}."
