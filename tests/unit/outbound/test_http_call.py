"""A templated HTTP call and its token, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tocsin.core.errors import Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.outbound.connectors.http import HTTP
from tocsin.outbound.connectors.interfaces import CallJob, IntegrationAccount, IntegrationSender, RecordedClient
from tocsin.outbound.reasons import ANSWERED

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def _sender(server: object) -> IntegrationSender:
    url = "https://93.184.216.34"
    settings = {"url": url, "auth": "oauth2", "token_url": f"{url}/token"}
    return HTTP.open_sender(
        IntegrationAccount(1, "Desk", settings, {"client_secret": "secret"}), cast(HttpClient, server)
    )


def _line(server: object) -> RecordedClient:
    return RecordedClient(cast(HttpClient, server), lambda: NOW)


class _Renewing:
    """A server whose first token ended early, and in which every new token ends those before it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.while_refusing: Callable[[], object] = lambda: None

    def request(self, method: str, url: str, *, headers: Mapping[str, str], **_: Any) -> EgressResponse:
        if url.endswith("/token"):
            self.tokens += 1
            return EgressResponse(
                200, {}, json.dumps({"access_token": f"token {self.tokens}", "expires_in": 3600}).encode()
            )
        if headers["Authorization"] == "Bearer token 1":
            self.while_refusing()
            return EgressResponse(401, {}, b"")
        return EgressResponse(200 if headers["Authorization"] == f"Bearer token {self.tokens}" else 401, {}, b"{}")


def test_html_page_instead_of_token_is_retried() -> None:
    class Page:
        def request(self, method: str, url: str, **_: Any) -> EgressResponse:
            return EgressResponse(200, {"content-type": "text/html"}, b"<html><title>Closed</title></html>")

    with pytest.raises(Temporary, match="answered 200 without a token"):
        _sender(Page()).verify(_line(Page()), NOW)


def test_token_renewed_by_another_thread_is_kept() -> None:
    server = _Renewing()
    sender = _sender(server)

    def send() -> str:
        return sender.send(CallJob(1, 1, 7, "alert:7", "call", "", {}, 0, False, NOW), _line(server), NOW).result

    def meanwhile() -> None:
        server.while_refusing = lambda: None
        assert send() == ANSWERED(status=200)

    server.while_refusing = meanwhile
    assert send() == ANSWERED(status=200)
    assert server.tokens == 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", b'{"t": "<a href=\\"x\\"> & \\u0007\xe2\x98\x8e"}'),
        ("text/xml; charset=utf-8", b'{"t": "&lt;a href=&quot;x&quot;&gt; &amp; \xe2\x98\x8e"}'),
        ("text/plain", b'{"t": "<a href="x"> & \x07\xe2\x98\x8e"}'),
    ],
)
def test_value_is_escaped_for_its_body_type(kind: str, expected: bytes) -> None:
    bodies: list[bytes] = []

    class Server:
        def request(self, method: str, url: str, *, content: bytes, **_: Any) -> EgressResponse:
            bodies.append(content)
            return EgressResponse(200, {}, b"{}")

    server = Server()
    settings = {"url": "https://93.184.216.34", "headers": {"Content-Type": kind}, "body": '{"t": "<subject>"}'}
    sender = HTTP.open_sender(IntegrationAccount(1, "Desk", settings, {}), cast(HttpClient, server))
    line = _line(server)
    content = {"values": {"subject": '<a href="x"> & \a☎'}}
    sender.send(CallJob(1, 1, 7, "alert:7", "call", "", content, 0, False, NOW), line, NOW)
    assert bodies == [expected]
