"""A response sent during an upload: the sender reads it and cannot continue forever."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from tests.support.http_server import is_closed, read_answer, serving
from tocsin.core.net import http_server
from tocsin.core.net.asgi import MAX_BODY_BYTES, BodyReader, BodyTooLarge, send_error

#: More than the sockets' buffers hold.
LARGE = 16 * 1024 * 1024
assert LARGE > MAX_BODY_BYTES


class Refusing:
    """Refuses what is too large, and every request with a path of digits with that status, before it was read."""

    def __init__(self) -> None:
        self.bodies = BodyReader()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (status := scope["path"].lstrip("/")).isdigit():
            await send_error(send, int(status), "refused", "No.")
            return
        try:
            self.bodies.release(len(await self.bodies.read(scope, receive)))
        except BodyTooLarge:
            await send_error(send, 413, "too_large", "A body has at most 5 MiB.", headers=((b"connection", b"close"),))
        else:
            await send_error(send, 200, "taken", "Yes.")


def post(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def send_on(connection: socket.socket) -> None:
    for _ in range(6):
        connection.sendall(b"x" * LARGE)


def test_a_sender_of_a_large_body_reads_the_413() -> None:
    with serving(Refusing()) as connect:
        connection = connect()
        connection.sendall(post("/", f"Content-Length: {LARGE}"))
        connection.sendall(b"x" * LARGE)
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        assert is_closed(connection)


def test_a_sender_of_large_chunks_reads_the_413() -> None:
    with serving(Refusing()) as connect:
        connection = connect()
        connection.sendall(post("/", "Transfer-Encoding: chunked"))
        for _ in range(LARGE // 65_536):
            connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_before_the_body_was_read_reaches_the_sender(status: int) -> None:
    with serving(Refusing()) as connect:
        connection = connect()
        for _ in range(2):
            connection.sendall(post(f"/{status}", f"Content-Length: {LARGE}"))
            connection.sendall(b"x" * LARGE)
            assert read_answer(connection).startswith(b"HTTP/1.1 %d " % status)
        connection.sendall(post("/", "Content-Length: 2") + b"ok")
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/", "/401"])
def test_a_refused_sender_cannot_go_on_without_end(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_DISCARDED_BYTES", 2 * LARGE)
    with serving(Refusing()) as connect:
        connection = connect()
        connection.sendall(post(path, f"Content-Length: {100 * LARGE}"))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(connection)


@pytest.mark.parametrize("path", ["/", "/401"])
def test_a_refused_sender_that_stops_is_closed_after_a_while(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.2)
    with serving(Refusing()) as connect:
        connection = connect()
        connection.sendall(post(path, f"Content-Length: {LARGE}") + b"x")
        assert read_answer(connection)
        assert is_closed(connection)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(connection)


def test_a_request_behind_a_refused_one_is_not_read() -> None:
    seen: list[str] = []
    refusing = Refusing()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await refusing(scope, receive, send)

    with serving(app) as connect:
        connection = connect()
        connection.sendall(post("/", f"Content-Length: {LARGE}"))
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"x" * LARGE + post("/second", "Content-Length: 0"))
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)
    assert seen == ["/"]


def test_a_sender_that_left_is_forgotten() -> None:
    event = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Refusing()(scope, receive, send)
        event.set()

    with serving(app) as connect:
        connection = connect()
        connection.sendall(post("/", f"Content-Length: {LARGE}") + b"x")
        connection.close()
        assert event.wait(10)
        again = connect()
        again.sendall(post("/401", "Content-Length: 0"))
        assert read_answer(again).startswith(b"HTTP/1.1 401 ")
