"""Addresses of contact methods: validation by channel, and masking for viewers without permission.

Knows no channel itself: `wiring` registers the validation of each.
"""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from tocsin.core.config import crypto
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import Reason, Text, as_reason, sentence
from tocsin.core.validation.inputs import NOT_AN_EMAIL_ADDRESS

# ---------- encrypted addresses
# Addresses that are secrets, such as a chat's webhook URL: stored sealed, and shown only as `slack://•••`.
#
# A sealed address is `sealed:SCHEME:TOKEN`. Equal addresses have equal tokens. Knows no scheme itself.


MASK = "•••"
#: Limits the sealed form to the length of the address columns.
MAX_PLAIN_ADDRESS_CHARS = 340

_TOO_LONG = Text("The address must have at most {maximum} characters.")

_ENCRYPTED = re.compile(r"sealed:([a-z][a-z0-9+.-]{0,30}):([A-Za-z0-9_-]+)")
_MASKED = re.compile(rf"[a-z][a-z0-9+.-]*://{MASK}")


def encrypt_address(scheme: str, secret: str, *, max_bytes: int = MAX_PLAIN_ADDRESS_CHARS) -> str:
    """Returns the sealed form of an address. Raises `Rejected("invalid_address")` if it is too long."""
    if len(secret.encode()) > max_bytes:
        raise Rejected("invalid_address", _TOO_LONG(maximum=max_bytes))
    return f"sealed:{scheme}:{crypto.encrypt_deterministically(secret)}"


def decrypt_address(address: str) -> str:
    """Returns the secret of a sealed address. Raises Permanent if no known key fits."""
    match = _ENCRYPTED.fullmatch(address)
    if match is None:
        raise Permanent(sentence("The address is not encrypted."), sentence("Enter it again."))
    return crypto.decrypt_deterministic(match[2])


def decrypt_if_encrypted(address: str) -> str:
    """Returns the address with its secret, for callers that export secrets. Addresses that are not sealed or cannot be
    decrypted are returned unchanged."""
    try:
        return decrypt_address(address)
    except Permanent:
        return address


def is_encrypted(address: str) -> bool:
    """Returns whether `address` is sealed."""
    return _ENCRYPTED.fullmatch(address) is not None


def scheme_of(address: str) -> str:
    """Returns the scheme of a sealed address; empty for any other."""
    match = _ENCRYPTED.fullmatch(address)
    return match[1] if match else ""


def display_form(address: str) -> str:
    """Returns the address as shown to anybody, its owner included: a sealed one is masked, any other unchanged."""
    scheme = scheme_of(address)
    return f"{scheme}://{MASK}" if scheme else address


def restore_masked(submitted: str, stored: str) -> str:
    """Returns the address to store when a form or script submits `submitted`: `stored`, if `submitted` is its masked
    form.

    Raises `Rejected("invalid_address")` if `submitted` is the masked form of another address.
    """
    if not is_masked(submitted):
        return submitted
    if display_form(stored) != submitted:
        raise Rejected(
            "invalid_address", sentence("The address is masked here. Enter the complete address."), "address"
        )
    return stored


def is_masked(text: str) -> bool:
    """Returns whether `text` is the masked form of an address."""
    return _MASKED.fullmatch(text) is not None


class AddressChannel(Protocol):
    """What this room needs of a notification channel, which a higher room registers."""

    name: str
    is_phone: bool

    def parse_address(self, text: str) -> str:
        """Takes an address as entered and returns it as stored. Raises ValueError with a sentence, or Rejected."""
        ...

    def accepts_code(self, address: str) -> bool:
        """Returns whether a code sent there can prove that the address belongs to the user."""
        ...

    def custom_host(self, address: str) -> str:
        """Returns the host of an address if it belongs to no well-known vendor, else an empty string."""
        ...


MAX_ADDRESS_CHARS = 500


_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")

#: Country codes. Those with neither one nor two digits have three. ITU-T E.164, "List of assigned country codes".
_COUNTRY = re.compile(r"[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9]{3}")

_channels: dict[str, AddressChannel] = {}


def register(channel: AddressChannel) -> None:
    """Adds a channel, or replaces it."""
    _channels[channel.name] = channel


def custom_host(channel: str, address: str) -> str:
    """Returns the host of a validated address if it belongs to no well-known vendor, else an empty string."""
    return _channels[channel].custom_host(address) if channel in _channels else ""


def accepts_code(channel: str, address: str) -> bool:
    """Returns whether a code sent there can prove that the address belongs to the user."""
    return channel in _channels and _channels[channel].accepts_code(address)


def channels() -> tuple[str, ...]:
    """Returns the channels that a contact method can have."""
    return tuple(_channels)


def phone_channels() -> tuple[str, ...]:
    """Returns the channels of a phone number, the quietest first."""
    return tuple(name for name, channel in _channels.items() if channel.is_phone)


def same_address(channel: str) -> tuple[str, ...]:
    """Returns the channels that reach the same person at the same address: a phone number serves texts and calls."""
    phones = phone_channels()
    return (channel, *(name for name in phones if name != channel)) if channel in phones else (channel,)


def unknown_channel(channel: str) -> Reason:
    """Returns the reason why `channel` cannot be used."""
    return sentence('"{channel}" is not a channel. The channels are {known}.', channel=channel, known=channels())


def validate_address(channel: str, address: str) -> str:
    """Validates an address and returns it as stored. Raises `Rejected("unknown_channel")` or
    `Rejected("invalid_address")`, without a field."""
    if channel not in _channels:
        raise Rejected("unknown_channel", unknown_channel(channel))
    if len(address) > MAX_ADDRESS_CHARS or any(ord(character) < 32 for character in address):
        raise Rejected(
            "invalid_address",
            sentence("must have at most {maximum} characters and no line breaks.", maximum=MAX_ADDRESS_CHARS),
        )
    try:
        return _channels[channel].parse_address(address.strip())
    except ValueError as error:
        raise Rejected("invalid_address", as_reason(str(error))) from None


def mask(channel: str, address: str) -> str:
    """Masks the identifying part of an address: `+41 79 ••• 01`, `a•••@example.org`, `slack://•••`."""
    if is_encrypted(address):
        return display_form(address)
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


def email(text: str) -> str:
    """Validates an email address. Raises `Rejected("invalid_address")`, without a field."""
    try:
        # Django's expression ignores case, and so takes the four letters that fold to ASCII ones for them.
        if not text.rpartition("@")[0].isascii():
            raise ValidationError("")
        validate_email(text)
    except ValidationError:
        raise Rejected("invalid_address", NOT_AN_EMAIL_ADDRESS(address=text)) from None
    return text
