"""The way to the process that makes pages: started, watched and started again; requests handed over, answers passed on.

The listening socket is this process's, so that requests that come while the other starts again wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpcore
import msgspec

from tocsin.core import config
from tocsin.core.http import Message, Receive, Scope, Send, refuse
from tocsin.pages.process import CLIENT, GRACE, Orders

log = logging.getLogger(__name__)

#: So many requests may wait or be worked on at once; each has a connection of its own.
MAX_CONNECTIONS = 500

#: Idle connections are closed after so many seconds.
IDLE = 60

#: Seconds that a request waits for the process to be ready, and that a start may take until something is wrong.
PATIENCE = 10.0
START_WITHIN = 60.0

#: Seconds between the end of a process and the start of the next.
PAUSE = 1.0

#: What a message says of the one connection it came over (RFC 9110, 7.6.1 and 10.1.1).
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)

_RETRY = ((b"retry-after", b"5"),)
_SAFE = frozenset({"GET", "HEAD"})


class Pages:
    """An ASGI app that has its requests answered by the process. `start` first; `stop` ends the process."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._folder = Path(tempfile.mkdtemp(prefix="tocsin-pages-"))
        path = str(self._folder / "socket")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(MAX_CONNECTIONS)
        self._pool = httpcore.AsyncConnectionPool(
            uds=path, max_connections=MAX_CONNECTIONS, max_keepalive_connections=None, keepalive_expiry=IDLE
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._missing_since = time.monotonic()
        self._watcher = threading.Thread(target=self._watch, name="pages", daemon=True)

    def start(self) -> None:
        """Starts the process; it gets ready meanwhile."""
        self._watcher.start()

    def wait(self) -> None:
        """Waits until the process can answer, or START_WITHIN has passed."""
        self._ready.wait(START_WITHIN)

    def stop(self) -> None:
        """Ends the process, once what it answers is answered."""
        self._stopping.set()
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(GRACE + 2)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._watcher.is_alive():
            self._watcher.join(PAUSE + 1)
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def problem(self) -> str | None:
        """Why there are no pages, as a sentence; None while there are, or soon will be."""
        if self._ready.is_set() or time.monotonic() - self._missing_since < START_WITHIN:
            return None
        return "The process that makes the pages does not start."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, whose body is read whole."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        request = _request(scope, bytes(body))
        if not await self._is_there():
            await refuse(send, 503, "starting", "The pages are being started. Try again.", headers=_RETRY)
            return
        answer = _Passing(send)
        # A page that was only read may be asked for again, of a process that took the place of one that was killed.
        for may_again in (scope["method"] in _SAFE, False):
            try:
                await self._pass_on(request, answer)
                return
            except httpcore.LocalProtocolError:
                await refuse(send, 400, "invalid", "A header of this request has a value that no header may have.")
                return
            except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                log.warning("The process that makes the pages ended in the middle of one: %r", error)
                if answer.has_begun:
                    raise
                if not (may_again and await self._is_there()):
                    break
        detail = "The process that makes the pages ended in the middle of this. See whether it was done, and try again."
        await refuse(send, 502, "interrupted", detail)

    async def _pass_on(self, request: httpcore.Request, answer: _Passing) -> None:
        response = await self._pool.handle_async_request(request)
        try:
            headers = [header for header in response.headers if header[0].lower() not in _OF_THE_CONNECTION]
            await answer({"type": "http.response.start", "status": response.status, "headers": headers})
            async for part in response.aiter_stream():
                await answer({"type": "http.response.body", "body": part, "more_body": True})
            await answer({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()

    async def _is_there(self) -> bool:
        until = time.monotonic() + PATIENCE
        while not self._ready.is_set():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.05)
        return True

    def _watch(self) -> None:
        """Starts the process, and again whenever it has ended."""
        while not self._stopping.is_set():
            try:
                self._run_once()
            except OSError as error:
                log.error("The process that makes the pages cannot be started: %s", error)
            self._stopping.wait(PAUSE)

    def _run_once(self) -> None:
        """One process, from its start to its end."""
        hears, says = os.pipe()
        try:
            # A session of its own: what a terminal sends to all is this process's to pass on.
            process = subprocess.Popen(
                [sys.executable, "-m", "tocsin.pages.process"],
                stdin=subprocess.PIPE,
                pass_fds=[self._socket.fileno(), says],
                start_new_session=True,
            )
        finally:
            os.close(says)
        with os.fdopen(hears, "rb") as heard, process:
            self._process = process
            assert process.stdin is not None
            orders = Orders(self._database_url, config.current().public_url, self._socket.fileno(), says)
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
            process.stdin.flush()
            if heard.readline():
                self._ready.set()
                heard.read()
            self._ready.clear()
            self._missing_since = time.monotonic()
            code = process.wait()
        if not self._stopping.is_set():
            log.error("The process that makes the pages ended with %d, and is started again.", code)


class _Passing:
    """A `send` that knows whether anything was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


def _request(scope: Scope, body: bytes) -> httpcore.Request:
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    headers = [header for header in scope["headers"] if header[0] not in _OF_THE_CONNECTION]
    headers = [header for header in headers if header[0] != b"content-length"]
    if not any(key == b"host" for key, _value in headers):
        headers.append((b"host", b""))
    if body or scope["method"] not in _SAFE:
        headers.append((b"content-length", str(len(body)).encode()))
    if scope.get("client"):
        address, port = scope["client"]
        headers.append((CLIENT, f"{address} {port}".encode()))
    url = httpcore.URL(scheme=b"http", host=b"pages", port=80, target=target)
    return httpcore.Request(scope["method"], url, headers=headers, content=body)
