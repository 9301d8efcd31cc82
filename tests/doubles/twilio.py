"""Twilio on loopback: its REST API for messages, calls and recordings, and what it calls back, correctly signed.

After https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/voice/api/call-resource,
https://www.twilio.com/docs/voice/api/recording and https://www.twilio.com/docs/usage/security. Nothing is called back
by itself: a test says what the phone does. The calls of a hotline are in `exchange`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double
from tests.doubles.phone_exchange import MP3, Exchange

SID = "AC0123456789abcdef0123456789abcdef"
NUMBER = "+41445550000"
#: The account's other number, which people call.
HOTLINE = "+41445550099"
#: The longest document that a request may carry.
MAX_TWIML_CHARS = 4000

#: As Twilio refuses: status, code, message.
ERRORS = {
    "auth": (401, 20003, "Authenticate"),
    "rate": (429, 20429, "Too Many Requests"),
    "number": (400, 21211, "The 'To' number is not a valid phone number."),
    "opted out": (400, 21610, "Attempt to send to unsubscribed recipient"),
    "country": (400, 21408, "Permission to send an SMS has not been enabled for the region"),
    "suspended": (403, 30002, "Account suspended"),
    "sender": (400, 21606, "The 'From' phone number is not a valid, SMS-capable number."),
    "spending": (400, 30010, "Message price exceeds max price"),
    "broken": (503, 20503, "Service unavailable"),
    "caller id": (400, 21210, "The source phone number provided is not yet verified for your account."),
    "call over": (400, 21220, "Call is not in-progress. Cannot redirect."),
}


@dataclass(frozen=True)
class SpokenDocument:
    """What a call said at one turn, and where a key goes; `then` is what it says where no key is pressed."""

    text: str
    languages: tuple[str, ...]
    action: str
    hangs_up: bool
    then: str = ""


class Phone:
    """What happens to the calls of a vendor that speaks TwiML: a test says what, and the vendor calls back."""

    calls: list[dict[str, Any]]

    def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        """One signed request of the vendor's: status and body of the answer."""
        raise NotImplementedError

    def call_status(self, call: Mapping[str, str], status: str, **more: str) -> int:
        """The status callback of a call."""
        fields = {"CallSid": call["sid"], "CallStatus": status, "To": call["To"], "AccountSid": SID, **more}
        return self.post_form(call["StatusCallback"], fields)[0]

    def pick_up(self, call: Mapping[str, str], by: str = "human") -> SpokenDocument:
        """Somebody, or a machine, answers the call: what they hear."""
        return self.ask(call, call["Url"], {"AnsweredBy": by, "CallStatus": "in-progress"})

    def press(self, call: Mapping[str, str], message: SpokenDocument, digits: str) -> SpokenDocument:
        """A key is pressed, where the call asked for one."""
        assert message.action, "the call asks for no key"
        return self.ask(call, message.action, {"Digits": digits, "CallStatus": "in-progress"})

    def ask(self, call: Mapping[str, str], url: str, more: Mapping[str, str]) -> SpokenDocument:
        """The vendor asks for the next document of a call."""
        fields = {
            "CallSid": call["sid"],
            "To": call["To"],
            "From": call.get("From", NUMBER),
            "Direction": "outbound-api",
            **more,
        }
        status, answered = self.post_form(url, fields)
        assert status == 200, (status, answered)
        return parse_twiml(answered)

    def check_call(self, fields: Mapping[str, Any], events: object) -> str:
        """Why the vendor refuses to make a call; empty if it makes it."""
        if fields.get("MachineDetection", "Enable") not in ("Enable", "DetectMessageEnd"):
            return "MachineDetection"
        if str(fields.get("AsyncAmd", "")).lower() == "true" and not fields.get("AsyncAmdStatusCallback"):
            return "AsyncAmdStatusCallback"
        known = {"initiated", "ringing", "answered", "completed"}
        if "StatusCallback" in fields and set(events) != known:  # type: ignore[call-overload]
            return "StatusCallbackEvent"
        return "" if "Url" not in fields or fields["Url"].startswith("https://") else "Url"


