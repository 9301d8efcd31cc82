"""The channels of phones: their numbers, the texts of SMS, and the scripts of calls.

Numbers are stored in E.164 format, which every provider accepts, and displayed in international format. The national
rules come from `phonenumbers`. Stored numbers are validated without that library, since this happens for every page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tocsin.alerts.states import CommandChannel, Priority
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, translatable
from tocsin.core.validation.inputs import sanitize
from tocsin.notify.interfaces import AlertContent, CallScript, Channel, Message, Rendered
from tocsin.notify.states import Purpose
from tocsin.notify.text.formatting import (
    ack_reminder_hint,
    ack_reminder_question,
    all_clear_text,
    counted_alerts,
    first_name,
    headline,
    mark,
    notice,
    one_line,
    phrase,
    priority,
    short,
    spoken_phrase,
    voice_of,
)

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")

NOT_A_NUMBER = Text('"{number}" is not a phone number with its country code. Enter one like +41 79 000 00 01.')

#: A name of GSM's eleven characters, at least one of them a letter; or a short code.
_SENDER_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 +&_.-]{1,11}|[1-9][0-9]{2,7}")
_NOT_A_SENDER = Text(
    '"{text}" has no country code. Enter a number like +41 44 000 00 00; for texts only, a short code, or a name of at '
    "most 11 letters and digits."
)
_NOT_A_CALLER = Text('Calls cannot come from "{text}". Enter a number with its country code, like +41 44 000 00 00.')


def is_phone_number(text: str) -> bool:
    """Returns whether `text` is an E.164 number, the stored form."""
    return bool(_NUMBER.fullmatch(text)) and text.isascii()


def phone_number(text: str) -> str:
    """Returns `text` in E.164 form, such as "+41790000001". Raises Rejected("invalid_address") with the reason."""
    return text if is_phone_number(text) else _parsed(text.strip(), "")


def sender(text: str) -> str:
    """Returns the sender number of texts and calls without spaces, as vendors expect it; a sender name unchanged."""
    bare = "".join(text.split())
    return bare if bare.removeprefix("+").isdigit() else text


def check_sender(text: str, *, for_calls: bool) -> None:
    """Raises Rejected("invalid") if no vendor sends texts, or makes calls, from `text`."""
    if is_phone_number(sender(text)):
        return
    if for_calls:
        raise Rejected("invalid", _NOT_A_CALLER(text=text[:50]))
    if not _SENDER_NAME.fullmatch(text):
        raise Rejected("invalid", _NOT_A_SENDER(text=text[:50]))


def format_for_entry(text: str, region: str) -> str:
    """Like `phone_number`, for user input: always validated by the national rules, even if it looks correct. Without a
    country code it is a number of `region`, such as "CH".
    """
    return _parsed(text.strip(), region)


@lru_cache(maxsize=4096)
def format_for_display(number: str) -> str:
    """Returns a stored number in international format, such as "+41 79 000 00 01"; any other text unchanged."""
    if not is_phone_number(number):
        return number
    # Imported on demand here and below: the tables take time and memory to load, and are needed only where numbers are
    # displayed or entered.
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL))


def _parsed(text: str, region: str) -> str:
    import phonenumbers

    if not text or len(text) > 50 or not text.isprintable():
        raise _refused(text)
    try:
        parsed = phonenumbers.parse(f"+{text[2:]}" if text.startswith("00") else text, region or None)
    except phonenumbers.NumberParseException:
        raise _refused(text) from None
    number = str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
    if parsed.extension or not phonenumbers.is_possible_number(parsed) or not is_phone_number(number):
        raise _refused(text)
    return number


def _refused(text: str) -> Rejected:
    return Rejected("invalid_address", NOT_A_NUMBER(number=text[:50]))


class PhoneChannel(Channel):
    """A channel whose addresses are phone numbers."""

    address_help = translatable("a phone number with country code")
    silence_help = translatable(
        "iPhone: save Tocsin's numbers as a contact, and switch on Emergency Bypass under its ringtone and text tone. "
        "Android: star the contact, and let Do Not Disturb pass starred contacts; silent mode keeps it quiet."
    )
    example = "+41790000001"
    is_phone = True

    def normalize_address(self, text: str) -> str:
        return phone_number(text)

    def parse_address(self, text: str) -> str:
        """Without a country code, the installation's own country applies."""
        entered = text.strip()
        has_code = entered.startswith(("+", "00"))
        region = "" if has_code else settings_store.get(settings_store.PHONE_REGION)
        return self.normalize_address(format_for_entry(entered, region))

    def accepts_code(self, address: str) -> bool:
        return True


