"""The listening HTTP server: what one client cannot do with one connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tocsin.core.net import http_server
from tocsin.core.net.http_server import MAX_HEADER_BYTES, listen, make_server

#: More than any socket buffer of a machine holds.
LARGE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listening:
    """A server, and the headers of each request once its body was read whole."""

    connect: Callable[[], socket.socket]
    heard: list[list[tuple[bytes, bytes]]]
    #: Set when an answer was sent, or its client was cut off.
    answered: threading.Event


@pytest.fixture
def server() -> Iterator[Listening]:
    receiveds: list[list[tuple[bytes, bytes]]] = []
    ready, answered = threading.Event(), threading.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body", False):
            pass
        receiveds.append(list(scope["headers"]))
        body = b"x" * LARGE if scope["path"] == "/large" else b"ok"
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        answered.set()

    listener = listen("127.0.0.1", 0)
    made = make_server(app, graceful_timeout=1, on_ready=ready.set, on_exit=lambda: None)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert ready.wait(10)
    port = listener.getsockname()[1]

    def connect() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        opened.append(connection)
        return connection

    opened: list[socket.socket] = []
    yield Listening(connect, receiveds, answered)
    for connection in opened:
        connection.close()
    made.should_exit = True
    thread.join(10)


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize("line", [b"X-Long: %s\r\n" % (b"a" * 4_000), b"a" * 4_000], ids=["many headers", "one header"])
def test_endless_header_is_rejected_before_filling_memory(server: Listening, line: bytes) -> None:
    connection = server.connect()
    sent = 0
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-First: ")
        while sent < 100 * MAX_HEADER_BYTES:
            connection.sendall(line)
            sent += len(line)
    except (ConnectionResetError, BrokenPipeError):
        pass
    assert sent < 100 * MAX_HEADER_BYTES
    assert server.heard == []


def test_sender_of_too_long_header_gets_an_error(server: Listening) -> None:
    connection = server.connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (MAX_HEADER_BYTES + 1))
    assert answer_of(connection).startswith(b"HTTP/1.1 431 ")


def test_normal_sized_header_is_accepted_repeatedly(server: Listening) -> None:
    connection = server.connect()
    request = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * (MAX_HEADER_BYTES // 2) + b"\r\n"
    for _ in range(5):
        connection.sendall(request)
        connection.sendall(b"\r\n")
        answer = connection.recv(65_536)
        while not answer.endswith(b"\r\n\r\nok"):  # the body may come by itself
            answer += connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(server.heard) == 5


def test_trailers_are_not_merged_into_request_headers(server: Listening) -> None:
    connection = server.connect()
    connection.sendall(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nAuthorization: Bearer late\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
    )
    assert answer_of(connection).startswith(b"HTTP/1.1 200 ")
    assert [name for name, _ in server.heard[0]] == [b"host", b"connection", b"transfer-encoding"]


def test_client_reading_no_response_is_disconnected(server: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "STALL_DEADLINE", 0.2)
    connection = server.connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert server.answered.wait(10), "whoever sent it is free again"
    assert len(answer_of(connection)) < LARGE


def test_slow_reading_client_gets_the_full_response(server: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "STALL_DEADLINE", 5.0)
    connection = server.connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert len(answer_of(connection)) > LARGE
