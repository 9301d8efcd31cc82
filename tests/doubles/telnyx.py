"""Telnyx on loopback: its API for messages, and its webhooks, signed with Ed25519
(https://developers.telnyx.com/docs/messaging). Nothing is called by itself: a test says what happens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.doubles.http import HttpDouble, Request, Response, http_double

NUMBER = "+15550100"


@dataclass
class TelnyxDouble:
    """`answers` are given to the next messages instead of taking them."""

    http: HttpDouble
    key: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    takes: float = 0.0
    server: str = ""
    signing: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def settings(self) -> dict[str, Any]:
        public = self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {
            "from_number": NUMBER,
            "public_key": base64.b64encode(public).decode(),
            "api_base": self.http.url,
        }

    @property
    def secrets(self) -> dict[str, str]:
        return {"api_key": self.key}

    def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return refusal(401, "10009", "Authentication failed")
        if request.method == "GET" and request.path == "/v2/balance":
            return Response(200, b'{"data": {"balance": "12.30", "currency": "USD"}}')
        if request.method != "POST" or request.path != "/v2/messages":
            return refusal(404, "10005", "Resource not found")
        if self.answers:
            return self.answers.pop(0)
        message = request.json()
        if not str(message.get("to", "")).startswith("+"):
            return refusal(400, "40310", "Invalid 'to' address")
        if message.get("from") != NUMBER or not message.get("text"):
            return refusal(400, "40305", "Invalid 'from' address")
        message["id"] = f"40385f64-5717-4562-b3fc-{len(self.messages) + 1:012d}"
        self.messages.append(message)
        return Response(200, json.dumps({"data": {"id": message["id"], "to": []}}).encode(), takes=self.takes)

    def finalized(self, message: Mapping[str, Any], status: str, at: float, *errors: Mapping[str, str]) -> int:
        """The receipt of a message; the HTTP status that the server answers."""
        payload = {
            "id": message["id"], "to": [{"phone_number": message["to"], "status": status}], "errors": errors,
            "cost": {"amount": "0.0051", "currency": "USD"},
        }  # fmt: skip
        return self.post(message["webhook_url"], "message.finalized", payload, at)

    def received(
        self, url: str, sender: str, text: str, at: float, number: str = "in-1", *, forged: bool = False
    ) -> int:
        """Somebody sends a text to the number."""
        payload = {"id": "in-1", "from": {"phone_number": sender}, "to": [{"phone_number": NUMBER}], "text": text}
        return self.post(url, "message.received", payload, at, signature=bytes(64) if forged else None)

    def post(self, url: str, event: str, payload: Mapping[str, Any], at: float, signature: bytes | None = None) -> int:
        body = json.dumps({"data": {"event_type": event, "id": "e1", "payload": payload}}).encode()
        signed = self.signing.sign(f"{int(at)}|".encode() + body) if signature is None else signature
        headers = {
            "Content-Type": "application/json",
            "telnyx-timestamp": str(int(at)),
            "telnyx-signature-ed25519": base64.b64encode(signed).decode(),
        }
        parts = urlsplit(url)
        connection = HTTPConnection(urlsplit(self.server).netloc, timeout=30)
        try:
            connection.request("POST", f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()


def refusal(status: int, code: str, title: str) -> Response:
    """An error as Telnyx writes one."""
    return Response(status, json.dumps({"errors": [{"code": code, "title": title, "detail": title}]}).encode())


@contextmanager
def telnyx_double(key: str = "KEY0123") -> Iterator[TelnyxDouble]:
    """A running server."""
    with http_double() as http:
        double = TelnyxDouble(http, key)
        http.answering = double.answer
        yield double
