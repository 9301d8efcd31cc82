"""A correctly signed callback with odd values is answered or rejected, never a server error."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from django.http import QueryDict
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from tests.support.people import ACTOR
from tests.support.vendor_callbacks import AT, VENDORS, body_of, handle_signed, make_people
from tocsin.core.config import environment
from tocsin.notify.interfaces import WebhookProvider
from tocsin.notify.providers.commands import save_provider
from tocsin.notify.providers.pool import KINDS

pytestmark = pytest.mark.usefixtures("database")

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


def test_every_provider_that_is_called_back_is_tried_here() -> None:
    assert set(VENDORS) == {name for name, kind in KINDS.items() if isinstance(kind, WebhookProvider)}


@pytest.fixture
def people(now: datetime) -> None:
    make_people(now)


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
        handle_signed(kind, what, query, body_of(kind, body))

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
    handle_signed(kind, "sms" if kind == "twilio" else VENDORS[kind].what[0], {}, body)
