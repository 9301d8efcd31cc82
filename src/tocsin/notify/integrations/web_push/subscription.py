"""Validates a browser's push subscription (W3C Push API, PushSubscription.toJSON). Pure: no database, sends nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import egress
from tocsin.core.reasons import ReasonType

MAX_ENDPOINT_CHARS = 2000

#: RFC 8291, 3.2: an uncompressed P-256 point, and 16 bytes shared by browser and sender.
_POINT = 65
_AUTH = 16

_NO_ENDPOINT = ReasonType("push.no_endpoint", "The browser's subscription contains no address of a push service.")
_ENDPOINT_NOT_ALLOWED = ReasonType("push.endpoint_not_allowed", "The push service's address cannot be reached.")
_PUBLIC_KEY = ReasonType("push.public_key_invalid", "The browser's public key is not a point of P-256.")
_SECRET = ReasonType("push.secret_invalid", "The browser's secret is not 16 bytes.")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A browser's endpoint at its push service, and the keys that encrypt for it. Secret: anyone with all of it could
    push.
    """

    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)

    @property
    def hash(self) -> str:
        """Identifies a browser across subscriptions."""
        return hash_of(self.endpoint)

    @property
    def service(self) -> str:
        """The push service's hostname."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def origin(self) -> str:
        """The audience of a signed push (RFC 8292, 2: `aud`)."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    def point(self) -> bytes:
        return _bytes(self.p256dh)

    def secret(self) -> bytes:
        return _bytes(self.auth)

    def text(self) -> str:
        """Returns the stored form. The caller encrypts it."""
        return json.dumps({"endpoint": self.endpoint, "p256dh": self.p256dh, "auth": self.auth})


def hash_of(endpoint: str) -> str:
    """Returns the SHA-256 of an endpoint in hexadecimal, which identifies the browser."""
    return hashlib.sha256(endpoint.encode("utf-8", "replace")).hexdigest()


def from_text(text: str) -> Subscription:
    """Returns the subscription that `text()` wrote."""
    return Subscription(**json.loads(text))


def parse_subscription(value: object) -> Subscription:
    """Returns the validated subscription that a browser sent. Raises Rejected("invalid") with the invalid field."""
    document = value if isinstance(value, dict) else {}
    keys = document.get("keys") if isinstance(document.get("keys"), dict) else {}
    assert isinstance(keys, dict)
    endpoint, p256dh, auth = document.get("endpoint"), keys.get("p256dh"), keys.get("auth")
    if not isinstance(endpoint, str) or len(endpoint) > MAX_ENDPOINT_CHARS:
        raise Rejected("invalid", _NO_ENDPOINT(), "endpoint")
    try:
        egress.check_url(endpoint)
    except Permanent:
        raise Rejected("invalid", _ENDPOINT_NOT_ALLOWED(), "endpoint") from None
    if not _is_point(p256dh):
        raise Rejected("invalid", _PUBLIC_KEY(), "keys.p256dh")
    if not isinstance(auth, str) or len(_decoded(auth)) != _AUTH:
        raise Rejected("invalid", _SECRET(), "keys.auth")
    assert isinstance(p256dh, str)
    return Subscription(endpoint, p256dh.rstrip("="), auth.rstrip("="))


def _is_point(value: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(value, str) or len(point := _decoded(value)) != _POINT:
        return False
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return _bytes(text)
    except (ValueError, binascii.Error):
        return b""


def _bytes(text: str) -> bytes:
    plain = text.rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
