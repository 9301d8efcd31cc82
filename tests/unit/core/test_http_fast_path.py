"""The fast path of the HTTP server: which requests use it, and in which order responses leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tocsin.core.net import http_server
from tocsin.core.net.asgi import SendResponse
from tocsin.core.net.http_server import MAX_FAST_PATH_BYTES, MAX_PIPELINED_RESPONSES, HttpServer, listen, make_server


@dataclass
class Counter:
    """Takes POSTs to `/short…`, but bodies that say so, and answers when the test says so."""

    taken: list[bytes] = field(default_factory=list)
    answers: list[SendResponse] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)
    loop: asyncio.AbstractEventLoop | None = None

    def find_handle(self, target: bytes) -> object | None:
        return target if target.startswith(b"/short") else None

    def accept(self, handle: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: SendResponse) -> bool:
        if body.startswith(b"not this"):
            return False
        with self.came:
            self.loop = asyncio.get_running_loop()
            self.taken.append(body)
            self.answers.append(answer)
            self.came.notify_all()
        return True

    def wait_for(self, number: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.taken) >= number, 10)

    def answer(self, index: int, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(lambda: self.answers[index](status, b"answer to " + self.taken[index], *headers))


@dataclass(frozen=True, slots=True)
class Listening:
    connect: Callable[[], socket.socket]
    counter: Counter
    #: The bodies that the app read.
    heard: list[bytes]
    server: HttpServer


@pytest.fixture
def listening() -> Iterator[Listening]:
    received: list[bytes] = []
    ready = threading.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        received.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"from app"})

    counter = Counter()
    listener = listen("127.0.0.1", 0)
    server = make_server(app, graceful_timeout=5, on_ready=ready.set, on_exit=lambda: None, fast_path=counter)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert ready.wait(10)
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=10))
        return opened[-1]

    yield Listening(connect, counter, received, server)
    for connection in opened:
        connection.close()
    server.should_exit = True
    thread.join(10)


def request(body: bytes, *headers: bytes, target: bytes = b"/short") -> bytes:
    lines = [b"POST %b HTTP/1.1" % target, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def until(connection: socket.socket, ending: bytes) -> bytes:
    """What comes, up to and with `ending`."""
    got = b""
    while not got.endswith(ending):
        part = connection.recv(65_536)
        assert part, f"closed after {got!r}"
        got += part
    return got


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_complete_requests_are_answered_without_the_app(listening: Listening) -> None:
    connection = listening.connect()
    for number in range(3):
        connection.sendall(request(b"%d" % number))
        listening.counter.wait_for(number + 1)
        listening.counter.answer(number, 202, (b"retry-after", b"5"))
        got = until(connection, b"answer to %d" % number)
        assert got.startswith(b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 11\r\n")
        assert b"retry-after: 5\r\n" in got
    assert listening.heard == []


def test_answers_leave_in_the_order_of_their_requests(listening: Listening) -> None:
    connection = listening.connect()
    connection.sendall(request(b"first") + request(b"second") + request(b"third"))
    listening.counter.wait_for(3)
    for index in (2, 1, 0):
        listening.counter.answer(index)
    got = until(connection, b"answer to third")
    assert got.index(b"answer to first") < got.index(b"answer to second") < got.index(b"answer to third")


def test_client_that_reads_no_responses_is_throttled_without_loss(listening: Listening) -> None:
    connection = listening.connect()
    number = 3 * MAX_PIPELINED_RESPONSES
    for index in range(number):
        connection.sendall(request(b"%03d" % index))
    for index in range(number):
        listening.counter.wait_for(index + 1)
        listening.counter.answer(index)
    until(connection, b"answer to %03d" % (number - 1))
    assert listening.counter.taken == [b"%03d" % index for index in range(number)]


def read_between(listening: Listening) -> None:
    """Returns when the server has read what was sent before: it has answered another connection since."""
    other = listening.connect()
    other.sendall(request(b"between", target=b"/long"))
    until(other, b"from app")
    listening.heard.clear()


def test_small_chunked_body_is_accepted_when_complete(listening: Listening) -> None:
    connection = listening.connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(2):
        head, _, body = request(b"in %d pieces" % number).partition(b"\r\n\r\n")
        for piece in (head[:20], head[20:] + b"\r\n\r\n", body[:4], body[4:]):
            assert len(listening.counter.taken) == number
            connection.sendall(piece)
            read_between(listening)
        listening.counter.wait_for(number + 1)
        listening.counter.answer(number)
        until(connection, b"answer to in %d pieces" % number)
    assert listening.heard == []


def test_slow_remaining_body_is_handled_by_the_normal_path(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "FAST_PATH_BODY_TIMEOUT", 0.0)
    connection = listening.connect()
    connection.sendall(request(b"two pieces")[:-6])
    read_between(listening)
    read_between(listening)
    connection.sendall(b"pieces" + request(b"behind"))
    got = until(connection, b"from app")
    if got.count(b"from app") == 1:
        until(connection, b"from app")
    assert sorted(listening.heard) == [b"behind", b"two pieces"]
    assert listening.counter.taken == []


def test_disconnect_during_body_leaves_nothing_behind(listening: Listening) -> None:
    connection = listening.connect()
    connection.sendall(request(b"two pieces")[:-6])
    read_between(listening)
    connection.close()
    read_between(listening)
    assert (listening.heard, listening.counter.taken) == ([], [])


@pytest.mark.parametrize(
    "sent",
    [
        (request(b"x" * (MAX_FAST_PATH_BYTES + 1))[:-6], b"x" * 6),
        (request(b"elsewhere", target=b"/long"),),
        (request(b"not this one"),),
        (request(b"carefully", b"Expect: 100-continue"),),
        (request(b"old").replace(b"HTTP/1.1", b"HTTP/1.0"),),
    ],
    ids=["large and in two pieces", "not wanted", "not taken", "asks first", "of HTTP/1.0"],
)
def test_unusual_requests_use_the_normal_path_completely(listening: Listening, sent: tuple[bytes, ...]) -> None:
    connection = listening.connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for index, piece in enumerate(sent):
        if index:
            read_between(listening)
        connection.sendall(piece)
    until(connection, b"from app")
    assert listening.heard == [b"".join(sent).partition(b"\r\n\r\n")[2]]
    assert listening.counter.taken == []


def test_fast_request_waits_behind_a_normal_one(listening: Listening) -> None:
    connection = listening.connect()
    connection.sendall(request(b"ordinary", target=b"/long") + request(b"behind"))
    got = until(connection, b"from app")
    if got.count(b"from app") == 1:
        until(connection, b"from app")
    assert sorted(listening.heard) == [b"behind", b"ordinary"]


def test_normal_request_behind_unanswered_one_must_be_resent(listening: Listening) -> None:
    connection = listening.connect()
    connection.sendall(request(b"first") + request(b"ordinary", target=b"/long") + request(b"third"))
    listening.counter.wait_for(1)
    listening.counter.answer(0)
    assert rest(connection).endswith(b"answer to first")
    assert (listening.heard, listening.counter.taken) == ([], [b"first"])


def test_connection_close_is_honoured_after_the_response(listening: Listening) -> None:
    connection = listening.connect()
    connection.sendall(request(b"last", b"Connection: close"))
    listening.counter.wait_for(1)
    listening.counter.answer(0)
    got = rest(connection)
    assert b"connection: close\r\n" in got
    assert got.endswith(b"answer to last")


def test_stopping_server_answers_accepted_requests(listening: Listening) -> None:
    connection = listening.connect()
    connection.sendall(request(b"taken"))
    listening.counter.wait_for(1)
    listening.server.should_exit = True
    listening.counter.answer(0)
    assert rest(connection).endswith(b"answer to taken")


def test_response_to_disconnected_client_is_harmless(listening: Listening) -> None:
    server = listening.connect()
    server.sendall(request(b"gone"))
    listening.counter.wait_for(1)
    server.close()
    other = listening.connect()
    other.sendall(request(b"there"))
    listening.counter.wait_for(2)
    listening.counter.answer(0)
    listening.counter.answer(1)
    until(other, b"answer to there")
