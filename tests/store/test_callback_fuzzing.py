"""A correctly signed callback with odd values is answered or rejected, never a server error."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.http import QueryDict
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from tests.support.people import ACTOR, make_user
from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.integrations.telegram import secret_of
from tocsin.notify.interfaces import ProviderAccount
from tocsin.notify.providers.commands import save_provider
from tocsin.notify.registry import KINDS
from tocsin.notify.webhooks import Callback, WebhookProvider

pytestmark = pytest.mark.usefixtures("database")

AT = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
STAMP = str(int(AT.timestamp()))
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


@dataclass(frozen=True, slots=True)
class Signing:
    """An account of a vendor, how the vendor signs a body, and what it calls."""

    account: ProviderAccount
    headers: Callable[[Callback], Mapping[str, str]]
    what: tuple[str, ...]
    #: What a right body looks like: its places are filled with odd values.
    shapes: tuple[Any, ...]
    is_form: bool = False


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

VENDORS = {
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
        ("sms", "status"),
        (
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
        ("sms", "voice", "status"),
        (
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

#: Raw query strings, in which Django replaces what is not UTF-8.
QUERIES = (b"", b"n=x", b"n=%00", b"n=%ED%A0%80&asked=%00", b"n=\xed\xa0\x80", b"n=%FF&asked=\xff")

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["\x00", "\ud800", "a\x00b", "http://[", "acknowledge:1", "block_actions", "9" * 300, "[[1]]"]),
)  # fmt: skip
odd = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a JSON value, itself first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, one in inner for place in _places(one, (*path, name)))]


def _with(value: Any, path: tuple[Any, ...], changed: Any) -> Any:
    """A copy of a JSON value with another at that path."""
    if not path:
        return changed
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], changed)
    return copy


def _body(vendor: Signing, message: Any, kind: str) -> bytes:
    if not vendor.is_form:
        return json.dumps(message).encode()
    fields = {"payload": json.dumps(message)} if kind == "slack" else message
    if not isinstance(fields, dict):
        return json.dumps(fields).encode()
    return urlencode({name: str(value).encode("utf-8", "replace") for name, value in fields.items()}).encode()


def _hear(kind: str, what: str, query: dict[str, str], body: bytes) -> None:
    vendor, listener = VENDORS[kind], KINDS[kind]
    assert isinstance(listener, WebhookProvider)
    form = "application/x-www-form-urlencoded"
    bare = Callback(what, "POST", "https://tocsin.example.org/hooks/vendor/x", {"content-type": form}, query, body, AT)
    headers = {**bare.headers, **vendor.headers(bare)}
    signed = Callback(bare.endpoint, bare.method, bare.url, headers, bare.query, bare.body, bare.at)
    try:
        answer = listener.handle_webhook(vendor.account, signed, ProviderEventReceiver("Vendor", AT))
    except Rejected:
        # The page answers 400 or 404.
        return
    assert 200 <= answer.status < 600
    answer.body.encode()


def test_every_provider_that_is_called_back_is_tried_here() -> None:
    assert set(VENDORS) == {name for name, kind in KINDS.items() if isinstance(kind, WebhookProvider)}


@pytest.fixture
def people(now: datetime) -> None:
    """People at the addresses that the shapes name, so that what they say is done."""
    for name, method in (
        ("ann", {"label": "Chat", "channel": "chat", "address": "telegram:4711"}),
        ("bob", {"label": "Chat", "channel": "chat", "address": "slack:U012AB3CD"}),
        ("cat", {"label": "Phone", "channel": "sms", "address": "+41790000009"}),
    ):
        make_user(name, now, contact_methods=[method])


@pytest.mark.parametrize("kind", sorted(VENDORS))
def test_a_signed_callback_of_odd_types_breaks_nothing(kind: str, people: None) -> None:
    vendor = VENDORS[kind]

    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(vendor.shapes))
        for _ in range(data.draw(st.integers(0, 2))):
            body = _with(body, data.draw(st.sampled_from(_places(body))), data.draw(odd))
        what = data.draw(st.sampled_from((*vendor.what, "other")))
        query = QueryDict(data.draw(st.sampled_from(QUERIES))).dict()
        _hear(kind, what, query, _body(vendor, body, kind))

    run()


@pytest.mark.parametrize("query", QUERIES)
def test_signed_call_with_malformed_query_is_answered(query: bytes) -> None:
    settings = {"kind": "twilio", "account_sid": "AC1", "from_number": "+41440000001", "auth_token": "secret"}
    save_provider({"name": "Twilio", **settings}, actor=ACTOR, now=AT)
    raw, fields = query.decode("latin-1"), {"CallSid": "CA1", "To": "+41790000009"}
    path = RequestFactory().post("/hooks/twilio/voice", QUERY_STRING=raw).get_full_path()
    url = f"{environment.current().public_url}{path}"
    signature = RequestValidator("secret").compute_signature(url, fields)
    response = Client(headers={"x-twilio-signature": signature}).post(
        "/hooks/twilio/voice", urlencode(fields), "application/x-www-form-urlencoded", QUERY_STRING=raw, secure=True
    )
    assert response.status_code == 200


@pytest.mark.parametrize("kind", sorted(VENDORS))
@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"payload=%5B", b"null", b"\x00"]
)
def test_signed_callback_without_json_is_rejected_or_ignored(kind: str, body: bytes) -> None:
    if kind == "twilio" and body == b"\xff\xfe":
        pytest.skip("Twilio signs text only.")
    _hear(kind, "sms" if kind == "twilio" else VENDORS[kind].what[0], {}, body)