# ---------- sms
# A text in the GSM 7-bit alphabet if possible, shortened to a few segments.


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
    """Returns the text, such as "CRITICAL Acme: VPN down, 40 users. Halo 20817. Reply ACK 42, ASSIGN 42. https://…"."""
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
            hint = phrase(message.language, "Reply ACK {number}, ASSIGN {number}.", number=_reply_reference(alert))
            tail = [f"{source_mark}." if source_mark else "", hint if message.can_reply else "", alert.link]
            return _fit(head, for_phones(short(alert)), tail, ONE_ALERT)
        case Purpose.ACK_REMINDER if alert:
            reply = phrase(
                message.language,
                "Reply ACK {number} within 5 minutes, or others are paged.",
                number=_reply_reference(alert),
            )
            recipient_name = for_phones(first_name(message.recipient))
            head = f"{ack_reminder_question(message.language, recipient_name)} "
            tail = [f"(#{alert.id}).", reply if message.can_reply else ack_reminder_hint(message.language), alert.link]
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
    end = "." if message.storm else ":"
    head = f"{_priority_text(worst, message)} {for_phones(counted_alerts(message)).rstrip('.')}{end} "
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
        headlines = ((one.id, for_phones(headline(one, max_chars)).rstrip(".")) for one in message.alerts)
        names = "; ".join(f"#{number} {text}" for number, text in headlines)
        text = " ".join(part for part in (f"{head}{names}{more_text}.", reply, message.home_url) if part)
        if SEVERAL_ALERTS.allows(text):
            return text
    numbers = ", ".join(f"#{alert.id}" for alert in message.alerts)
    return _fit(head, f"{numbers}{more_text}", [reply, message.home_url], SEVERAL_ALERTS)


def _more(message: Message) -> str:
    if not message.omitted_count:
        return ""
    return f" {phrase(message.language, 'and {more} more', more=message.omitted_count)}"


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


# ---------- voice
# The script of a call: the greeting, the problem (spoken twice) and the key menu.


MAX_SPOKEN_CHARS = 300

#: The keys for one alert, for several, for an acknowledgement reminder, and for a text that can only be repeated.
PAGE_KEYS, SEVERAL_KEYS, REMINDER_KEYS, REPEAT_KEYS = "16789", "1278", "17", "1"


def spoken(message: Message) -> str:
    """Returns the whole text of a call: "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Press 7 to
    acknowledge, …".
    """
    call_script = script(message)
    return " ".join(part for part in (call_script.greeting, call_script.message, call_script.menu) if part)


def script(message: Message) -> CallScript:
    """Returns the script in the recipient's language. Text from sources is not translated."""
    language, voice = message.language, voice_of(message.language)
    who = first_name(message.recipient)
    match message.purpose:
        case Purpose.PAGE if len(message.alerts) == 1:
            return _page(message.alerts[0], language, who)
        case Purpose.PAGE if message.alerts:
            number = len(message.alerts) + message.omitted_count
            greeting = (
                spoken_phrase("phone call", "{number} alerts for {who}.", language, number=number, who=who)
                if who
                else spoken_phrase("phone call", "{number} alerts.", language, number=number)
            )
            worst = min(message.alerts, key=lambda alert: alert.priority.rank)
            text = _to_sentence(message.storm) if message.storm else _listed(worst, language, "")
            menu = spoken_phrase(
                "phone call",
                "Press 7 to acknowledge all, 8 to assign all to yourself, 2 for the list, 1 to repeat.",
                language,
            )
            listed = (_listed(alert, language, str(alert.id)) for alert in message.alerts)
            listing = " ".join([*listed, *_spoken_count(message)])
            return CallScript(f"Tocsin. {greeting}", text, menu, voice, SEVERAL_KEYS, listing)
        case Purpose.ACK_REMINDER if message.alerts:
            question = (
                spoken_phrase("phone call", "Still on it, {who}?", language, who=who)
                if who
                else spoken_phrase("phone call", "Still on it?", language)
            )
            menu = spoken_phrase(
                "phone call", "Press 7 to acknowledge again, 1 to repeat. Others are paged in 5 minutes.", language
            )
            text = _to_sentence(headline(message.alerts[0]))
            return CallScript(f"Tocsin. {question}", text, menu, voice, REMINDER_KEYS)
        case Purpose.ALL_CLEAR:
            texts = (re.sub(r" ?\(#\d+\)", "", all_clear_text(alert, language)) for alert in message.alerts)
            return CallScript("Tocsin.", " ".join([*map(_to_sentence, texts), *_spoken_count(message)]), "", voice)
        case _:
            parts = dict.fromkeys(_to_sentence(part) for part in (message.title, notice(message)) if part.strip())
            menu = spoken_phrase("phone call", "Press 1 to repeat.", language)
            return CallScript("Tocsin.", " ".join(parts), menu, voice, REPEAT_KEYS)


