"""Deterministic encryption (AES-SIV, RFC 5297): equal secrets have equal ciphertexts, so that they can be compared.

Where nothing is compared, use `crypto.encrypt`, which also hides whether two secrets are equal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tocsin.core.config import crypto
from tocsin.core.errors import Permanent
from tocsin.core.reasons import ReasonType

_ADDRESS_UNREADABLE = ReasonType(
    "secret.address_undecryptable", "The configured secret keys don't decrypt a stored address."
)
_RESTORE_KEY_OR_ENTER_ADDRESS = ReasonType(
    "secret.restore_key_or_enter_address",
    "Add the key it was saved under to TOCSIN_SECRET_KEY, or enter the address again.",
)


def encrypt(text: str) -> str:
    """Encrypts `text` under the newest key, as URL-safe Base64. Equal texts give equal results."""
    ciphertext = _cipher(crypto.keys()[0]).encrypt(text.encode(), None)
    return base64.urlsafe_b64encode(ciphertext).rstrip(b"=").decode()


def decrypt(token: str) -> str:
    """Decrypts a token that `encrypt` created under any known key. Raises Permanent if no key fits."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    keys = crypto.keys()
    for key in keys:
        try:
            return _cipher(key).decrypt(raw, None).decode()
        except (InvalidTag, ValueError):
            continue
    raise Permanent(_ADDRESS_UNREADABLE(), _RESTORE_KEY_OR_ENTER_ADDRESS())


def _cipher(key: str) -> AESSIV:
    # A derived key, so that a value sealed here is never valid as one encrypted or signed elsewhere.
    return AESSIV(hashlib.sha512(f"seal:{key}".encode()).digest())
