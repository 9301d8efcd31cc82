"""Builds the text of an SMS: in the GSM 7-bit alphabet if possible, shortened to a few segments. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.states import Purpose
from tocsin.notify.text.formatting import (
    ack_reminder_hint,
    ack_reminder_question,
    all_clear_text,
    first_name,
    headline,
    mark,
    notice,
    one_line,
    priority,
    short,
)
from tocsin.notify.text.phrases import alert_count, phrase

#: 3GPP TS 23.038, 6.2.1: characters of one septet, and below those of two.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWICE = frozenset("^{}\\[~]|€")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": "-", "−": "-",
     "…": "...", "•": "-", "·": "-", "×": "x", "\u00a0": " ", "\u202f": " ", "`": "'", "´": "'", "ß": "ß", "→": "->"}
)  # fmt: skip

_LATIN = re.compile(r"LATIN (CAPITAL|SMALL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .*)?$")

#: The capacity of a segment in a multi-part message: 153 septets, or 67 UCS-2 characters. A text has up to two
#: segments, for several alerts up to four.
SEGMENT_SEPTETS = 153
SEGMENT_CHARACTERS = 67


@dataclass(frozen=True, slots=True)
class SmsLimit:
    """The maximum length of a text message in segments of the 7-bit alphabet. Other alphabets get twice as many
    segments, since theirs hold less than half as much.
    """

    segments: int

    def allows(self, text: str) -> bool:
        if is_gsm(text):
            return septets(text) <= self.segments * SEGMENT_SEPTETS
        # UCS-2 is in fact UTF-16 on every phone: a character beyond U+FFFF takes two units.
        return len(text.encode("utf-16-le", "replace")) // 2 <= 2 * self.segments * SEGMENT_CHARACTERS


MAX_CLIENT_CHARS = MAX_MARK_CHARS = 30
MAX_TITLE_CHARS = 80

ONE_ALERT = SmsLimit(2)
SEVERAL_ALERTS = SmsLimit(4)


def is_gsm(text: str) -> bool:
    """Returns whether every character is in the GSM 7-bit alphabet."""
    return all(character in _GSM or character in _GSM_TWICE for character in text)


def septets(text: str) -> int:
    """Returns the length in septets of a text in the 7-bit alphabet."""
    return sum(2 if character in _GSM_TWICE else 1 for character in text)


def for_phones(text: str) -> str:
    """Returns `text` on one line for a text message: plain quotes and dashes, no accents that the 7-bit alphabet lacks,
    no emoji. Other alphabets are kept.
    """
    letters: list[str] = []
    for character in unicodedata.normalize("NFC", one_line(text)).translate(_PLAIN):
        if character in _GSM or character in _GSM_TWICE:
            letters.append(character)
            continue
        plain, kind = _plain_letter(character), unicodedata.category(character)[0]
        if plain and is_gsm(plain):
            letters.append(plain)
        # A combining mark belongs to the letter before it. After other characters it is an accent or an emoji
        # variation.
        elif kind in "LN" or (kind == "M" and letters and not is_gsm(letters[-1])):
            letters.append(character)
    return " ".join("".join(letters).split())


def _plain_letter(character: str) -> str:
    """Returns a letter without its accent or stroke: "L" for "Ł", whose name is LATIN CAPITAL LETTER L WITH STROKE."""
    match = _LATIN.match(unicodedata.name(character, ""))
    if match:
        return match[2] if match[1] == "CAPITAL" else match[2].lower()
    return "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))


def text_message(message: Message) -> str:
    """Returns the text of an SMS, such as "CRITICAL Acme: VPN down, 40 users. Halo 20817. Reply ACK 42, TAKE 42.
    https://…".
    """
    if len(message.alerts) > 1:
        return _bundle_text(message)
    alert = message.alerts[0] if message.alerts else None
    match message.purpose:
        case Purpose.PAGE if alert:
            client = for_phones(one_line(alert.client, MAX_CLIENT_CHARS))
            head = (
                f"{'TEST ' if alert.is_test else ''}{_priority_text(alert, message)} {f'{client}: ' if client else ''}"
            )
            source_mark = for_phones(one_line(mark(alert), MAX_MARK_CHARS))
            tail = [
                f"{source_mark}." if source_mark else "",
                _reply_hint(alert, message.language) if message.can_reply else "",
                alert.link,
            ]
            return _fit(head, for_phones(short(alert)), tail, ONE_ALERT)
        case Purpose.ACK_REMINDER if alert:
            reply = phrase(
                message.language,
                "Reply ACK {number} within 5 minutes, or others are paged.",
                number=_reply_reference(alert),
            )
            recipient_name = for_phones(first_name(message.recipient))
            head = f"{ack_reminder_question(message.language, recipient_name)} "
            tail = [
                f"(#{alert.id}).",
                reply if message.can_reply else ack_reminder_hint(message.language),
                alert.link,
            ]
            return _fit(head, for_phones(headline(alert)), tail, ONE_ALERT)
        case Purpose.ALL_CLEAR if alert:
            # A subject of emoji alone becomes empty, and no provider accepts an empty text.
            return _fit("", for_phones(all_clear_text(alert, message.language)) or f"#{alert.id}", [], ONE_ALERT)
        case _:
            title = for_phones(one_line(message.title, MAX_TITLE_CHARS))
            head = f"Tocsin: {title}. " if title and message.purpose is Purpose.NOTICE else ""
            return _fit(head, for_phones(notice(message)) or "Tocsin", [], ONE_ALERT)


def _priority_text(alert: AlertContent, message: Message) -> str:
    return priority(alert, message.language).upper()


def _reply_hint(alert: AlertContent, language: str) -> str:
    return phrase(language, "Reply ACK {number}, TAKE {number}.", number=_reply_reference(alert))


def _reply_reference(alert: AlertContent) -> str:
    """Returns how a reply names the alert: its number, and the reply code if one is required."""
    return f"{alert.id} {alert.reply_code}".rstrip()


def _bundle_text(message: Message) -> str:
    if message.purpose is Purpose.ALL_CLEAR:
        numbers = ", ".join(f"#{alert.id}" for alert in message.alerts)
        clear = phrase(
            message.language, "All clear for {numbers}. Nothing to do.", numbers=f"{numbers}{_more(message)}"
        )
        return _fit("", clear, [], SEVERAL_ALERTS)
    worst = min(message.alerts, key=lambda alert: alert.priority.rank)
    count = len(message.alerts) + message.omitted_count
    head = f"{_priority_text(worst, message)} {alert_count(message.language, count)}: "
    more_text = _more(message)
    first = message.alerts[0]
    all_reference = f"ALL {first.reply_code}".rstrip()
    reply = phrase(
        message.language,
        "Reply ACK {every}, or ACK {number} for one.",
        every=all_reference,
        number=_reply_reference(first),
    )
    reply = reply if message.can_reply else ""
    for max_chars in (80, 60, 45, 30, 20, 12):
        names = "; ".join(f"#{alert.id} {_phone_headline(alert, max_chars)}" for alert in message.alerts)
        text = " ".join(part for part in (f"{head}{names}{more_text}.", reply, message.home_url) if part)
        if SEVERAL_ALERTS.allows(text):
            return text
    numbers = ", ".join(f"#{alert.id}" for alert in message.alerts)
    return _fit(head, f"{numbers}{more_text}", [reply, message.home_url], SEVERAL_ALERTS)


def _more(message: Message) -> str:
    if not message.omitted_count:
        return ""
    return f" {phrase(message.language, 'and {more} more', more=message.omitted_count)}"


def _phone_headline(alert: AlertContent, max_chars: int) -> str:
    return for_phones(headline(alert, max_chars)).rstrip(".")


def _fit(head: str, middle: str, tail: Sequence[str], limit: SmsLimit) -> str:
    """Joins `head`, `middle` and `tail` into one message; if it is too long, drops whole words from `middle`."""
    end = " ".join(part for part in tail if part)
    # No more than this can ever fit. Without the cut, the loop would try the words of a very long text one by one.
    max_chars = limit.segments * SEGMENT_SEPTETS
    middle = middle if len(middle) <= max_chars else middle[:max_chars] + "..."
    text = _join(head, middle, end)
    words = middle.split(" ")
    while not limit.allows(text) and len(words) > 1:
        words.pop()
        text = _join(head, " ".join(words).rstrip(" ,;:-.") + "...", end)
    word = words[0]
    while not limit.allows(text) and word:
        word = word[: len(word) * 3 // 4]
        text = _join(head, f"{word}...", end)
    return text


def _join(head: str, middle: str, end: str) -> str:
    stop = "" if not middle or middle.endswith((".", "!", "?")) or end.startswith("(") else "."
    return f"{head}{middle}{stop} {end}".strip()
