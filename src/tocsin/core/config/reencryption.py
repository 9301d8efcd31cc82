"""Texts that hold encrypted values, brought under the newest secret key. Pure but for the keys of the process."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tocsin.core.config import crypto, deterministic_encryption
from tocsin.core.errors import Permanent

#: A Fernet token: version 0x80 and a time before the year 2106; or a sealed address with its scheme.
_VALUE = re.compile(r"gAAAAA[A-Za-z0-9_-]{60,}={0,2}|(?P<head>sealed:[a-z][a-z0-9+.-]{0,30}:)(?P<token>[A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """A text under the newest key, and how many of its values were under an older one, or can be read by none."""

    text: str
    old: int = 0
    unreadable: int = 0


def reencrypt(text: str) -> Reencrypted:
    """`text` with each encrypted value in it under the newest key. A value that no key opens stays as it is."""
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


def holds_values(text: str) -> bool:
    """Whether there is anything in `text` that looks encrypted."""
    return _VALUE.search(text) is not None


def _fresh(match: re.Match[str]) -> str | None:
    """The value under the newest key; None where it is so already. Raises Permanent where no known key opens it."""
    if match["head"] is None:
        return None if crypto.is_current(match[0]) else crypto.encrypt(crypto.decrypt(match[0]))
    token = match["token"]
    sealed = deterministic_encryption.seal(deterministic_encryption.unseal(token))
    return None if sealed == token else f"{match['head']}{sealed}"
