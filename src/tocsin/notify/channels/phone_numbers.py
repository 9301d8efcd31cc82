"""Phone numbers: stored in the one form that every provider takes (E.164), and shown as people write them.

The rules of countries are those of `phonenumbers`. What is stored already is recognised without them, on the way of
every page.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tocsin.core.errors import Rejected

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_REGION = re.compile(r"[A-Z]{2}")


def is_phone_number(text: str) -> bool:
    """Whether `text` is a number in its stored form."""
    return bool(_NUMBER.fullmatch(text)) and text.isascii()


def phone_number(text: str, region: str = "") -> str:
    """`text` as "+41790000001"; one without a country code is read as one of `region`, such as "CH".

    Raises Rejected("invalid_address") with a sentence that says what is wrong.
    """
    return text if is_phone_number(text) and not region else _parsed(text.strip(), region)


def sender(text: str) -> str:
    """A number that texts and calls come from, as vendors take it: without the spaces that people write. The name of a
    sender stays as it is."""
    bare = "".join(text.split())
    return bare if bare.removeprefix("+").isdigit() else text


def entered(text: str, region: str) -> str:
    """The same for what somebody enters: checked by the country's rules, also where it looks right."""
    return _parsed(text.strip(), region)


@lru_cache(maxsize=4096)
def shown(number: str) -> str:
    """A stored number as people write it: "+41 79 000 00 01"; anything else as it is."""
    if not is_phone_number(number):
        return number
    # Here and below: its tables take a while to load and some memory, and are needed where people read numbers only.
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL))


def is_region(text: str) -> bool:
    """Whether `text` is a country with phone numbers, such as "CH"."""
    import phonenumbers

    return bool(_REGION.fullmatch(text)) and text in phonenumbers.SUPPORTED_REGIONS


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
    return Rejected(
        "invalid_address",
        f'"{text[:50]}" is not a phone number with its country code; write it like +41 79 000 00 01.',
    )
