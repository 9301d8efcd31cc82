"""Addresses that are secrets themselves, such as a chat's webhook: stored sealed, and shown as `slack://•••` only.

A sealed address is `sealed:SCHEME:TOKEN`; the same address always has the same token. Knows no scheme itself.
"""

from __future__ import annotations

import re

from tocsin.core.config import deterministic_encryption
from tocsin.core.errors import Permanent, Rejected

HIDDEN = "•••"
#: So that the sealed form fits where addresses are stored.
MAX_PLAIN_ADDRESS_CHARS = 340

_SEALED = re.compile(r"sealed:([a-z][a-z0-9+.-]{0,30}):([A-Za-z0-9_-]+)")
_SHOWN = re.compile(rf"[a-z][a-z0-9+.-]*://{HIDDEN}")


def seal(scheme: str, secret: str, *, longest: int = MAX_PLAIN_ADDRESS_CHARS) -> str:
    """The address as it is stored. Raises Rejected for one that is too long."""
    if len(secret.encode()) > longest:
        raise Rejected("invalid_address", f"The address has at most {longest} characters.")
    return f"sealed:{scheme}:{deterministic_encryption.seal(secret)}"


def unseal(address: str) -> str:
    """The secret of a sealed address. Raises Permanent when no known key fits."""
    found = _SEALED.fullmatch(address)
    if found is None:
        raise Permanent("The address is not a sealed one.", "Enter it again.")
    return deterministic_encryption.unseal(found[2])


def in_clear(address: str) -> str:
    """The address with its secret, for whoever asked for secrets; any other, and one that cannot be read, as it is."""
    try:
        return unseal(address)
    except Permanent:
        return address


def is_sealed(address: str) -> bool:
    """Whether it is one."""
    return _SEALED.fullmatch(address) is not None


def scheme_of(address: str) -> str:
    """The scheme of a sealed address; empty for any other."""
    found = _SEALED.fullmatch(address)
    return found[1] if found else ""


def shown(address: str) -> str:
    """The address as anybody may see it, its owner too: a sealed one hidden, any other as it is."""
    scheme = scheme_of(address)
    return f"{scheme}://{HIDDEN}" if scheme else address


def kept(given: str, stored: str) -> str:
    """What is to be stored where `given` came back from a form or script: `stored`, if that is what was shown.

    Raises Rejected when something hidden came back that is not what is stored.
    """
    if not is_shown(given):
        return given
    if shown(stored) != given:
        raise Rejected("invalid_address", "The address is hidden here; enter the whole of it.", "address")
    return stored


def is_shown(text: str) -> bool:
    """Whether it is the hidden form of some address."""
    return _SHOWN.fullmatch(text) is not None
