"""The proxy to the web process: forwarded requests, and responses when the process ends."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tocsin.core.net.asgi import AsgiMessage
from tocsin.web_process import WebProcessProxy, wsgi_app

#: As uvicorn has read it, and the front door has described it.
ASKED = {
    "type": "http", "http_version": "1.1", "method": "POST", "path": "/a b/", "raw_path": b"/a%20b/",
    "query_string": b"x=1&y=%C3%A9", "root_path": "", "scheme": "https", "client": ("192.0.2.7", 4711),
    "headers": [
        (b"host", b"tocsin.example.org"), (b"x-tocsin-proto", b"https"), (b"connection", b"close"),
        (b"expect", b"100-continue"), (b"transfer-encoding", b"chunked"), (b"cookie", b"a=1"), (b"cookie", b"b=2"),
    ],
}  # fmt: skip


@pytest.fixture
def pages() -> Iterator[WebProcessProxy]:
    """The way, to whatever listens at its socket."""
    method = WebProcessProxy("postgresql:///none")
    method._process.ready.set()
    yield method
    method.stop()


def ask(pages: WebProcessProxy, answering: Any, **more: object) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Has `answering(reader, writer)` serve the socket, and asks once."""

    async def story() -> list[AsgiMessage]:
        server = await asyncio.start_unix_server(answering, sock=pages._process._socket.dup())
        sent: list[AsgiMessage] = []

        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": b"the body", "more_body": False}

        async def send(message: AsgiMessage) -> None:
            sent.append(message)

        async with server:
            await pages({**ASKED, **more}, receive, send)
            await pages._pool.aclose()
        return sent

    start, *parts = asyncio.run(story())
    return start["status"], b"".join(part["body"] for part in parts), start["headers"]


def test_request_reaches_web_process_as_received_by_the_node(pages: WebProcessProxy) -> None:
    received: list[bytes] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"the body"))
        writer.write(
            b"HTTP/1.1 201 Created\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        writer.write(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        await writer.drain()

    status, body, headers = ask(pages, answering)
    assert (status, body) == (201, b"abcdef")
    assert headers == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    line, *lines = received[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert line == b"POST /a%20b/?x=1&y=%C3%A9 HTTP/1.1"
    assert sorted(lines) == [
        b"content-length: 8", b"cookie: a=1", b"cookie: b=2", b"host: tocsin.example.org",
        b"x-tocsin-address: 192.0.2.7 4711", b"x-tocsin-proto: https",
    ]  # fmt: skip


@pytest.mark.parametrize(("method", "tries"), [("POST", 1), ("GET", 2)])
def test_only_safe_requests_are_retried_and_never_repeated_otherwise(
    pages: WebProcessProxy, method: str, tries: int
) -> None:
    received: list[bytes] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    status, body, _ = ask(pages, answering, method=method)
    assert (status, msgspec.json.decode(body)["error"]) == (502, "interrupted")
    assert len(received) == tries


def test_header_rejected_by_web_process_is_a_client_error(pages: WebProcessProxy) -> None:
    async def answering(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nothing is to be sent")

    status, body, _ = ask(pages, answering, headers=[(b"host", b"x"), (b"x-odd", b"a\x00b")])
    assert (status, msgspec.json.decode(body)["error"]) == (400, "invalid")


def test_django_receives_client_address_and_scheme() -> None:
    data: dict[str, Any] = {}

    def page(environment: dict[str, Any], start_response: Any) -> list[bytes]:
        data.update(environment)
        start_response("200 OK", [])
        return [b""]

    async def story(headers: list[tuple[bytes, bytes]]) -> None:
        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: AsgiMessage) -> None:
            return None

        await wsgi_app(page)({**ASKED, "client": None, "scheme": "http", "headers": headers}, receive, send)

    asyncio.run(story([(b"x-tocsin-address", b"2001:db8::7 4711"), (b"x-tocsin-proto", b"https")]))
    assert (data["REMOTE_ADDR"], data["REMOTE_PORT"], data["wsgi.url_scheme"]) == ("2001:db8::7", "4711", "https")
    assert "HTTP_X_TOCSIN_ADDRESS" not in data
    data.clear()
    asyncio.run(story([]))
    assert "REMOTE_ADDR" not in data


def test_process_of_dead_parent_ends_quietly_before_startup() -> None:
    command = [sys.executable, "-m", "tocsin.web_process"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def _killed(place: Path, name: str) -> Path:
    """The folder of a node that was killed: its socket is there, and nobody listens."""
    folder = place / name
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
    return folder


def test_starting_node_removes_only_leftovers_of_killed_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as made:
        place = Path(made)
        monkeypatch.setattr(tempfile, "tempdir", made)
        living = WebProcessProxy("postgresql:///none")
        dead = [_killed(place, f"tocsin-web_process-{number}") for number in range(3)]
        beginning = place / "tocsin-web_process-beginning"
        beginning.mkdir()
        (beginning / "begun").touch()
        used = _killed(place, "tocsin-web_process-used")
        (used / "notes.txt").write_text("somebody's own")
        elsewhere = _killed(place, "elsewhere")
        (place / "tocsin-web_process-link").symlink_to(elsewhere)
        (place / "tocsin-web_process-file").touch()
        another = WebProcessProxy("postgresql:///none")
        assert not any(folder.exists() for folder in dead)
        for path in (beginning, used / "notes.txt", elsewhere / "socket", place / "tocsin-web_process-file"):
            assert path.exists()
        for node in (living, another):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(node._process.path)
            node.stop()
        assert not Path(living._process.path).parent.exists()
        # Another user's are nobody's but theirs.
        theirs = _killed(place, "tocsin-web_process-theirs")
        with monkeypatch.context() as as_somebody:
            as_somebody.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
            WebProcessProxy("postgresql:///none").stop()
        assert (theirs / "socket").exists()
