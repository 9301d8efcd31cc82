"""Re-encrypts the encrypted values inside stored texts under the newest secret key. Reads nothing but the keys."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tocsin.core.config import crypto, deterministic_encryption
from tocsin.core.errors import Permanent

#: A Fernet token (version 0x80 and a time before the year 2106), or a sealed address with its scheme.
_VALUE = re.compile(
    r"gAAAAA[A-Za-z0-9_-]{60,}={0,2}|(?P<head>sealed:(?P<scheme>[a-z][a-z0-9+.-]{0,30}):)(?P<token>[A-Za-z0-9_-]+)"
)


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """A re-encrypted text, and how many of its values were under an older key, or could not be decrypted."""

    text: str
    old: int = 0
    unreadable: int = 0


def reencrypt(text: str) -> Reencrypted:
    """Returns `text` with every encrypted value under the newest key. A value that no key decrypts stays unchanged."""
    old = unreadable = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal old, unreadable
        try:
            fresh = _fresh(match)
        except Permanent:
            unreadable += 1
            return match[0]
        old += fresh is not None
        return match[0] if fresh is None else fresh

    return Reencrypted(_VALUE.sub(replace, text), old, unreadable)


def has_encrypted_values(text: str) -> bool:
    """Returns whether `text` contains anything that looks encrypted."""
    return _VALUE.search(text) is not None


def mask_encrypted(text: str, mask: str) -> str:
    """Returns `text` with every encrypted value replaced by `mask`, and a sealed address by its scheme and `mask`."""
    return _VALUE.sub(lambda match: f"{match['scheme']}://{mask}" if match["scheme"] else mask, text)


def _fresh(match: re.Match[str]) -> str | None:
    """Returns the value under the newest key, or None if it is already. Raises Permanent if no key decrypts it."""
    if match["head"] is None:
        return None if crypto.is_current(match[0]) else crypto.encrypt(crypto.decrypt(match[0]))
    token = match["token"]
    ciphertext = deterministic_encryption.encrypt(deterministic_encryption.decrypt(token))
    return None if ciphertext == token else f"{match['head']}{ciphertext}"
