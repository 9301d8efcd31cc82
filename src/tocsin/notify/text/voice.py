"""Builds the script of a phone call: the greeting, the problem (spoken twice) and the key menu. Pure."""

from __future__ import annotations

import re

from tocsin.notify.interfaces import CallScript, Message
from tocsin.notify.states import Purpose
from tocsin.notify.text.formatting import all_clear_text, first_name, headline, notice, one_line, short
from tocsin.notify.text.voice_phrases import VoicePhrases, words

MAX_SPOKEN_CHARS = 300

#: The keys for one alert, for several, for an acknowledgement reminder, and for a text that can only be repeated.
PAGE_KEYS, SEVERAL_KEYS, STILL_KEYS, HEAR_KEYS = "16789", "178", "17", "1"


def spoken(message: Message) -> str:
    """Returns the whole text of a call: "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Press 7 to
    acknowledge, …".
    """
    made = script(message)
    return " ".join(part for part in (made.greeting, made.said, made.menu) if part)


def script(message: Message) -> CallScript:
    """Returns the script in the recipient's language. Text from sources is not translated."""
    speaks = words(message.language)
    who = first_name(message.recipient)
    match message.purpose:
        case Purpose.PAGE if message.alerts:
            return _page(message, speaks, who)
        case Purpose.STILL_ON_IT if message.alerts:
            asked = speaks.still_on_it_for.format(who=who) if who else speaks.still_on_it
            said = _told(headline(message.alerts[0]))
            return CallScript(f"Tocsin. {asked}", said, speaks.menu_still, speaks.code, STILL_KEYS)
        case Purpose.ALL_CLEAR:
            clears = [_told(re.sub(r" ?\(#\d+\)", "", all_clear_text(alert))) for alert in message.alerts]
            said = " ".join([*clears, *_more(message, speaks)])
            return CallScript("Tocsin.", said, "", speaks.code)
        case _:
            parts = dict.fromkeys(_told(part) for part in (message.title, notice(message)) if part.strip())
            return CallScript("Tocsin.", " ".join(parts), speaks.menu_again, speaks.code, HEAR_KEYS)


def _page(message: Message, speaks: VoicePhrases, who: str) -> CallScript:
    if len(message.alerts) == 1:
        alert = message.alerts[0]
        client = one_line(alert.client, 60)
        if alert.is_test:
            greeting = speaks.test_alert_for if who else speaks.test_alert
        else:
            greeting = speaks.alert_for if who else speaks.alert
        filled = greeting.format(priority=speaks.priorities[alert.priority], who=who)
        said = _told(f"{client}: {short(alert)}" if client else short(alert))
        return CallScript(f"Tocsin. {filled}", said, speaks.menu, speaks.code, PAGE_KEYS)
    greeting = (speaks.several_for if who else speaks.several).format(
        number=len(message.alerts) + message.more, who=who
    )
    told = [
        _told(f"{speaks.priorities[alert.priority].capitalize()}: {headline(alert, 100)}") for alert in message.alerts
    ]
    said = " ".join([*told, *_more(message, speaks)])
    return CallScript(f"Tocsin. {greeting}", said, speaks.menu_several, speaks.code, SEVERAL_KEYS)


def _more(message: Message, speaks: VoicePhrases) -> list[str]:
    return [speaks.and_more.format(number=message.more)] if message.more else []


def _told(text: str) -> str:
    line = one_line(text, MAX_SPOKEN_CHARS)
    return line if line.endswith((".", "!", "?")) else f"{line.rstrip('…,;:')}."