def _page(alert: AlertContent, language: str, who: str) -> CallScript:
    values = {"priority": _spoken_priority(alert, language), "who": who}
    if alert.is_test:
        greeting = (
            spoken_phrase("phone call", "{priority} test alert for {who}.", language, **values)
            if who
            else spoken_phrase("phone call", "{priority} test alert.", language, **values)
        )
    else:
        greeting = (
            spoken_phrase("phone call", "{priority} alert for {who}.", language, **values)
            if who
            else spoken_phrase("phone call", "{priority} alert.", language, **values)
        )
    client = one_line(alert.client, 60)
    text = _to_sentence(f"{client}: {short(alert)}" if client else short(alert))
    menu = spoken_phrase(
        "phone call",
        "Press 7 to acknowledge, 8 to assign to yourself, 6 to escalate, 9 to close, 1 to repeat.",
        language,
    )
    return CallScript(f"Tocsin. {greeting}", text, menu, voice_of(language), PAGE_KEYS)


def _spoken_priority(alert: AlertContent, language: str) -> str:
    match alert.priority:
        case Priority.CRITICAL:
            return spoken_phrase("phone call", "Critical", language)
        case Priority.HIGH:
            return spoken_phrase("phone call", "High", language)
        case Priority.MEDIUM:
            return spoken_phrase("phone call", "Medium", language)
        case Priority.LOW:
            return spoken_phrase("phone call", "Low", language)


def _listed(alert: AlertContent, language: str, number: str) -> str:
    """Returns "Critical alert 42. Acme: VPN down.", or the same without a number."""
    priority = _spoken_priority(alert, language)
    kind = (
        spoken_phrase("phone call", "{priority} alert {number}.", language, priority=priority, number=number)
        if number
        else spoken_phrase("phone call", "{priority} alert.", language, priority=priority)
    )
    return f"{kind} {_to_sentence(headline(alert, 100))}"


def _spoken_count(message: Message) -> list[str]:
    count = message.omitted_count
    return [spoken_phrase("phone call", "And {number} more.", message.language, number=count)] if count else []


def _to_sentence(text: str) -> str:
    line = one_line(text, MAX_SPOKEN_CHARS)
    return line if line.endswith((".", "!", "?")) else f"{line.rstrip('…,;:')}."


class SmsChannel(PhoneChannel):
    name = "sms"
    label = "SMS"
    nouns = (translatable("SMS"), "SMS")
    icon = "message"
    quietness = 3
    # Each segment costs; the link leads to all of them.
    bundle_limit = 3
    command_channel = CommandChannel.SMS
    layout = "sms"

    def render(self, message: Message) -> Rendered:
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject="",
            text=sanitize(text_message(message)),
            link=first.link if first else "",
            priority=first.priority if first else None,
        )


class VoiceChannel(PhoneChannel):
    name = "voice"
    label = "Call"
    nouns = (translatable("call"), "calls")
    icon = "phone"
    quietness = 4
    # The list that a key asks for.
    bundle_limit = 10
    is_call = True
    command_channel = CommandChannel.VOICE
    layout = "voice"

    def render(self, message: Message) -> Rendered:
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject="",
            text=sanitize(spoken(message)),
            script=_storable(script(message)),
            priority=first.priority if first else None,
        )


def _storable(script: CallScript) -> CallScript:
    return replace(
        script,
        greeting=sanitize(script.greeting),
        message=sanitize(script.message),
        menu=sanitize(script.menu),
        listing=sanitize(script.listing),
    )
