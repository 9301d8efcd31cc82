"""Runs the UI and the API in a separate process, so that their requests never take the interpreter from paging.

`process` is that process; `proxy` starts and supervises it, and forwards requests to it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpcore
import psycopg
import uvicorn
from a2wsgi import WSGIMiddleware

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.net.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send, send_error
from tocsin.core.net.http_server import MAX_WEB_CONNECTIONS, RestingServer
from tocsin.core.runtime import child_process, clock
from tocsin.core.runtime.child_process import SupervisedProcess

# ---------- process
# The web process: Django in threads, behind a Unix socket that only its parent knows.


log = logging.getLogger(__name__)

#: Requests handled at once. Each may use one database connection.
THREADS = 8

#: Headers by which the parent passes on the client's address and port, or nothing, and the scheme.
CLIENT, PROTO = b"x-tocsin-address", b"x-tocsin-proto"

#: Longer than the parent keeps an idle connection, so that a request never meets one that is being closed.
KEEP_ALIVE = 24 * 60 * 60

#: Seconds between checks of the clock.
POLL = 1.0


def main() -> None:
    """Serves until the parent stops it, or exits."""
    child_config = child_process.child_setup()
    from django.core.handlers.wsgi import WSGIHandler

    app = wsgi_app(WSGIHandler())
    gc.collect()
    gc.freeze()
    server = _WebServer(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=child_process.STOP_GRACE_SECONDS,
        )
    )
    child_process.exit_with_parent(server.end)
    threading.Thread(target=_follow_database, name="clock", daemon=True).start()
    child_process.report_ready(child_config)
    try:
        server.run(sockets=[socket.socket(fileno=child_config.socket_fd)])
    finally:
        # At interpreter exit, the pool would wait for threads that no longer run by then.
        database.close()


def wsgi_app(django: Callable[..., object]) -> AsgiApp:
    """Returns the ASGI app of this process, which passes each request to Django as the parent described it."""
    # With an unbounded queue (0), a thread never waits for a client that reads its response slowly.
    web = WSGIMiddleware(django, workers=THREADS, send_queue_size=0)  # type: ignore[arg-type]

    async def forward(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        address, _, port = headers.get(CLIENT, b"").decode("ascii").rpartition(" ")
        client = (address, int(port)) if address else None
        forwarded_headers = [header for header in scope["headers"] if header[0] != CLIENT]
        request_scope = {
            **scope,
            "headers": forwarded_headers,
            "client": client,
            "server": None,
            "scheme": headers.get(PROTO, b"http").decode(),
        }
        await web(request_scope, receive, send)  # type: ignore[arg-type]

    return forward


class _WebServer(RestingServer):
    """uvicorn's server without signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Stops gracefully; may be called from any thread."""
        self.should_exit = True


def _follow_database() -> None:
    """Measures the database's clock every minute, and follows a test clock at once, and the settings every second."""
    from tocsin.core.config import settings_store

    while True:
        try:
            with database.connect(name="tocsin pages") as connection:
                if environment.current().test_clock:
                    connection.execute(f"LISTEN {database.CHANNEL}".encode())
                clock.measure(connection)
                while not connection.is_outdated:
                    for _hint in connection.notifies(timeout=POLL, stop_after=1):
                        pass
                    clock.measure_if_due(connection)
                    settings_store.follow(connection)
        except psycopg.Error as error:
            log.warning("The database's clock cannot be read for the pages: %s", error)
            time.sleep(POLL)


if __name__ == "__main__":
    main()


# ---------- proxy
# Forwards requests to the web process, and passes its responses on.


#: Seconds after which idle connections are closed.
IDLE = 60

#: Seconds that a request waits for the process to be ready.
START_TIMEOUT = 10.0

#: Hop-by-hop headers, which apply to one connection only (RFC 9110, 7.6.1 and 10.1.1).
_HOP_BY_HOP_HEADERS = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)

_RETRY = ((b"retry-after", b"5"),)
_SAFE = frozenset({"GET", "HEAD"})


class WebProcessProxy:
    """An ASGI app whose requests the web process answers. Call `start` first; `stop` ends the process.

    `fork`, `start`, `wait`, `stop` and `problem` are those of `SupervisedProcess`.
    """

    def __init__(self, database_url: str) -> None:
        self._process = SupervisedProcess("tocsin.web_process", "makes the pages", database_url)
        self._pool = httpcore.AsyncConnectionPool(
            uds=self._process.path,
            # Requests handled at once; others wait.
            max_connections=MAX_WEB_CONNECTIONS,
            max_keepalive_connections=None,
            keepalive_expiry=IDLE,
        )
        self.fork = self._process.fork
        self.start = self._process.start
        self.wait = self._process.wait
        self.stop = self._process.stop
        self.problem = self._process.problem

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answers one request, after reading its whole body."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        request = _request(scope, bytes(body))
        if not await self._wait_until_ready():
            await send_error(send, 503, "starting", "The pages are being started. Try again.", headers=_RETRY)
            return
        tracked_send = _TrackedSend(send)
        # A GET or HEAD request may be retried, with a process that replaced a killed one.
        for may_retry in (scope["method"] in _SAFE, False):
            try:
                await self._forward(request, tracked_send)
                return
            except httpcore.LocalProtocolError:
                await send_error(send, 400, "invalid", "A header of this request has a value that no header may have.")
                return
            except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                log.warning("The process that makes the pages ended in the middle of one: %r", error)
                if tracked_send.has_started:
                    raise
                if not (may_retry and await self._wait_until_ready()):
                    break
        detail = "The process that makes the pages ended in the middle of this. See whether it was done, and try again."
        await send_error(send, 502, "interrupted", detail)

    async def _forward(self, request: httpcore.Request, tracked_send: _TrackedSend) -> None:
        response = await self._pool.handle_async_request(request)
        try:
            headers = [header for header in response.headers if header[0].lower() not in _HOP_BY_HOP_HEADERS]
            await tracked_send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for chunk in response.aiter_stream():
                await tracked_send({"type": "http.response.body", "body": chunk, "more_body": True})
            await tracked_send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()

    async def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._process.ready.is_set():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True


class _TrackedSend:
    """A `send` that records whether anything was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: AsgiMessage) -> None:
        self.has_started = True
        await self._send(message)


def _request(scope: AsgiScope, body: bytes) -> httpcore.Request:
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    headers = [header for header in scope["headers"] if header[0] not in _HOP_BY_HOP_HEADERS]
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
