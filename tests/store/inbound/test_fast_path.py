"""Messages on the fast path are answered and stored like those on the normal path."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest

from tests.support.ingest import halo, make_integration
from tests.support.integrations import InboundServer, inbound_server, path_of, rows
from tocsin.core.net.http_server import listen, make_server
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.inbound.webhook_endpoint import FastPath


@dataclass(frozen=True, slots=True)
class Both:
    """One node behind two servers: one with the short way, one without."""

    short: str
    ordinary: str
    node: InboundServer
    taken: list[bytes]


@pytest.fixture
def both(database: str) -> Iterator[Both]:
    accepted: list[bytes] = []

    class Watched(FastPath):
        def accept(self, handle: object, headers: Any, body: bytes, respond: Any) -> bool:
            is_taken = super().accept(handle, headers, body, respond)
            if is_taken:
                accepted.append(body)
            return is_taken

    with inbound_server() as node:
        short = Watched(node.registry, node.committer, node.bodies)
        urls, ends = [], []
        for whole in (short, None):
            ready = threading.Event()
            listener = listen("127.0.0.1", 0)
            server = make_server(
                node.app, graceful_timeout=1, on_ready=ready.set, on_exit=lambda: None, fast_path=whole
            )
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            assert ready.wait(10)
            urls.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
            ends.append((server, thread))
        yield Both(urls[0], urls[1], node, accepted)
        for server, thread in ends:
            server.should_exit = True
            thread.join(10)


def post(url: str, integration: Integration, content: bytes, **headers: str) -> httpx.Response:
    """Sends header and body at once, as senders do: in two pieces, the request would rightly go the ordinary way."""
    request = httpx.Request(
        "POST",
        url + path_of(integration),
        content=content,
        headers={"content-type": "application/json", "connection": "close", **headers},
    )
    lines = [f"POST {request.url.raw_path.decode()} HTTP/1.1", *(f"{k}: {v}" for k, v in request.headers.items())]
    with socket.create_connection((request.url.host, request.url.port or 80), timeout=20) as sent:
        sent.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        answer = HTTPResponse(sent, method="POST")
        answer.begin()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read(), request=request)


def stored(row: Any) -> dict[str, Any]:
    """What a row says, but for what is its own."""
    own = ("id", "received_at", "alert_id", "raw", "source_id", "subject", "key_hash")
    return {field.attname: getattr(row, field.attname) for field in row._meta.fields if field.attname not in own}


def test_fast_path_answers_and_stores_like_the_normal_path(both: Both) -> None:
    integration = make_integration()
    both.node.registry.refresh()
    bodies = [json.dumps(halo(number)).encode() for number in (1, 2)]
    answers = [
        post(url, integration, body, **{"User-Agent": "halo", "X-Secret": "no"})
        for url, body in zip((both.short, both.ordinary), bodies, strict=True)
    ]
    assert both.taken == bodies[:1]
    short, ordinary = answers
    assert short.status_code == ordinary.status_code == 200
    assert {**short.json(), "message_id": "", "alert_id": 0} == {**ordinary.json(), "message_id": "", "alert_id": 0}
    assert short.headers["content-type"] == ordinary.headers["content-type"]
    first, second = rows()
    assert [bytes(row.raw) for row in (first, second)] == bodies
    assert stored(first) == stored(second)
    assert first.headers["user-agent"] == "halo"
    assert (str(first.id), first.alert_id) == (short.json()["message_id"], short.json()["alert_id"])


@pytest.mark.parametrize(
    "body",
    [b"[]", b'[{"id": 1}, {"id": 2}]', b"{broken", b"", b"\xff\xfe", b'"text"'],
    ids=["empty array", "array", "broken", "empty", "no text", "no object"],
)
def test_unreadable_or_multiple_messages_are_answered_like_on_normal_path(both: Both, body: bytes) -> None:
    integration = make_integration(kind="api")
    both.node.registry.refresh()
    short, ordinary = (post(url, integration, body) for url in (both.short, both.ordinary))
    assert both.taken == [body]
    assert short.status_code == ordinary.status_code
    assert short.json().keys() == ordinary.json().keys()
    kept = [(bytes(row.raw), row.content_type, row.headers) for row in rows()]
    assert kept[: len(kept) // 2] == kept[len(kept) // 2 :]


def test_compressed_body_uses_the_normal_path(both: Both) -> None:
    integration = make_integration(kind="api")
    both.node.registry.refresh()
    reply = post(both.short, integration, gzip.compress(b'{"id": 1}'), **{"Content-Encoding": "gzip"})
    assert (both.taken, reply.json()["status"]) == ([], "Mapped Opened")


def test_authenticated_sender_uses_the_normal_path(both: Both) -> None:
    integration = make_integration()
    secrets.put_credentials(integration, {"header": {"name": "X-Key", "value": "a good secret"}})
    integration.save()
    both.node.registry.refresh()
    body = json.dumps(halo()).encode()
    assert post(both.short, integration, body).status_code == 401
    assert post(both.short, integration, body, **{"X-Key": "a good secret"}).status_code == 200
    assert both.taken == []


def test_unknown_token_matches_no_integration(both: Both) -> None:
    answer = httpx.post(f"{both.short}/in/{'0' * 32}", content=b"{}")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_token")


def test_a_committer_that_takes_nothing_more_says_come_again(both: Both) -> None:
    integration = make_integration()
    both.node.registry.refresh()
    both.node.committer.stop(10)
    answer = post(both.short, integration, json.dumps(halo()).encode())
    assert (answer.status_code, answer.json()["error"]) == (503, "not_stored")
    assert "retry-after" in answer.headers
    assert both.node.bodies.in_flight == 0
