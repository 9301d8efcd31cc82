"""Encrypts a push for one browser (RFC 8291) and signs it for its push service (RFC 8292).

Uses the two libraries behind pywebpush directly: pywebpush itself loads an unused asynchronous HTTP client of 18 MB.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin.notify.integrations.web_push.keys import KeyPair
from tocsin.notify.integrations.web_push.subscription import Subscription

#: RFC 8030, 7.2: a push service must accept 4096 bytes of body; header, tag and padding take 103 of them.
MAX_PAYLOAD_BYTES = 3_900

#: RFC 8292, 2: at most 24 hours.
_SIGNED_FOR = timedelta(hours=12)


def encrypted(data: bytes, subscription: Subscription) -> bytes:
    """Returns `data` in the content coding aes128gcm, readable only by that browser."""
    # Imported on demand, when a push is sent.
    import http_ece
    from cryptography.hazmat.primitives.asymmetric import ec

    ciphertext: bytes = http_ece.encrypt(
        data,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=subscription.point(),
        auth_secret=subscription.secret(),
        version="aes128gcm",
    )
    return ciphertext


def authorization(pair: KeyPair, subscription: Subscription, contact: str, now: datetime) -> str:
    """Returns the value of the Authorization header. `contact` is a mailto: or https: URL of the operator."""
    from py_vapid import Vapid02

    claims = {"aud": subscription.origin, "sub": contact, "exp": int((now + _SIGNED_FOR).timestamp())}
    signer = Vapid02.from_raw(pair.private.encode())
    # The library's own check of `sub` rejects values that RFC 8292 allows, such as https://host:port.
    signer.conf["no-strict"] = True
    return str(signer.sign(claims)["Authorization"])
