"""Addresses that are secrets, such as a chat's webhook URL: stored sealed, and shown only as `slack://•••`.

A sealed address is `sealed:SCHEME:TOKEN`. Equal addresses have equal tokens. Knows no scheme itself.
"""

from __future__ import annotations

import re

from tocsin.core.config import deterministic_encryption
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import ReasonType

MASK = "•••"
#: Limits the sealed form to the length of the address columns.
MAX_PLAIN_ADDRESS_CHARS = 340

_TOO_LONG = ReasonType("contact_method.secret_too_long", "The address must have at most {maximum} characters.")
_NOT_ENCRYPTED = ReasonType("contact_method.not_encrypted", "The address is not encrypted.")
_ENTER_AGAIN = ReasonType("contact_method.enter_again", "Enter it again.")
_MASKED_ADDRESS = ReasonType("contact_method.masked", "The address is masked here. Enter the complete address.")

_ENCRYPTED = re.compile(r"sealed:([a-z][a-z0-9+.-]{0,30}):([A-Za-z0-9_-]+)")
_MASKED = re.compile(rf"[a-z][a-z0-9+.-]*://{MASK}")


def encrypt_address(scheme: str, secret: str, *, max_bytes: int = MAX_PLAIN_ADDRESS_CHARS) -> str:
    """Returns the sealed form of an address. Raises `Rejected("invalid_address")` if it is too long."""
    if len(secret.encode()) > max_bytes:
        raise Rejected("invalid_address", _TOO_LONG(maximum=max_bytes))
    return f"sealed:{scheme}:{deterministic_encryption.encrypt(secret)}"


def decrypt_address(address: str) -> str:
    """Returns the secret of a sealed address. Raises Permanent if no known key fits."""
    match = _ENCRYPTED.fullmatch(address)
    if match is None:
        raise Permanent(_NOT_ENCRYPTED(), _ENTER_AGAIN())
    return deterministic_encryption.decrypt(match[2])


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
        raise Rejected("invalid_address", _MASKED_ADDRESS(), "address")
    return stored


def is_masked(text: str) -> bool:
    """Returns whether `text` is the masked form of an address."""
    return _MASKED.fullmatch(text) is not None
