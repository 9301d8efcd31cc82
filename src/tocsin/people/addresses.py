"""Addresses of contact methods: what each channel's must look like, and how one is shown to who may not see it.

Knows nothing of how a channel sends; `wiring` registers the checks of channels that come from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from tocsin.core.errors import Rejected

#: Takes an address as typed and returns it as stored. Raises ValueError with the rest of a sentence.
type Check = Callable[[str], str]

LONGEST = 500

_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")

#: Country codes; those of neither one nor two digits have three. ITU-T E.164, "List of assigned country codes".
_COUNTRY = re.compile(r"[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9]{3}")


def register(channel: str, check: Check) -> None:
    """Adds a channel, or replaces the check of one."""
    _checks[channel] = check


def channels() -> tuple[str, ...]:
    """The channels that a contact method can have."""
    return tuple(_checks)


def checked(channel: str, address: str) -> str:
    """The address as it is stored. Raises Rejected ("unknown_channel" or "invalid_address"), without a place."""
    check = _checks.get(channel)
    if check is None:
        raise Rejected("unknown_channel", f'"{channel}" is not a channel; known: {", ".join(_checks)}.')
    if len(address) > LONGEST or any(ord(character) < 32 for character in address):
        raise Rejected("invalid_address", f"has at most {LONGEST} characters, and no line breaks.")
    try:
        return check(address.strip())
    except ValueError as error:
        raise Rejected("invalid_address", str(error)) from None


def mask(channel: str, address: str) -> str:
    """The address with its telling part hidden: `+41 79 ••• 01`, `a•••@example.org`."""
    if _PHONE.fullmatch(address):
        digits = address[1:]
        country = _COUNTRY.match(digits)
        assert country is not None
        return f"+{country[0]} {digits[country.end() : country.end() + 2]} ••• {digits[-2:]}"
    name, at, domain = address.rpartition("@")
    if at and "/" not in name:
        return f"{name[:1]}•••@{domain}"
    if "://" in address:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.hostname or ''}/•••"
    return f"{address[:1]}•••"


def phone(text: str) -> str:
    """A phone number in E.164 form. Raises ValueError."""
    number = re.sub(r"[\s().\-/]", "", text)
    if number.startswith("00"):
        number = f"+{number[2:]}"
    if not _PHONE.fullmatch(number):
        raise ValueError(f'"{text}" is not a phone number with its country code, such as +41790000001.')
    return number


def email(text: str) -> str:
    """An e-mail address. Raises ValueError."""
    try:
        validate_email(text)
    except ValidationError:
        raise ValueError(f'"{text}" is not an e-mail address.') from None
    return text


def topic(text: str) -> str:
    """A topic of ntfy, or the address of one on a server of its own. Raises ValueError."""
    if _TOPIC.fullmatch(text):
        return text
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        is_address = False
    if not is_address or not _TOPIC.fullmatch(parts.path.rpartition("/")[2]) or parts.query or parts.fragment:
        raise ValueError(
            f'"{text}" is not a topic of letters, digits, - and _, or an address such as https://ntfy.sh/topic.'
        )
    return text


_checks: dict[str, Check] = {"email": email, "sms": phone, "voice": phone, "ntfy": topic}
