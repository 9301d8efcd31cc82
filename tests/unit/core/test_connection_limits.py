"""The HTTP server at its connection limit: idle connections are closed and no sender is rejected for others."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.http_server import is_closed, limits, read_answer, serving
from tocsin.asgi import AsgiRouter
from tocsin.core.config import environment
from tocsin.core.net import http_server
from tocsin.core.net.asgi import BodyReader, ClientDisconnected, ClientLimit, OverCapacity, send_error

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer_at_once(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class HeldRequests:
    """Requests for `/held` are answered once the test says so."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.release = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/held":
            self.arrived.release()
            await asyncio.to_thread(self.release.wait, 20)
        await answer_at_once(scope, receive, send)


def held_request(forwarded: bytes = b"") -> bytes:
    more = b"X-Forwarded-For: %b\r\n" % forwarded if forwarded else b""
    return b"GET /held HTTP/1.1\r\nHost: x\r\n%b\r\n" % more


@pytest.fixture
def trusted_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOCSIN_TRUSTED_PROXIES", "127.0.0.1")
    environment.read_again()
    yield
    monkeypatch.undo()
    environment.read_again()


def open_idle(connect: Callable[[], socket.socket], count: int) -> list[socket.socket]:
    """Connections that are known to be registered, as each was answered once."""
    opened = []
    for _ in range(count):
        opened.append(connect())
        opened[-1].sendall(GET)
        assert read_answer(opened[-1]).startswith(b"HTTP/1.1 200 ")
    return opened


def test_silent_connections_do_not_shut_out_a_sender() -> None:
    with serving(answer_at_once, limits=limits(total=100)) as connect:
        silent = [connect() for _ in range(300)]
        sender = connect()
        sender.sendall(GET)
        assert read_answer(sender).startswith(b"HTTP/1.1 200 ")
        assert is_closed(silent[0])


def test_kept_alive_connections_do_not_shut_out_a_sender() -> None:
    with serving(answer_at_once, limits=limits(total=50)) as connect:
        oldest, *_others, newest = open_idle(connect, 50)
        (sender,) = open_idle(connect, 1)
        assert is_closed(oldest)
        for connection in (newest, sender):
            connection.sendall(GET)
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_half_sent_headers_do_not_shut_out_a_sender() -> None:
    with serving(answer_at_once, limits=limits(total=50)) as connect:
        for connection in open_idle(connect, 50):
            connection.sendall(b"POST / HT")
        assert open_idle(connect, 1)


def test_a_request_in_progress_is_never_closed_for_room() -> None:
    app = HeldRequests()
    with serving(app, limits=limits(total=10)) as connect:
        working = connect()
        working.sendall(held_request())
        assert app.arrived.acquire(timeout=10)
        open_idle(connect, 30)
        app.release.set()
        assert read_answer(working).startswith(b"HTTP/1.1 200 ")


def test_a_new_connection_is_closed_where_all_are_busy() -> None:
    app = HeldRequests()
    with serving(app, limits=limits(total=5)) as connect:
        working = [connect() for _ in range(5)]
        for connection in working:
            connection.sendall(held_request())
            assert app.arrived.acquire(timeout=10)
        assert is_closed(connect())
        app.release.set()
        assert all(read_answer(connection).startswith(b"HTTP/1.1 200 ") for connection in working)


def test_idle_connections_are_limited_per_client() -> None:
    with serving(answer_at_once, limits=limits(idle=10)) as connect:
        opened = open_idle(connect, 12)
        assert is_closed(opened[0])
        assert is_closed(opened[1])
        opened[2].sendall(GET)
        assert read_answer(opened[2]).startswith(b"HTTP/1.1 200 ")


def test_client_exceeding_concurrent_requests_gets_an_error() -> None:
    app = HeldRequests()
    with serving(app, limits=limits(busy=3)) as connect:
        working = [connect() for _ in range(3)]
        for connection in working:
            connection.sendall(held_request())
            assert app.arrived.acquire(timeout=10)
        late = connect()
        late.sendall(GET)
        answer = read_answer(late)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in answer
        app.release.set()
        assert all(read_answer(connection).startswith(b"HTTP/1.1 200 ") for connection in working)


@pytest.mark.usefixtures("trusted_proxy")
def test_behind_a_proxy_requests_are_counted_by_forwarded_address() -> None:
    app = HeldRequests()
    with serving(app, limits=limits(busy=3)) as connect:
        for _ in range(3):
            connect().sendall(held_request(b"192.0.2.1"))
            assert app.arrived.acquire(timeout=10)
        same, other = connect(), connect()
        same.sendall(held_request(b"192.0.2.1"))
        assert read_answer(same).startswith(b"HTTP/1.1 503 ")
        other.sendall(held_request(b"192.0.2.2"))
        assert app.arrived.acquire(timeout=10)
        app.release.set()
        assert read_answer(other).startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("trusted_proxy")
def test_trusted_proxy_has_no_idle_connection_limit() -> None:
    with serving(answer_at_once, limits=limits(idle=5)) as connect:
        for connection in open_idle(connect, 30):
            connection.sendall(GET)
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_idle_connections_are_closed_before_descriptors_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer_at_once) as connect:
        opened = open_idle(connect, 5)
        # As if the next descriptor were one of the reserve, which is half of so few.
        monkeypatch.setattr(http_server, "_soft_limit", 2 * opened[-1].fileno())
        open_idle(connect, 1)
        assert is_closed(opened[0])


def test_an_idle_connection_expires_after_a_stray_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "KEEP_ALIVE_SECONDS", 1)
    with serving(answer_at_once) as connect:
        (connection,) = open_idle(connect, 1)
        connection.sendall(b"\r\n")
        assert is_closed(connection)


def test_senders_that_never_finish_a_body_are_limited_by_address() -> None:
    bodies = BodyReader(read_limit=ClientLimit(per_client=3, total=100))

    async def read(scope: Any, receive: Any, send: Any) -> None:
        try:
            bodies.release(len(await bodies.read(scope, receive)))
        except OverCapacity:
            await send_error(send, 503, "busy", "Try again.")
        except ClientDisconnected:
            return
        else:
            await answer_at_once(scope, receive, send)

    with serving(read) as connect:
        servers = [connect() for _ in range(4)]
        for connection in servers:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n1")
        answers, _, _ = select.select(servers, [], [], 5)
        assert [read_answer(one)[:13] for one in answers] == [b"HTTP/1.1 503 "]
        for connection in servers:
            if connection not in answers:
                connection.sendall(b"23")
                assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [b"/", b"/live"])
def test_pages_and_streams_in_progress_are_limited_by_address(path: bytes) -> None:
    app = HeldRequests()

    async def held_page(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": "/held"}, receive, send)

    limit = ClientLimit(per_client=2, total=100)
    integration = AsgiRouter(
        body_reader=BodyReader(),
        probes=answer_at_once,
        web=held_page,
        live=held_page,
        web_limit=limit,
        stream_limit=limit,
    )
    request = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path
    with serving(integration) as connect:
        working = [connect() for _ in range(2)]
        for connection in working:
            connection.sendall(request)
            assert app.arrived.acquire(timeout=10)
        late = connect()
        late.sendall(request)
        assert read_answer(late).startswith(b"HTTP/1.1 503 ")
        late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(late).startswith(b"HTTP/1.1 200 ")
        app.release.set()
        assert all(read_answer(connection).startswith(b"HTTP/1.1 200 ") for connection in working)
