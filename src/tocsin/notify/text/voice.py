"""Builds the script of a phone call: the greeting, the problem (spoken twice) and the key menu. Pure."""

from __future__ import annotations

import re

from tocsin.notify.interfaces import CallScript, Message
from tocsin.notify.states import Purpose
from tocsin.notify.text.formatting import all_clear_text, first_name, headline, notice, one_line, short
from tocsin.notify.text.phrases import VoicePhrases, words

MAX_SPOKEN_CHARS = 300

#: The keys for one alert, for several, for an acknowledgement reminder, and for a text that can only be repeated.
PAGE_KEYS, SEVERAL_KEYS, REMINDER_KEYS, REPEAT_KEYS = "16789", "178", "17", "1"


def spoken(message: Message) -> str:
    """Returns the whole text of a call: "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Press 7 to
    acknowledge, …".
    """
    call_script = script(message)
    return " ".join(part for part in (call_script.greeting, call_script.message, call_script.menu) if part)


def script(message: Message) -> CallScript:
    """Returns the script in the recipient's language. Text from sources is not translated."""
    phrases = words(message.language)
    recipient_name = first_name(message.recipient)
    match message.purpose:
        case Purpose.PAGE if message.alerts:
            return _page(message, phrases, recipient_name)
        case Purpose.ACK_REMINDER if message.alerts:
            question = phrases.ack_reminder_for.format(who=recipient_name) if recipient_name else phrases.ack_reminder
            text = _to_sentence(headline(message.alerts[0]))
            return CallScript(f"Tocsin. {question}", text, phrases.menu_ack_reminder, phrases.code, REMINDER_KEYS)
        case Purpose.ALL_CLEAR:
            texts = [all_clear_text(alert, message.language) for alert in message.alerts]
            sentences = [_to_sentence(re.sub(r" ?\(#\d+\)", "", text)) for text in texts]
            text = " ".join([*sentences, *_more(message, phrases)])
            return CallScript("Tocsin.", text, "", phrases.code)
        case _:
            parts = dict.fromkeys(_to_sentence(part) for part in (message.title, notice(message)) if part.strip())
            return CallScript("Tocsin.", " ".join(parts), phrases.menu_repeat, phrases.code, REPEAT_KEYS)


def _page(message: Message, phrases: VoicePhrases, recipient_name: str) -> CallScript:
    if len(message.alerts) == 1:
        alert = message.alerts[0]
        client = one_line(alert.client, 60)
        if alert.is_test:
            greeting = phrases.test_alert_for if recipient_name else phrases.test_alert
        else:
            greeting = phrases.alert_for if recipient_name else phrases.alert
        filled = greeting.format(priority=phrases.priorities[alert.priority], who=recipient_name)
        text = _to_sentence(f"{client}: {short(alert)}" if client else short(alert))
        return CallScript(f"Tocsin. {filled}", text, phrases.menu, phrases.code, PAGE_KEYS)
    greeting = (phrases.several_for if recipient_name else phrases.several).format(
        number=len(message.alerts) + message.omitted_count, who=recipient_name
    )
    sentences = [
        _to_sentence(f"{phrases.priorities[alert.priority].capitalize()}: {headline(alert, 100)}")
        for alert in message.alerts
    ]
    text = " ".join([*sentences, *_more(message, phrases)])
    return CallScript(f"Tocsin. {greeting}", text, phrases.menu_several, phrases.code, SEVERAL_KEYS)


def _more(message: Message, phrases: VoicePhrases) -> list[str]:
    return [phrases.and_more.format(number=message.omitted_count)] if message.omitted_count else []


def _to_sentence(text: str) -> str:
    line = one_line(text, MAX_SPOKEN_CHARS)
    return line if line.endswith((".", "!", "?")) else f"{line.rstrip('…,;:')}."
