"""Addresses that are secrets, such as a chat's webhook URL: stored sealed, and shown only as `slack://•••`.

A sealed address is `sealed:SCHEME:TOKEN`. Equal addresses have equal tokens. Knows no scheme itself.
"""

from __future__ import annotations

import re

from tocsin.core.config import deterministic_encryption
from tocsin.core.errors import Permanent, Rejected

HIDDEN = "•••"
#: Limits the sealed form to the length of the address columns.
MAX_PLAIN_ADDRESS_CHARS = 340

_SEALED = re.compile(r"sealed:([a-z][a-z0-9+.-]{0,30}):([A-Za-z0-9_-]+)")
_SHOWN = re.compile(rf"[a-z][a-z0-9+.-]*://{HIDDEN}")


def seal(scheme: str, secret: str, *, longest: int = MAX_PLAIN_ADDRESS_CHARS) -> str:
    """Returns the sealed form of an address. Raises `Rejected("invalid_address")` if it is too long."""
    if len(secret.encode()) > longest:
        raise Rejected("invalid_address", f"The address has at most {longest} characters.")
    return f"sealed:{scheme}:{deterministic_encryption.encrypt(secret)}"


def unseal(address: str) -> str:
    """Returns the secret of a sealed address. Raises Permanent if no known key fits."""
    found = _SEALED.fullmatch(address)
    if found is None:
        raise Permanent("The address is not a sealed one.", "Enter it again.")
    return deterministic_encryption.decrypt(found[2])


def in_clear(address: str) -> str:
    """Returns the address with its secret, for callers that export secrets. Addresses that are not sealed or cannot be
    decrypted are returned unchanged."""
    try:
        return unseal(address)
    except Permanent:
        return address


def is_sealed(address: str) -> bool:
    """Returns whether `address` is sealed."""
    return _SEALED.fullmatch(address) is not None


def scheme_of(address: str) -> str:
    """Returns the scheme of a sealed address; empty for any other."""
    found = _SEALED.fullmatch(address)
    return found[1] if found else ""


def display_form(address: str) -> str:
    """Returns the address as shown to anybody, its owner included: a sealed one is masked, any other unchanged."""
    scheme = scheme_of(address)
    return f"{scheme}://{HIDDEN}" if scheme else address


def keep_stored(given: str, stored: str) -> str:
    """Returns the address to store when a form or script submits `given`: `stored`, if `given` is its masked form.

    Raises `Rejected("invalid_address")` if `given` is the masked form of another address.
    """
    if not is_shown(given):
        return given
    if display_form(stored) != given:
        raise Rejected("invalid_address", "The address is hidden here; enter the whole of it.", "address")
    return stored


def is_shown(text: str) -> bool:
    """Returns whether `text` is the masked form of an address."""
    return _SHOWN.fullmatch(text) is not None
