"""Forwards requests to the web process, and passes its responses on."""

from __future__ import annotations

import asyncio
import logging
import time

import httpcore

from tocsin.core.net.asgi import AsgiMessage, AsgiScope, Receive, Send, send_error
from tocsin.core.net.descriptors import MAX_WEB_CONNECTIONS
from tocsin.core.runtime.child_process import SupervisedProcess
from tocsin.web_process.process import CLIENT

log = logging.getLogger(__name__)

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
        self._process = SupervisedProcess("tocsin.web_process.process", "makes the pages", database_url)
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
