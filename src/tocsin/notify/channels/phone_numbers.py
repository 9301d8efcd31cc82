"""Phone numbers: stored in E.164 format, which every provider accepts, and displayed in international format.

The national rules come from `phonenumbers`. Stored numbers are validated without that library, since this happens for
every page.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, translatable
from tocsin.notify.interfaces import Channel

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")

_NOT_A_NUMBER = Text('"{number}" is not a phone number with its country code. Enter one like +41 79 000 00 01.')


def is_phone_number(text: str) -> bool:
    """Returns whether `text` is an E.164 number, the stored form."""
    return bool(_NUMBER.fullmatch(text)) and text.isascii()


def phone_number(text: str, region: str = "") -> str:
    """Returns `text` in E.164 form, such as "+41790000001". A number without a country code is read as a number of
    `region`, such as "CH".

    Raises Rejected("invalid_address") with the reason.
    """
    return text if is_phone_number(text) and not region else _parsed(text.strip(), region)


def sender(text: str) -> str:
    """Returns the sender number of texts and calls without spaces, as vendors expect it. An alphanumeric sender name is
    returned unchanged.
    """
    bare = "".join(text.split())
    return bare if bare.removeprefix("+").isdigit() else text


def format_for_entry(text: str, region: str) -> str:
    """Like `phone_number`, for user input: always validated by the national rules, even if it looks correct."""
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
    return Rejected("invalid_address", _NOT_A_NUMBER(number=text[:50]))


# ---------- phone channels


class PhoneChannel(Channel):
    """A channel whose addresses are phone numbers."""

    address_help = translatable("a phone number with country code")
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
