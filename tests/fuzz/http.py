"""The HTTP server on one end of a pair of sockets, without a network and without waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from tests.fuzz.inputs import Input
from tocsin.core.net.asgi import SendResponse
from tocsin.core.net.http_server import ConnectionLimits, ConnectionTable, FastPathProtocol

_POST = b"POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
_GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

_MAX_IDLE_TURNS = 6


@dataclass
class _Heard:
    """Takes POSTs to `/short`, and answers them and all others at once."""

    requests: list[tuple[str, bytes]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def find_handle(self, target: bytes) -> object | None:
        return target if target.startswith(b"/short") else None

    def accept(self, handle: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: SendResponse) -> bool:
        self.requests.append(("POST", body))
        answer(200, b"{}")
        return True

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.requests.append((scope["method"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})


async def _exchange(pieces: Sequence[bytes]) -> tuple[_Heard, bytes]:
    """What the server understood, and all that it answered."""
    heard, loop = _Heard(), asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: heard.errors.append(context))
    config = uvicorn.Config(heard.app, interface="asgi3", log_config=None, access_log=False, proxy_headers=False)
    config.load()
    table = ConnectionTable(ConnectionLimits(10))
    client, server = socket.socketpair()
    client.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(
        lambda: FastPathProtocol(table, heard, config=config, server_state=ServerState(), app_state={}), server
    )
    answers = b""
    with client:
        for piece in pieces:
            try:
                await loop.sock_sendall(client, piece)
            except OSError:  # The server has closed the connection.
                break
            answers += await _read(client)
        transport.abort()
        await asyncio.sleep(0)
    return heard, answers


async def _read(client: socket.socket) -> bytes:
    """What the server answers until it has nothing more to do."""
    answers, idle = b"", 0
    while idle < _MAX_IDLE_TURNS:
        await asyncio.sleep(0)
        idle += 1
        try:
            part = client.recv(65_536)
        except BlockingIOError:
            continue
        except OSError:
            break
        if not part:
            break
        answers, idle = answers + part, 0
    return answers


def run(case: Input) -> None:
    """The pieces in which an input arrives change nothing; the variant says how long they are."""
    size = int(case.variant)
    whole, answers = asyncio.run(_exchange([case.body]))
    for heard in (whole,):
        assert not heard.errors, heard.errors
    assert b"HTTP/1.1 5" not in answers, answers
    if not 0 < size < len(case.body) <= 600:
        return
    pieces = [case.body[start : start + size] for start in range(0, len(case.body), size)]
    slow, slow_answers = asyncio.run(_exchange(pieces))
    assert not slow.errors, slow.errors
    assert b"HTTP/1.1 5" not in slow_answers, slow_answers
    shorter = min(len(whole.requests), len(slow.requests))
    # A request that is pipelined behind one in progress may not be read at all.
    assert whole.requests[:shorter] == slow.requests[:shorter], (whole.requests, slow.requests)


def seeds() -> list[Input]:
    return [Input(str(size), seed) for seed in (_POST, _GET, _POST * 3 + _GET) for size in (0, 1, 7)]
