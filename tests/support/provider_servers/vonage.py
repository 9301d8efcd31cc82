"""Vonage's SMS API on loopback behind the kind `vonage`, and its webhooks, signed in the body
(https://developer.vonage.com/en/api/sms). Nothing is called by itself: a test says what happens.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, SECRET, ProviderServer, Signing, refusals
from tocsin.notify.integrations.vonage import sign
from tocsin.notify.interfaces import ProviderAccount

NUMBER = "+15550100"
SIGNING_SECRET = "signature-secret"


@dataclass
class VonageDouble:
    """`answers` are given to the next messages instead of taking them."""

    http: HttpDouble
    key: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    server: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        return {"api_key": "abcd1234", "from_number": NUMBER, "api_base": self.http.url}

    @property
    def secrets(self) -> dict[str, str]:
        return {"api_secret": self.key, "signing_secret": SIGNING_SECRET}

    def answer(self, request: Request) -> Response:
        if request.path == "/account/get-balance":
            pair = b64encode(f"abcd1234:{self.key}".encode()).decode()
            is_known = request.headers.get("authorization") == f"Basic {pair}"
            return Response(200, b'{"value": 12.3, "autoReload": false}') if is_known else Response(401)
        if request.method != "POST" or request.path != "/sms/json":
            return Response(404)
        if self.answers:
            return self.answers.pop(0)
        message = request.json()
        if message.get("api_secret") != self.key:
            return refusal("4", "Bad Credentials")
        if not str(message.get("to", "")).isdigit():
            return refusal("3", "Invalid to")
        if message.get("from") != NUMBER.lstrip("+") or not message.get("text"):
            return refusal("15", "Illegal Sender Address")
        assert len(message.get("callback", "")) <= 100
        assert len(message["client-ref"]) <= 100
        message["id"] = f"0A0000000123ABC{len(self.messages)}"
        self.messages.append(message)
        parts = [{"status": "0", "message-id": message["id"], "to": message["to"]}]
        return Response(200, json.dumps({"message-count": "1", "messages": parts}).encode())

    def received(self, url: str, sender: str, text: str, at: float, *, forged: bool = False) -> int:
        fields = {
            "msisdn": sender.lstrip("+"),
            "to": NUMBER.lstrip("+"),
            "messageId": "in-1",
            "text": text,
            "type": "text",
        }
        return self._post(url, fields, at, "another" if forged else SIGNING_SECRET)

    def finalized(self, message: Mapping[str, Any], status: str, at: float) -> int:
        fields = {"msisdn": message["to"], "messageId": message["id"], "status": status, "err-code": "0"}
        fields |= {"network-code": "22801", "price": "0.03330000", "scts": "2611240915"}
        return self._post(message["callback"], {**fields, "client-ref": message["client-ref"]}, at, SIGNING_SECRET)

    def _post(self, url: str, fields: Mapping[str, str], at: float, secret: str) -> int:
        body = signed_body(json.dumps(fields).encode(), at, secret)
        connection = HTTPConnection(urlsplit(self.server).netloc, timeout=30)
        try:
            connection.request("POST", urlsplit(url).path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()


def refusal(status: str, error: str) -> Response:
    """An error as Vonage answers it: with HTTP status 200."""
    parts = [{"status": status, "error-text": error}]
    return Response(200, json.dumps({"message-count": "1", "messages": parts}).encode())


def signed_body(body: bytes, at: float, secret: str = SIGNING_SECRET) -> bytes:
    """The flat JSON object in `body` with its signature; an empty one if there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    fields |= {"timestamp": str(int(at)), "nonce": "n"}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return json.dumps({**fields, "sig": sign(texts, secret, "sha256").upper()}).encode()


@contextmanager
def sms_double(key: str = SECRET) -> Iterator[VonageDouble]:
    """A running server."""
    with http_double() as http:
        double = VonageDouble(http, key)
        http.answering = double.answer
        yield double


@contextmanager
def vonage_server() -> Iterator[ProviderServer]:
    with sms_double() as double:

        def answer(how: str) -> None:
            answers = {
                "temporary": Response(503),
                "permanent": refusal("7", "Number barred"),
                "unknown": Response(hangs_up=True),
            }
            double.answers.append(answers[how])

        def keys() -> list[str]:
            return [request.json()["client-ref"] for request in double.http.requests if request.method == "POST"]

        callbacks = "https://tocsin.example.org/hooks/vonage"
        account = ProviderAccount("Vonage", double.settings, double.secrets, callback_base_url=callbacks)
        answers = {
            "credentials": refusal("4", "Bad Credentials"),
            "unpaid": refusal("9", "Partner quota exceeded"),
            "sender": refusal("15", "Illegal Sender Address"),
            "policy": refusal("8", "Partner account barred"),
            "quota": refusal("11", "Account not enabled for HTTP"),
            NO_SUCH_ADDRESS: refusal("33", "Number De-activated"),
        }
        yield ProviderServer(
            account, "+41790000001", "sms", answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.answers.append, answers),
        )  # fmt: skip


_AT = datetime(2026, 11, 24, 9, 15, tzinfo=UTC).timestamp()

SIGNING = Signing(
    ProviderAccount(
        "Vendor",
        {"api_base": "http://127.0.0.1:9", "from_number": NUMBER},
        {"api_secret": SECRET, "signing_secret": SIGNING_SECRET},
        is_trusted=True,
    ),
    lambda _callback: {},
    ("sms", "status"),
    (
        {"msisdn": "41790000009", "messageId": "m1", "text": "ack", "type": "text"},
        {"msisdn": "41790000009", "messageId": "m1", "status": "failed", "err-code": "3", "client-ref": "k"},
    ),
    signed_body=lambda body: signed_body(body, _AT),
)