@dataclass
class TwilioDouble(Phone):
    """`refusals` are given to the next requests instead of taking them: a name of ERRORS, or a Response."""

    http: HttpDouble
    token: str
    messages: list[dict[str, str]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str | Response] = field(default_factory=list)
    #: Where the answers of the receiving server are asked for, instead of the public address in the request.
    server: str = ""
    takes: float = 0.0
    is_down: bool = False
    #: The recordings by their id.
    recordings: dict[str, bytes] = field(default_factory=dict)
    recording: bytes = MP3
    hotline: str = HOTLINE

    def __post_init__(self) -> None:
        self.exchange = Exchange(self)

    @property
    def url(self) -> str:
        return self.http.url

    def new_sid(self) -> str:
        return f"CA{len(self.exchange.lines) + 1:032d}"

    def caller_fields(self, sid: str) -> dict[str, str]:
        return {"CallToken": f"token-{sid}"}

    def recording_fields(self, sid: str) -> dict[str, str]:
        recording = f"RE{len(self.recordings) + 1:032d}"
        self.recordings[recording] = self.recording
        url = f"{self.url}/2010-04-01/Accounts/{SID}/Recordings/{recording}"
        return {"RecordingSid": recording, "RecordingUrl": url}

    @property
    def settings(self) -> dict[str, Any]:
        """A provider's settings that lead here."""
        return {"account_sid": SID, "from_number": NUMBER, "api_base": self.url, "machine_detection": True}

    @property
    def secrets(self) -> dict[str, str]:
        return {"auth_token": self.token}

    def answer(self, request: Request) -> Response:
        if self.is_down:
            return Response(hangs_up=True)
        pair = base64.b64encode(f"{SID}:{self.token}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {pair}":
            return _error("auth")
        path = urlsplit(request.path).path
        if request.method == "GET" and path == f"/2010-04-01/Accounts/{SID}.json":
            return _json(200, {"sid": SID, "friendly_name": "Acme", "status": "active", "type": "Full"})
        if found := re.fullmatch(rf"/2010-04-01/Accounts/{SID}/Calls/(\w+)\.json", path):
            return self._of_call(request, found[1])
        if found := re.fullmatch(rf"/2010-04-01/Accounts/{SID}/Recordings/(\w+)\.(json|mp3)", path):
            return self._of_recording(request, found[1])
        match = re.fullmatch(rf"/2010-04-01/Accounts/{SID}/(Messages|Calls)\.json", path)
        if request.method != "POST" or match is None:
            return Response(404, json.dumps({"code": 20404, "message": "not found", "status": 404}).encode())
        if self.refusals:
            refusal = self.refusals.pop(0)
            return refusal if isinstance(refusal, Response) else _error(refusal)
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
        events = [text for name, text in pairs if name == "StatusCallbackEvent"]
        return self._message(dict(pairs)) if match[1] == "Messages" else self._call(dict(pairs), events)

    def _message(self, fields: dict[str, str]) -> Response:
        problem = self._addresses(fields, "MessagingServiceSid")
        if problem or not fields.get("Body") or len(fields["Body"]) > 1600:
            return problem or _refusal(400, 21602, "Message body is required.")
        fields["sid"] = f"SM{len(self.messages) + 1:032d}"
        self.messages.append(fields)
        return _json(201, {"sid": fields["sid"], "status": "queued"}, self.takes)

    def _call(self, fields: dict[str, str], events: list[str]) -> Response:
        problem = self._caller_id(fields) or self._addresses({**fields, "From": NUMBER})
        if wrong := self.check_call(fields, events):
            return _refusal(400, 21218, f"Invalid {wrong}.")
        if problem or ("Url" in fields) == ("Twiml" in fields):
            return problem or _refusal(400, 21205, "Url parameter is required.")
        fields["sid"] = self.exchange.start(fields).sid
        self.calls.append(fields)
        return _json(201, {"sid": fields["sid"], "status": "queued"}, self.takes)

    def _caller_id(self, fields: Mapping[str, str]) -> Response | None:
        """A call comes from a number of the account, or with its token from that of a caller."""
        callers = {f"token-{line.sid}": line.caller for line in self.exchange.lines if line.is_inbound}
        shown = fields.get("From", "")
        is_allowed = shown in (NUMBER, HOTLINE) or (shown and callers.get(fields.get("CallToken", "")) == shown)
        return None if is_allowed else _error("caller id")

    def _of_call(self, request: Request, sid: str) -> Response:
        if (line := self.exchange.find(sid)) is None:
            return _refusal(404, 20404, "The requested resource was not found")
        if request.method == "POST":
            fields = dict(parse_qsl(request.body.decode()))
            document, status = fields.get("Twiml", ""), fields.get("Status", "")
            if not line.is_live or (document and line.status != "in-progress"):
                return _error("call over")
            if bool(document) == bool(status) or len(document) > MAX_TWIML_CHARS:
                return _refusal(400, 21218, "Invalid update")
            self.exchange.update(line, document, status)
        return _json(200, {"sid": sid, "status": line.status})

    def _of_recording(self, request: Request, recording: str) -> Response:
        if recording not in self.recordings:
            return _refusal(404, 20404, "The requested resource was not found")
        if request.method == "DELETE":
            del self.recordings[recording]
            return Response(204, b"")
        if request.path.endswith(".mp3"):
            return Response(200, self.recordings[recording], {"Content-Type": "audio/mpeg"})
        return _json(200, {"sid": recording, "status": "completed"})

    def _addresses(self, fields: Mapping[str, str], instead: str = "") -> Response | None:
        if not re.fullmatch(r"\+[1-9][0-9]{6,14}", fields.get("To", "")):
            return _error("number")
        if fields.get("From") != NUMBER and not fields.get(instead):
            return _refusal(400, 21606, "The 'From' phone number is not a valid, SMS-capable number.")
        return None

    # What Twilio calls.

    def message_status(self, message: Mapping[str, str], status: str, code: int | None = None) -> int:
        """The status callback of a message; the HTTP status that the server answers."""
        fields = {"MessageSid": message["sid"], "MessageStatus": status, "To": message["To"], "AccountSid": SID}
        if code is not None:
            fields["ErrorCode"] = str(code)
        return self.post(message["StatusCallback"], fields)[0]

    def text(self, url: str, sender: str, body: str, sid: str = "SM-in-1", **more: str) -> str | None:
        """Somebody sends a text to the number: what they are answered, or None."""
        fields = {"From": sender, "To": NUMBER, "Body": body, "MessageSid": sid, "AccountSid": SID, **more}
        status, answered = self.post(url, fields)
        assert status == 200, (status, answered)
        message = ET.fromstring(answered).find("Message")
        return None if message is None else message.text

    def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        return self.post(url, fields)

    def post(self, url: str, fields: Mapping[str, str], signature: str | None = None) -> tuple[int, str]:
        """One signed request of Twilio's: status and body of the answer."""
        target = urlsplit(self.server or url)
        connection = HTTPConnection(target.netloc, timeout=30)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": self.sign(url, fields) if signature is None else signature,
        }
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            connection.request("POST", path, urlencode(fields), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def sign(self, url: str, fields: Mapping[str, str]) -> str:
        """HMAC-SHA1 over the address and the fields in their order, in base64; written without the vendor's library."""
        text = url + "".join(f"{name}{fields[name]}" for name in sorted(fields))
        return base64.b64encode(hmac.digest(self.token.encode(), text.encode(), hashlib.sha1)).decode()


def parse_twiml(twiml: str) -> SpokenDocument:
    """What a document of TwiML says and asks for."""
    root = ET.fromstring(twiml)
    gathers = root.findall("Gather")
    gather = gathers[0] if gathers else None
    says = list((root if gather is None else gather).iter("Say"))
    return SpokenDocument(
        " ".join(element.text or "" for element in says),
        tuple(element.get("language", "") for element in says),
        gather.get("action", "") if gather is not None else "",
        root.find("Hangup") is not None,
        " ".join(element.text or "" for other in gathers[1:] for element in other.iter("Say")),
    )


def _json(status: int, body: Mapping[str, object], takes: float = 0.0) -> Response:
    return Response(status, json.dumps(body).encode(), takes=takes)


def _error(name: str) -> Response:
    return _refusal(*ERRORS[name])


def _refusal(status: int, code: int, message: str) -> Response:
    return _json(status, {"code": code, "message": message, "status": status})


@contextmanager
def twilio_double(token: str = "twilio-auth-token") -> Iterator[TwilioDouble]:
    """A running server."""
    with http_double() as http:
        double = TwilioDouble(http, token)
        http.answering = double.answer
        yield double
