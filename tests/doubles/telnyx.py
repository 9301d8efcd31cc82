"""Telnyx on loopback: its API for messages and for calls by TeXML, and its webhooks, signed with Ed25519.

After https://developers.telnyx.com/docs/messaging and
https://developers.telnyx.com/api-reference/texml-rest-commands/initiate-an-outbound-call.
Nothing is called by itself: a test says what happens. The calls of a hotline are in `exchange`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.doubles.http import HttpDouble, Request, Response, http_double
from tests.doubles.phone_exchange import MP3, Exchange
from tests.doubles.twilio import Phone

NUMBER = "+15550100"
#: The account's other number, which people call.
HOTLINE = "+15550199"
ORGANIZATION = "61bf923e-5e4d-4595-a110-56190ea18a1b"
APPLICATION = "1773070540731319841"


@dataclass
class TelnyxDouble(Phone):
    """`answers` are given to the next messages instead of taking them."""

    http: HttpDouble
    key: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    now: Callable[[], float] = time.time
    takes: float = 0.0
    server: str = ""
    signing: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    is_down: bool = False
    #: Whether the answer to a started call has its id, which the reference does not show.
    tells_sid: bool = True
    #: The recordings by their id.
    recordings: dict[str, bytes] = field(default_factory=dict)
    recording: bytes = MP3
    hotline: str = HOTLINE
    #: The URLs of recordings that work: each for ten minutes.
    media_urls: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.exchange = Exchange(self)

    def new_sid(self) -> str:
        return f"v3:{len(self.exchange.lines) + 1:052d}"

    def caller_fields(self, sid: str) -> dict[str, str]:
        return {}

    def recording_fields(self, sid: str) -> dict[str, str]:
        recording = f"35094891-3290-4142-b2c2-{len(self.recordings) + 1:012d}"
        self.recordings[recording] = self.recording
        return {"RecordingSid": recording, "RecordingUrl": self._media_url(recording)}

    def _media_url(self, recording: str) -> str:
        path = f"/telephony-recorder/{recording}.mp3?X-Amz-Expires=600&X-Amz-Date={len(self.http.requests)}"
        self.media_urls.add(path)
        return f"{self.http.url}{path}"

    @property
    def settings(self) -> dict[str, Any]:
        public = self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {
            "from_number": NUMBER,
            "public_key": base64.b64encode(public).decode(),
            "api_base": self.http.url,
            "texml_application_id": APPLICATION,
        }

    @property
    def secrets(self) -> dict[str, str]:
        return {"api_key": self.key}

    def answer(self, request: Request) -> Response:
        if self.is_down:
            return Response(hangs_up=True)
        if request.path.startswith("/telephony-recorder/"):
            return self._media(request)
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return refusal(401, "10009", "Authentication failed")
        if request.method == "GET" and request.path == "/v2/balance":
            return Response(200, b'{"data": {"balance": "12.30", "currency": "USD"}}')
        if request.method == "GET" and request.path == "/v2/whoami":
            return Response(200, json.dumps({"data": {"organization_id": ORGANIZATION}}).encode())
        if request.method == "GET" and request.path == f"/v2/texml_applications/{APPLICATION}":
            return Response(200, json.dumps({"data": {"id": APPLICATION, "active": True}}).encode())
        resource = request.path.removeprefix(f"/v2/texml/Accounts/{ORGANIZATION}/")
        if resource.startswith("Calls/"):
            return self._of_call(request, unquote(resource.removeprefix("Calls/")))
        if resource.startswith("Recordings/"):
            return self._of_recording(request, resource.removeprefix("Recordings/").removesuffix(".json"))
        if request.method != "POST" or request.path not in ("/v2/messages", f"/v2/texml/Accounts/{ORGANIZATION}/Calls"):
            return refusal(404, "10005", "Resource not found")
        if self.answers:
            return self.answers.pop(0)
        return self._message(request) if request.path == "/v2/messages" else self._call(request)

    def _call(self, request: Request) -> Response:
        call = request.json()
        if call.get("ApplicationSid") != APPLICATION:
            return refusal(404, "10005", "Resource not found")
        if call.get("From") not in (NUMBER, HOTLINE):
            return refusal(403, "10010", "Authorization failed: caller id is not allowed by the outbound voice profile")
        if not str(call.get("To", "")).startswith("+"):
            return refusal(422, "10016", "Phone number must be in +E.164 format")
        if ("Url" in call) == ("Texml" in call) or self.check_call(call, call.get("StatusCallbackEvent", "").split()):
            return refusal(400, "10015", "Bad Request")
        call["sid"] = self.exchange.start(call).sid
        self.calls.append(call)
        answer = {"from": NUMBER, "to": call["To"], "status": "queued"}
        if self.tells_sid:
            answer["call_sid"] = call["sid"]
        return Response(200, json.dumps(answer).encode(), takes=self.takes)

    def _of_call(self, request: Request, sid: str) -> Response:
        if (line := self.exchange.find(sid)) is None:
            return refusal(404, "10005", "Resource not found")
        if request.method == "POST":
            fields = dict(parse_qsl(request.body.decode()))
            if not line.is_live:
                return refusal(422, "90018", "Call has already ended")
            if ("Texml" in fields) == ("Status" in fields):
                return refusal(400, "10015", "Bad Request")
            self.exchange.update(line, fields.get("Texml", ""), fields.get("Status", ""))
        return Response(200, json.dumps({"sid": sid, "status": line.status}).encode())

    def _of_recording(self, request: Request, recording: str) -> Response:
        if recording not in self.recordings:
            return refusal(404, "10005", "Resource not found")
        if request.method == "DELETE":
            del self.recordings[recording]
            return Response(204, b"")
        answer = {"sid": recording, "status": "completed", "media_url": self._media_url(recording)}
        return Response(200, json.dumps(answer).encode())

    def _media(self, request: Request) -> Response:
        recording = request.path.removeprefix("/telephony-recorder/").partition(".mp3")[0]
        if request.path not in self.media_urls or recording not in self.recordings:
            expired = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            return Response(403, expired, {"Content-Type": "application/xml"})
        return Response(200, self.recordings[recording], {"Content-Type": "binary/octet-stream"})

    def _message(self, request: Request) -> Response:
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

    def post_form(self, url: str, fields: Mapping[str, str], at: float | None = None) -> tuple[int, str]:
        body = urlencode(fields).encode()
        at = self.now() if at is None else at
        return self._send(url, body, "application/x-www-form-urlencoded", at, self._sign(body, at))

    def post(self, url: str, event: str, payload: Mapping[str, Any], at: float, signature: bytes | None = None) -> int:
        body = json.dumps({"data": {"event_type": event, "id": "e1", "payload": payload}}).encode()
        return self._send(url, body, "application/json", at, signature or self._sign(body, at))[0]

    def _sign(self, body: bytes, at: float) -> bytes:
        return self.signing.sign(f"{int(at)}|".encode() + body)

    def _send(self, url: str, body: bytes, content_type: str, at: float, signature: bytes) -> tuple[int, str]:
        headers = {
            "Content-Type": content_type,
            "telnyx-timestamp": str(int(at)),
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        }
        parts = urlsplit(url)
        connection = HTTPConnection(urlsplit(self.server).netloc, timeout=30)
        try:
            connection.request("POST", f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
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
