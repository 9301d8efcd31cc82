"""Secrets that look the same each time they are sealed, so that they can be compared and found: AES-SIV (RFC 5297).

Where nothing is compared, `crypto.encrypt` tells less: there even equal secrets look different.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tocsin.core.config import crypto
from tocsin.core.errors import Permanent


def seal(text: str) -> str:
    """`text` under the newest key, in the alphabet of URLs; the same text always gives the same."""
    sealed = _box(crypto.keys()[0]).encrypt(text.encode(), None)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def unseal(token: str) -> str:
    """The text of what `seal` made under any of the known keys. Raises Permanent when none fits."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    known = crypto.keys()
    for key in known:
        try:
            return _box(key).decrypt(raw, None).decode()
        except (InvalidTag, ValueError):
            continue
    raise Permanent(
        "A secret address cannot be read with the known secret keys.",
        remedy="Add the key it was saved under to TOCSIN_SECRET_KEY, or enter the address again.",
    )


def _box(key: str) -> AESSIV:
    # A key of its own, so that nothing sealed here passes for something encrypted or signed elsewhere.
    return AESSIV(hashlib.sha512(f"seal:{key}".encode()).digest())
