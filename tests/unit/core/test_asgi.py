"""ASGI helpers: capped request bodies, the client address, and the scope given to Django."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tocsin import web_process
from tocsin.asgi import AsgiRouter, for_django
from tocsin.core.config import environment
from tocsin.core.net import asgi


def scope(headers: Iterable[tuple[bytes, bytes]] = (), peer: str = "127.0.0.1") -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/", "scheme": "http", "headers": [*headers], "client": (peer, 1)}


@pytest.fixture
def behind_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOCSIN_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8")
    monkeypatch.setenv("TOCSIN_BASE_URL", "https://tocsin.example.org")
    environment.read_again()
    yield
    monkeypatch.undo()
    environment.read_again()


def read(chunks: list[dict[str, Any]], headers: Iterable[tuple[bytes, bytes]] = ()) -> tuple[bytes, asgi.BodyReader]:
    bodies = asgi.BodyReader()
    remaining_rows = iter(chunks)

    async def receive() -> dict[str, Any]:
        return next(remaining_rows)

    return asyncio.run(bodies.read(scope(headers), receive)), bodies


def chunk(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_chunked_body_is_read_whole_and_counted_until_released() -> None:
    body, bodies = read([chunk(b"a" * 10, more=True), chunk(b"b" * 5)])
    assert body == b"a" * 10 + b"b" * 5
    assert bodies.in_flight == 15
    bodies.release(15)
    assert bodies.in_flight == 0


def test_oversized_body_is_rejected_by_declared_and_actual_size() -> None:
    with pytest.raises(asgi.BodyTooLarge):
        read([], [(b"content-length", str(asgi.MAX_BODY_BYTES + 1).encode())])
    piece = b"x" * (asgi.MAX_BODY_BYTES // 2 + 1)
    with pytest.raises(asgi.BodyTooLarge):
        read([chunk(piece, more=True), chunk(piece)])


def test_a_sender_that_leaves_in_the_middle_leaves_nothing_behind() -> None:
    bodies = asgi.BodyReader()
    remaining_rows = iter([chunk(b"abc", more=True), {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(remaining_rows)

    with pytest.raises(asgi.ClientDisconnected):
        asyncio.run(bodies.read(scope(), receive))
    assert bodies.in_flight == 0


def test_forwarding_headers_are_believed_from_trusted_proxies_only(behind_proxy: None) -> None:
    forwarded = [(b"x-forwarded-for", b"198.51.100.7, 203.0.113.9, 10.1.1.1")]
    assert asgi.client_address(scope(forwarded)) == "203.0.113.9"
    assert asgi.client_address(scope(forwarded, peer="192.0.2.1")) == "192.0.2.1"
    assert asgi.client_address(scope([(b"x-forwarded-for", b"garbage")])) == "127.0.0.1"


def test_sender_supplied_forwarding_headers_are_ignored_behind_configured_proxy(
    behind_proxy: None,
) -> None:
    """HAProxy's `option forwardfor` adds a second header behind the one that the sender made up."""
    forwarded = [(b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-for", b"203.0.113.9")]
    assert asgi.client_address(scope(forwarded)) == "203.0.113.9"
    data = for_django(scope([(b"x-forwarded-proto", b"http"), (b"x-forwarded-proto", b"https")]))
    assert [value for key, value in data["headers"] if key == b"x-tocsin-proto"] == [b"https"]


HERE = (b"host", b"localhost:8686")


def test_a_request_with_forwarding_headers_is_never_from_this_machine() -> None:
    assert asgi.is_loopback(scope([HERE]))
    for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"):
        assert not asgi.is_loopback(scope([HERE, (name, b"127.0.0.1")]))
    assert not asgi.is_loopback(scope([HERE], peer="192.0.2.1"))


@pytest.mark.parametrize("host", ["127.0.0.1:8686", "[::1]:8686", "localhost", "127.0.0.9"])
def test_loopback_request_names_loopback_as_host(host: str) -> None:
    assert asgi.is_loopback(scope([(b"host", host.encode())]))


@pytest.mark.parametrize("host", ["tocsin.example.org", "192.0.2.1", "", "[", "localhost.example.org"])
def test_request_for_another_host_is_not_loopback(host: str) -> None:
    assert not asgi.is_loopback(scope([(b"host", host.encode())]))
    assert not asgi.is_loopback(scope())


@pytest.mark.parametrize(
    ("name", "value", "is_open"),
    [
        ("TOCSIN_BASE_URL", "https://tocsin.example.org", False),
        ("TOCSIN_TRUSTED_PROXIES", "10.0.0.0/8", False),
        ("TOCSIN_BASE_URL", "http://localhost:8686", True),
    ],
)
def test_nothing_is_loopback_behind_a_public_address(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_open: bool
) -> None:
    """A proxy without forwarding headers calls from loopback, and names loopback as the host."""
    monkeypatch.setenv(name, value)
    environment.read_again()
    try:
        assert asgi.is_loopback(scope([HERE])) is is_open
    finally:
        monkeypatch.undo()
        environment.read_again()


def test_django_hears_the_public_host_whatever_the_request_says(behind_proxy: None) -> None:
    data = for_django(scope([(b"host", b"evil.example"), (b"x-forwarded-host", b"evil.example")]))
    headers = dict(data["headers"])
    assert headers[b"host"] == b"tocsin.example.org"
    assert not any(key.startswith(b"x-forwarded") for key in headers)


def test_only_the_http_server_sets_djangos_scheme(behind_proxy: None) -> None:
    data = for_django(scope([(b"x-tocsin-proto", b"http"), (b"x-forwarded-proto", b"https")]))
    assert [value for key, value in data["headers"] if key == b"x-tocsin-proto"] == [b"https"]


def test_header_with_underscore_never_matches_hyphenated_name() -> None:
    data = for_django(scope([(b"x_tocsin_proto", b"https"), (b"x_forwarded_for", b"192.0.2.1"), (b"accept", b"*/*")]))
    assert [key for key, _ in data["headers"]] == [b"accept", b"x-tocsin-proto"]


def test_a_client_that_takes_its_answer_slowly_holds_no_thread() -> None:
    """More clients that take nothing than there are threads; the next one is answered all the same."""

    def page(_environment: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"a piece"] * 100

    async def story() -> bytes:
        integration = web_process.wsgi_app(page)
        later = asyncio.Event()

        async def receive() -> dict[str, Any]:
            return chunk(b"")

        async def take_nothing(_message: Any) -> None:
            await later.wait()

        requests = {**scope([(b"content-length", b"0")]), "query_string": b"", "http_version": "1.1", "root_path": ""}
        stuck = [
            asyncio.create_task(integration(dict(requests), receive, take_nothing))
            for _ in range(2 * web_process.THREADS)
        ]
        accepted: list[bytes] = []

        async def take(message: Any) -> None:
            accepted.append(message.get("body", b""))

        await asyncio.sleep(0)  # each of them begins
        try:
            await asyncio.wait_for(integration(dict(requests), receive, take), 10)
        finally:
            later.set()
            await asyncio.gather(*stuck)
        return b"".join(accepted)

    assert asyncio.run(story()) == b"a piece" * 100


async def _nothing(scope: asgi.AsgiScope, receive: asgi.Receive, send: asgi.Send) -> None:
    raise AssertionError("This request goes no further")


@pytest.mark.parametrize(("length", "status", "code"), [(b"6000000", 413, "too_large"), (b"2000", 503, "busy")])
def test_early_api_rejections_use_the_api_error_format(length: bytes, status: int, code: str) -> None:
    integration = AsgiRouter(body_reader=asgi.BodyReader(max_in_flight=1000), probes=_nothing, web=_nothing)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("Nothing of it is read")

    requests = {**scope([(b"content-length", length)]), "path": "/api/v1/alerts"}
    asyncio.run(integration(requests, receive, send))
    body = json.loads(sent[1]["body"])
    assert (sent[0]["status"], body.keys(), body["error"]) == (status, {"error", "detail"}, code)


@pytest.mark.parametrize(
    ("method", "path", "headers", "is_counted"),
    [
        ("POST", "/v3/events", [], True),
        ("GET", "/v3/events", [], False),
        ("POST", "/api/v1/alerts/7/close", [], False),
        ("POST", "/alerts/7/close", [(b"cookie", b"a=b; tocsin_session=c")], False),
    ],
)
def test_posts_to_unknown_paths_are_counted(
    method: str, path: str, headers: list[tuple[bytes, bytes]], is_counted: bool
) -> None:
    async def not_found(scope: asgi.AsgiScope, receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.send_error(send, 404, "not_found", "")

    async def send(message: asgi.AsgiMessage) -> None:
        pass

    async def receive() -> asgi.AsgiMessage:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    counted: list[str] = []
    router = AsgiRouter(
        body_reader=asgi.BodyReader(), probes=_nothing, web=not_found,
        on_unknown_post=lambda request: counted.append(request["path"]),
    )  # fmt: skip
    asyncio.run(router({**scope(headers), "method": method, "path": path}, receive, send))
    assert counted == ([path] if is_counted else [])


def test_a_public_url_from_settings_leaves_other_hosts_usable() -> None:
    environment.use_settings({"base_url": "https://tocsin.example.org"})
    try:
        hosts = {}
        for host in (b"tocsin.example.org", b"10.0.0.5:8686"):
            data = for_django(scope([(b"host", host)]))
            hosts[dict(data["headers"])[b"host"]] = data["scheme"]
    finally:
        environment.use_settings({})
    assert hosts == {b"tocsin.example.org": "https", b"10.0.0.5:8686": "http"}
