"""A real HTTP/1.1 server on loopback that records every request and answers as configured."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    #: How long the server takes, in seconds.
    takes: float = 0.0
    #: Ends the connection after the request was read, without an answer.
    hangs_up: bool = False


type Answering = Callable[[Request], Response]


class HttpDouble:
    """Runs in a thread of its own. `answering` may be replaced at any time; `requests` has all that came."""

    def __init__(self, answering: Answering | None = None, context: ssl.SSLContext | None = None) -> None:
        self.answering: Answering = answering or (lambda request: Response())
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, backlog=512), self._loop
        ).result(10)
        self.port = server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        async def end() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await _read(reader):
                self.requests.append(request)
                response = self.answering(request)
                if response.takes:
                    await asyncio.sleep(response.takes)
                if response.hangs_up:
                    break
                writer.write(_bytes(response))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    is_chunked = headers.get("transfer-encoding") == "chunked"
    body = await (_read_chunks(reader) if is_chunked else reader.readexactly(int(headers.get("content-length", "0"))))
    return Request(method, path, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


def _bytes(response: Response) -> bytes:
    headers = {"Content-Length": str(len(response.body)), "Content-Type": "application/json", **response.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} Answer\r\n{lines}\r\n".encode() + response.body


@contextmanager
def http_double(answering: Answering | None = None, context: ssl.SSLContext | None = None) -> Iterator[HttpDouble]:
    """A running server; stopped at the end."""
    double = HttpDouble(answering, context)
    double.start()
    try:
        yield double
    finally:
        double.stop()
