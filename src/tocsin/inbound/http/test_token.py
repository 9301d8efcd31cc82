"""The test token that makes a POST a user's test: signed, for one integration and one user, valid for a minute.

It is part of the path, after the integration's token: no proxy drops a part of the path, so a sample never arrives as a
message that pages everybody. base64url (RFC 4648, 5) of the integration's and the user's id, the second of expiry, 8
random bytes, and the first 16 bytes of an HMAC-SHA256 of those.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.config import crypto
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_FOREIGN = ReasonType("test_token.foreign", "This test token was not issued by this installation of Tocsin.")
_OTHER_INTEGRATION = ReasonType("test_token.other_integration", "This test token is for another integration.")
_EXPIRED = ReasonType(
    "test_token.expired", "This test token was valid for {duration} and has expired. Send the sample again."
)

VALID_FOR = timedelta(minutes=1)

#: The path segment between an integration's token and the test token.
SEGMENT = "test"

_LAYOUT = struct.Struct(">QQQ8s")
_MAC_BYTES = 16
_LENGTH = len(base64.urlsafe_b64encode(bytes(_LAYOUT.size + _MAC_BYTES)))


@dataclass(frozen=True, slots=True)
class WebhookTestToken:
    """The user who sends the test, and the test's unique number."""

    user_id: int
    number: int

    @property
    def id(self) -> str:
        """The number as 16 hexadecimal characters."""
        return f"{self.number:016x}"


def issue(integration_id: int, user_id: int, now: datetime) -> tuple[str, WebhookTestToken]:
    """Returns a new token's URL-safe text, and the token."""
    random = os.urandom(8)
    payload = _LAYOUT.pack(integration_id, user_id, int((now + VALID_FOR).timestamp()), random)
    text = base64.urlsafe_b64encode(payload + _mac(crypto.keys()[0], payload)).decode()
    return text, WebhookTestToken(user_id, int.from_bytes(random))


def check(text: str, integration_id: int, now: datetime) -> WebhookTestToken:
    """Verifies a token issued with any of the known keys. Raises Rejected("bad_pass") if it is invalid or expired."""
    raw = _decoded(text)
    payload, mac = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
    signing_keys = crypto.keys()
    # All keys are tried, so that the time taken reveals nothing.
    matches = [hmac.compare_digest(mac, _mac(key, payload)) for key in signing_keys]
    if len(raw) != _LAYOUT.size + _MAC_BYTES or not any(matches):
        raise Rejected("bad_pass", _FOREIGN())
    issued_for, user_id, expires_at, random = _LAYOUT.unpack(payload)
    if issued_for != integration_id:
        raise Rejected("bad_pass", _OTHER_INTEGRATION())
    if now.timestamp() >= expires_at:
        raise Rejected("bad_pass", _EXPIRED(duration=VALID_FOR))
    return WebhookTestToken(user_id, int.from_bytes(random))


def _decoded(text: str) -> bytes:
    if len(text) != _LENGTH or not text.isascii():
        return b""
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _mac(key: str, payload: bytes) -> bytes:
    # A derived key, so that nothing else signed or encrypted by Tocsin can serve as a test token.
    derived_key = hashlib.sha256(f"test:{key}".encode()).digest()
    return hmac.digest(derived_key, payload, "sha256")[:_MAC_BYTES]
