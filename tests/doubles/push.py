"""A push service on loopback, and the browsers that subscribe at it: it checks the sender's signature (RFC 8292) and
headers (RFC 8030), and opens what comes with the subscription's own keys (RFC 8291), as a browser would.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.doubles.http import HttpDouble, Request, Response, http_double

MAX_BODY_BYTES = 4096


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Browser:
    """One subscription: its keys stay here, and only what they open was pushed to it."""

    endpoint: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    secret: bytes = field(default_factory=lambda: os.urandom(16))
    received: list[dict[str, Any]] = field(default_factory=list)
    #: Whether it was uninstalled, or its permission taken away.
    is_gone: bool = False

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def subscription(self) -> dict[str, Any]:
        """What `PushSubscription.toJSON()` gives."""
        keys = {"p256dh": text_of(self.point), "auth": text_of(self.secret)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def opened(self, body: bytes) -> bytes:
        """RFC 8188 with the keys of RFC 8291, 3.4, one record. Raises InvalidTag for what is not for this browser."""
        salt, size, length = body[:16], int.from_bytes(body[16:20]), body[20]
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert len(sealed) <= size
        shared = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        info = b"WebPush: info\x00" + self.point + sender
        seed = _derived(shared, self.secret, info, 32)
        key = _derived(seed, salt, b"Content-Encoding: aes128gcm\x00", 16)
        nonce = _derived(seed, salt, b"Content-Encoding: nonce\x00", 12)
        plain = AESGCM(key).decrypt(nonce, sealed, None).rstrip(b"\x00")
        assert plain.endswith(b"\x02"), "the last record ends with 2"
        return plain[:-1]


def _derived(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)


@dataclass
class PushDouble:
    """`answers` are given to the next pushes instead of taking them. `public` is the only key that may push here."""

    http: HttpDouble
    browsers: dict[str, Browser] = field(default_factory=dict)
    answers: list[Response] = field(default_factory=list)
    public: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)

    def browser(self) -> Browser:
        """Another browser, subscribed."""
        path = f"/push/{text_of(os.urandom(24))}"
        self.browsers[path] = Browser(self.http.url + path)
        return self.browsers[path]

    def answer(self, request: Request) -> Response:
        browser = self.browsers.get(request.path)
        if browser is None or browser.is_gone:
            return Response(410)
        if self.answers:
            return self.answers.pop(0)
        if problem := self._problem(request):
            return Response(problem)
        browser.received.append(json.loads(browser.opened(request.body)))
        self.headers.append(dict(request.headers))
        self.arrived.set()
        return Response(201, b"", {"Location": f"{self.http.url}/message/{len(self.headers)}"})

    def _problem(self, request: Request) -> int:
        headers = request.headers
        if request.method != "POST" or headers.get("content-encoding") != "aes128gcm" or not headers["ttl"].isdigit():
            return 400
        if headers.get("urgency") not in ("very-low", "low", "normal", "high") or len(headers.get("topic", "")) > 32:
            return 400
        if len(request.body) > MAX_BODY_BYTES:
            return 413
        return 0 if self._is_signed(headers.get("authorization", "")) else 403

    def _is_signed(self, authorization: str) -> bool:
        scheme, _, rest = authorization.partition(" ")
        parts = dict(part.split("=", 1) for part in rest.split(","))
        head, claims, signature = parts["t"].split(".")
        body, raw = json.loads(bytes_of(claims)), bytes_of(signature)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes_of(parts["k"]))
        try:
            der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
            key.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        in_time = 0 < body["exp"] - time.time() <= 24 * 3600
        is_ours = scheme == "vapid" and body["aud"] == self.http.url and body["sub"].startswith(("mailto:", "https:"))
        return in_time and is_ours and self.public in ("", parts["k"])


@contextmanager
def push_double() -> Iterator[PushDouble]:
    """A running push service."""
    with http_double() as http:
        double = PushDouble(http)
        http.answering = double.answer
        yield double
