"""The words of an SMS: in the 7-bit alphabet of phones where that can be, cut by meaning to a few segments. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.states import Purpose
from tocsin.notify.text.formatting import (
    STILL_ON_IT,
    first_name,
    headline,
    mark,
    news,
    notice,
    one_line,
    priority,
    short,
)
from tocsin.notify.text.phrases import say

#: 3GPP TS 23.038, 6.2.1: what fits in 7 bits, and what takes two of them.
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

#: The longest text message: two segments that are joined (153 of 7 bits each, or 67 characters otherwise), and for
#: several alerts four.
SEGMENT_SEPTETS = 153
SEGMENT_CHARACTERS = 67


@dataclass(frozen=True, slots=True)
class SmsLimit:
    """How long a text message may be: in segments of the 7-bit alphabet. Other alphabets, whose segments hold less than
    half of that, get twice as many."""

    segments: int

    def fits(self, text: str) -> bool:
        if is_gsm(text):
            return septets(text) <= self.segments * SEGMENT_SEPTETS
        # UCS-2 in fact is UTF-16 on every phone: a character beyond U+FFFF takes two.
        return len(text.encode("utf-16-le", "replace")) // 2 <= 2 * self.segments * SEGMENT_CHARACTERS


MAX_CLIENT_CHARS = MAX_MARK_CHARS = 30
MAX_TITLE_CHARS = 80

ONE_ALERT = SmsLimit(2)
SEVERAL_ALERTS = SmsLimit(4)


def is_gsm(text: str) -> bool:
    """Whether every character is in the 7-bit alphabet of text messages."""
    return all(character in _GSM or character in _GSM_TWICE for character in text)


def septets(text: str) -> int:
    """How many 7-bit characters a text of that alphabet takes."""
    return sum(2 if character in _GSM_TWICE else 1 for character in text)


def for_phones(text: str) -> str:
    """One line for a text message: quotes and dashes plain, letters of the Latin alphabet without accents that the
    7-bit alphabet lacks, no emoji or other pictures. Other alphabets stay.
    """
    letters: list[str] = []
    for character in unicodedata.normalize("NFC", one_line(text)).translate(_PLAIN):
        if character in _GSM or character in _GSM_TWICE:
            letters.append(character)
            continue
        plain, kind = _plain_letter(character), unicodedata.category(character)[0]
        if plain and is_gsm(plain):
            letters.append(plain)
        # A mark belongs to the letter before it; after others it is an accent, or says how a picture looks.
        elif kind in "LN" or (kind == "M" and letters and not is_gsm(letters[-1])):
            letters.append(character)
    return " ".join("".join(letters).split())


def _plain_letter(character: str) -> str:
    """A letter without its accent or stroke: "L" for "Ł", whose name is LATIN CAPITAL LETTER L WITH STROKE."""
    named = _LATIN.match(unicodedata.name(character, ""))
    if named:
        return named[2] if named[1] == "CAPITAL" else named[2].lower()
    return "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))


def text_message(message: Message) -> str:
    """The text of an SMS, such as "CRITICAL Acme: VPN down, 40 users. Halo 20817. Reply ACK 42, TAKE 42. https://…"."""
    if len(message.alerts) > 1:
        return _several_in_text(message)
    alert = message.alerts[0] if message.alerts else None
    match message.purpose:
        case Purpose.PAGE if alert:
            client = for_phones(one_line(alert.client, MAX_CLIENT_CHARS))
            head = f"{'TEST ' if alert.is_test else ''}{_loud(alert, message)} {f'{client}: ' if client else ''}"
            said = for_phones(one_line(mark(alert), MAX_MARK_CHARS))
            tail = [
                f"{said}." if said else "",
                _replies(alert, message.language) if message.can_reply else "",
                alert.link,
            ]
            return _fitted(head, for_phones(short(alert)), tail, ONE_ALERT)
        case Purpose.STILL_ON_IT if alert:
            reply = say(
                message.language, "Reply ACK {number} within 5 minutes, or others are paged.", number=_named(alert)
            )
            who = for_phones(first_name(message.recipient))
            asked = "Still on it, {who}?" if who else "Still on it?"
            head = f"{say(message.language, asked, who=who)} "
            tail = [f"(#{alert.id}).", reply if message.can_reply else say(message.language, STILL_ON_IT), alert.link]
            return _fitted(head, for_phones(headline(alert)), tail, ONE_ALERT)
        case Purpose.ALL_CLEAR if alert:
            # Of pictures alone nothing is left, and no provider carries an empty text.
            return _fitted("", for_phones(news(alert, message.language)) or f"#{alert.id}", [], ONE_ALERT)
        case _:
            title = for_phones(one_line(message.title, MAX_TITLE_CHARS))
            head = f"Tocsin: {title}. " if title and message.purpose is Purpose.NOTICE else ""
            return _fitted(head, for_phones(notice(message)) or "Tocsin", [], ONE_ALERT)


def _loud(alert: AlertContent, message: Message) -> str:
    return say(message.language, priority(alert)).upper()


def _replies(alert: AlertContent, language: str) -> str:
    return say(language, "Reply ACK {number}, TAKE {number}.", number=_named(alert))


def _named(alert: AlertContent) -> str:
    """How an answer names the alert: its number, and the code where one is asked for."""
    return f"{alert.id} {alert.reply_code}".rstrip()


def _several_in_text(message: Message) -> str:
    if message.purpose is Purpose.ALL_CLEAR:
        numbers = ", ".join(f"#{alert.id}" for alert in message.alerts)
        clear = say(message.language, "All clear for {numbers}. Nothing to do.", numbers=f"{numbers}{_more(message)}")
        return _fitted("", clear, [], SEVERAL_ALERTS)
    worst = min(message.alerts, key=lambda alert: alert.priority.rank)
    count = len(message.alerts) + message.more
    head = f"{_loud(worst, message)} {say(message.language, '{count} alerts: ', count=count)}"
    rest = _more(message)
    first = message.alerts[0]
    every = f"ALL {first.reply_code}".rstrip()
    reply = say(message.language, "Reply ACK {every}, or ACK {number} for one.", every=every, number=_named(first))
    reply = reply if message.can_reply else ""
    for room in (80, 60, 45, 30, 20, 12):
        names = "; ".join(f"#{alert.id} {_phone_headline(alert, room)}" for alert in message.alerts)
        text = " ".join(part for part in (f"{head}{names}{rest}.", reply, message.home) if part)
        if SEVERAL_ALERTS.fits(text):
            return text
    numbers = ", ".join(f"#{alert.id}" for alert in message.alerts)
    return _fitted(head, f"{numbers}{rest}", [reply, message.home], SEVERAL_ALERTS)


def _more(message: Message) -> str:
    return say(message.language, " and {more} more", more=message.more) if message.more else ""


def _phone_headline(alert: AlertContent, longest: int) -> str:
    return for_phones(headline(alert, longest)).rstrip(".")


def _fitted(head: str, middle: str, tail: Sequence[str], length: SmsLimit) -> str:
    """`head`, `middle` and `tail` in one message; what is too long is cut from `middle`, whole words at a time."""
    end = " ".join(part for part in tail if part)
    # No more than this can ever fit; trying a book's words one by one would take its time.
    most = length.segments * SEGMENT_SEPTETS
    middle = middle if len(middle) <= most else middle[:most] + "..."
    whole = _joined(head, middle, end)
    words = middle.split(" ")
    while not length.fits(whole) and len(words) > 1:
        words.pop()
        whole = _joined(head, " ".join(words).rstrip(" ,;:-.") + "...", end)
    kept = words[0]
    while not length.fits(whole) and kept:
        kept = kept[: len(kept) * 3 // 4]
        whole = _joined(head, f"{kept}...", end)
    return whole


def _joined(head: str, middle: str, end: str) -> str:
    stop = "" if not middle or middle.endswith((".", "!", "?")) or end.startswith("(") else "."
    return f"{head}{middle}{stop} {end}".strip()
