"""Callbacks of vendors, correctly signed: what each vendor sends, and how it signs a body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twilio.request_validator import RequestValidator

from tests.support.people import make_user
from tests.support.provider_servers import SIGNINGS
from tests.support.provider_servers.interface import Signing
from tocsin.core.errors import Rejected
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.integrations.telegram import secret_of
from tocsin.notify.interfaces import Callback, ProviderAccount, WebhookProvider
from tocsin.notify.providers.pool import KINDS

AT = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
STAMP = str(int(AT.timestamp()))
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _account(settings: Mapping[str, Any], **secrets: str) -> ProviderAccount:
    # No vendor is called: nothing listens at this address.
    return ProviderAccount("Vendor", {"api_base": "http://127.0.0.1:9", **settings}, secrets, is_trusted=True)


def _slack(callback: Callback) -> Mapping[str, str]:
    signed = hmac.new(b"secret", f"v0:{STAMP}:".encode() + callback.body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": STAMP, "x-slack-signature": f"v0={signed}"}


def _telnyx(callback: Callback) -> Mapping[str, str]:
    signature = KEY.sign(f"{STAMP}|".encode() + callback.body)
    return {"telnyx-timestamp": STAMP, "telnyx-signature-ed25519": base64.b64encode(signature).decode()}


def _twilio(callback: Callback) -> Mapping[str, str]:
    fields = dict(parse_qsl(callback.body.decode(), keep_blank_values=True))
    return {"x-twilio-signature": RequestValidator("secret").compute_signature(callback.url, fields)}


_CHAT = {"id": 4711, "type": "private"}
_MESSAGE = {
    "message_id": 1,
    "chat": _CHAT,
    "from": {"id": 4711, "first_name": "Ann"},
    "text": "ack 1",
    "reply_markup": {"inline_keyboard": [[{"callback_data": "assign:1"}]]},
}

_HOTLINE = (
    "call", "call-answer", "call-machine", "call-key", "call-ended", "call-status", "call-conference", "call-recording",
    "call-transcript", "call-wait", "call-fallback",
)  # fmt: skip
_HOTLINE_SHAPE = {
    "CallSid": "CA1", "CallStatus": "busy", "From": "+41443334455", "To": "+41445550099", "AnsweredBy": "machine_start",
    "StatusCallbackEvent": "participant-leave", "RecordingUrl": "http://127.0.0.1:9/a", "RecordingDuration": "7",
}  # fmt: skip

VENDORS: dict[str, Signing] = SIGNINGS | {
    "telegram": Signing(
        _account({}, bot_token="1:a"),
        lambda _callback: {"x-telegram-bot-api-secret-token": secret_of("1:a")},
        ("update",),
        (
            {"update_id": 1, "message": _MESSAGE},
            {"callback_query": {"id": "1", "data": "acknowledge:1", "from": {"id": 4711}, "message": _MESSAGE}},
        ),
    ),
    "slack": Signing(
        _account({}, signing_secret="secret"),
        _slack,
        ("interact",),
        (
            {
                "type": "block_actions",
                "user": {"id": "U012AB3CD"},
                "actions": [{"value": "acknowledge:1"}],
                "channel": {"id": "D1"},
                "message": {
                    "text": "x",
                    "blocks": [{"type": "actions", "elements": [{"action_id": "tocsin:assign"}]}, {"type": "context"}],
                },
                "response_url": "http://127.0.0.1:9/answer",
            },
        ),
        is_form=True,
    ),
    "telnyx": Signing(
        _account({"public_key": base64.b64encode(PUBLIC).decode(), "from_number": "+41790000000"}, api_key="KEY"),
        _telnyx,
        ("sms", "voice", "status", *_HOTLINE),
        (
            _HOTLINE_SHAPE,
            {"CallSid": "v3:1", "CallStatus": "failed", "HangupCause": "busy", "To": "+41790000009", "Digits": "7"},
            {
                "data": {
                    "event_type": "message.received",
                    "payload": {"id": "m1", "from": {"phone_number": "+41790000009"}, "text": "ack"},
                }
            },
            {
                "data": {
                    "event_type": "message.finalized",
                    "payload": {"id": "m1", "to": [{"status": "delivery_failed"}], "errors": [{"code": "40300"}]},
                }
            },
        ),
    ),
    "twilio": Signing(
        _account({}, auth_token="secret"),
        _twilio,
        ("sms", "voice", "status", *_HOTLINE),
        (
            _HOTLINE_SHAPE,
            {"From": "+41790000009", "Body": "ack", "MessageSid": "SM1", "OptOutType": "STOP"},
            {"CallSid": "CA1", "CallStatus": "failed", "SipResponseCode": "404", "To": "+4179", "Digits": "4"},
            {"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": "30003"},
        ),
        is_form=True,
    ),
    "mail_replies": Signing(
        _account({"address": "alerts@example.org"}, post_secret="secret"),
        lambda _callback: {"authorization": "Bearer secret"},
        ("mail",),
        ({"mail": "From: a@example.org\n\nack"},),
        is_form=True,
    ),
}


def body_of(kind: str, message: Any) -> bytes:
    """The body that carries the message."""
    vendor = VENDORS[kind]
    # Telnyx posts JSON about texts, and forms about calls.
    if not vendor.is_form and not (isinstance(message, dict) and "CallSid" in message):
        return json.dumps(message).encode()
    fields = {"payload": json.dumps(message)} if kind == "slack" else message
    if not isinstance(fields, dict):
        return json.dumps(fields).encode()
    return urlencode({name: str(value).encode("utf-8", "replace") for name, value in fields.items()}).encode()


def handle_signed(kind: str, what: str, query: dict[str, str], body: bytes) -> None:
    """Signs and handles a callback: it is answered or rejected."""
    vendor, listener = VENDORS[kind], KINDS[kind]
    assert isinstance(listener, WebhookProvider)
    form = "application/x-www-form-urlencoded"
    url = "https://tocsin.example.org/hooks/vendor/x"
    bare = Callback(what, "POST", url, {"content-type": form}, query, vendor.signed_body(body), AT)
    headers = {**bare.headers, **vendor.headers(bare)}
    signed = Callback(bare.endpoint, bare.method, bare.url, headers, bare.query, bare.body, bare.at)
    try:
        answer = listener.handle_webhook(vendor.account, signed, ProviderEventReceiver("Vendor", AT))
    except Rejected:
        # The page answers 400 or 404.
        return
    assert 200 <= answer.status < 600
    answer.body.encode()


def make_people(now: datetime) -> None:
    """People at the addresses that the shapes name, so that what they say is done."""
    for name, method in (
        ("ann", {"label": "Chat", "channel": "chat", "address": "telegram:4711"}),
        ("bob", {"label": "Chat", "channel": "chat", "address": "slack:U012AB3CD"}),
        ("cat", {"label": "Phone", "channel": "sms", "address": "+41790000009"}),
    ):
        make_user(name, now, contact_methods=[method])
