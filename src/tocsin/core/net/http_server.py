"""The HTTP server: uvicorn with deadlines and limits for headers, stalled clients and connections, and a fast path.

The fast path answers small complete requests without ASGI. Eight clients that send one byte and wait cost eight sockets
and nothing else. Of eight thousand, the oldest are closed as soon as another client needs a socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tocsin.core.net import descriptors
from tocsin.core.net.admission import AdmittedProtocol
from tocsin.core.net.asgi import FastPathHandler
from tocsin.core.net.connection_table import ConnectionLimits, ConnectionTable
from tocsin.core.runtime import cpu_affinity

#: Seconds within which a whole request header must arrive before the connection is closed.
HEADER_DEADLINE = 10.0

#: Maximum bytes of an incomplete header, because the parser would buffer all of it.
MAX_HEADER_BYTES = 64 * 1024

#: A client that reads nothing of its response for this many seconds is disconnected.
STALL_DEADLINE = 30.0

#: Seconds after which an idle kept-alive connection is closed. Longer than a proxy's usual 60 seconds, so that a proxy
#: never sends a request into a connection that is being closed.
KEEP_ALIVE_SECONDS = 75

#: Maximum pipelined requests waiting for responses. Beyond it, reading pauses.
MAX_PIPELINED_RESPONSES = 16

#: Maximum bytes of a body that arrives in several pieces and may still use the fast path,
MAX_FAST_PATH_BYTES = 64 * 1024

#: if it is complete within this many seconds. Slower clients get the deadlines of the ASGI path, and its responses.
FAST_PATH_BODY_TIMEOUT = 1.0

_HEADER_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class DeadlineProtocol(AdmittedProtocol):
    """uvicorn's protocol with deadlines for the request header and for a client that does not read its response."""

    #: Whether a header is awaited or being read. The header deadline runs only then.
    _in_header = False
    _header_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _header_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the deadline for the first header."""
        super().connection_made(transport)
        self._in_header = True
        self._header_timer = self.loop.call_later(HEADER_DEADLINE, self._on_header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_header()
        self._cancel_stall_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and rejects a header that is too slow or too long."""
        super().data_received(data)
        if not self._in_header:
            return
        if self._header_timer is None:
            # Most headers are complete by now and never start a timer.
            self._header_timer = self.loop.call_later(HEADER_DEADLINE, self._on_header_timeout)
        self._header_size += len(data)
        if self._header_size > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_HEADER_TOO_LONG)
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Accepts a header, but not a trailer after the body (RFC 9110, 6.5), which no proxy has checked."""
        if self._in_header:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Notes that a header has begun. Its deadline starts after the data received so far is parsed."""
        self._in_header = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_header()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than the response is written, so it must read something before the deadline."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(STALL_DEADLINE, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel_stall_timer()
        super().resume_writing()

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _end_header(self) -> None:
        self._in_header = False
        self._header_size = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


class _PendingResponse:
    """A pending response, written after all responses before it."""

    __slots__ = ("data", "keeps_alive")

    def __init__(self, *, keeps_alive: bool) -> None:
        self.data: bytes | None = None
        self.keeps_alive = keeps_alive


class FastPathProtocol(DeadlineProtocol):
    """Passes complete small requests to `fast_path`, without a task and ASGI messages for each.

    That halves the cost of a small request. Every unusual request (a large or slow body in pieces, one pipelined behind
    an ASGI request, or one that `fast_path` does not want) uses ASGI. Responses are sent in the order of their
    requests.
    """

    def __init__(self, table: ConnectionTable, fast_path: FastPathHandler, **kwargs: Any) -> None:
        super().__init__(table, **kwargs)
        self._fast_path = fast_path
        self._handle: object | None = None
        self._parts: list[bytes] = []
        #: Runs while the rest of a body is awaited.
        self._body_timer: asyncio.TimerHandle | None = None
        self._pending: deque[_PendingResponse] = deque()
        #: Set once a request cannot be answered in order. The connection closes after the pending responses.
        self._ignores_input = False
        #: Set together with `_ignores_input` if a request was not read: the client may still be sending it.
        self._has_unread = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._handle is not None and self._body_timer is None and not self.transport.is_closing():
            if 0 < self._content_length() <= MAX_FAST_PATH_BYTES:
                self._body_timer = self.loop.call_later(FAST_PATH_BODY_TIMEOUT, self._on_body_timeout)
            else:
                self._fall_back_to_asgi()

    def on_headers_complete(self) -> None:
        self._end_header()
        if not self.begin_request():
            return
        if self._is_fast_path_eligible() and (handle := self._fast_path.find_handle(self.url)) is not None:
            self._handle = handle
            return
        self._begin_asgi_request()

    def on_body(self, body: bytes) -> None:
        if self._handle is not None:
            self._parts.append(body)
        elif not self._ignores_input:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._handle is None:
            if not self._ignores_input:
                super().on_message_complete()
            return
        self._cancel_body_timer()
        pending = _PendingResponse(keeps_alive=self.parser.should_keep_alive())
        self._pending.append(pending)
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._fast_path.accept(self._handle, self.headers, body, partial(self._respond, pending)):
            self._handle = None
            self._parts = []
            if len(self._pending) >= MAX_PIPELINED_RESPONSES:
                self.flow.pause_reading()
            return
        self._pending.pop()
        if self._fall_back_to_asgi():
            super().on_message_complete()

    def shutdown(self) -> None:
        """Closes the connection once every pending response was sent."""
        if self._handle is not None:
            self._fall_back_to_asgi()
        if self._pending:
            self._ignores_input = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pending.clear()
        self._handle = None
        self._cancel_body_timer()
        super().connection_lost(exc)

    def _is_fast_path_eligible(self) -> bool:
        return (
            not self._ignores_input
            and (self.cycle is None or self.cycle.response_complete)
            and self.parser.get_method() == b"POST"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
        )

    def _content_length(self) -> int:
        """Returns the declared length of the body; 0 if it is missing or invalid."""
        texts = [value for name, value in self.headers if name == b"content-length"]
        return int(texts[0]) if len(texts) == 1 and texts[0].isdigit() and len(texts[0]) < 10 else 0

    def _cancel_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _on_body_timeout(self) -> None:
        self._body_timer = None
        if self._handle is not None and not self.transport.is_closing():
            self._fall_back_to_asgi()

    def _fall_back_to_asgi(self) -> bool:
        """Passes the request collected so far to ASGI. Returns False if that is impossible."""
        self._cancel_body_timer()
        parts, self._parts, self._handle = self._parts, [], None
        if not self._begin_asgi_request():
            return False
        for part in parts:
            super().on_body(part)
        return True

    def _begin_asgi_request(self) -> bool:
        """Starts an ASGI request. Returns False if fast-path responses are still pending.

        ASGI would respond before them. Nothing more is then read, and the client retries over another connection (RFC
        9112, 9.3.2 and 9.6).
        """
        if self._pending or self._ignores_input:
            self._ignores_input = self._has_unread = True
            return False
        super().on_headers_complete()
        return True

    def _respond(self, pending: _PendingResponse, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Writes a response, and the finished ones that waited behind it."""
        extra_headers = b"".join([b"%b: %b\r\n" % header for header in headers])
        pending.data = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
            STATUS_LINE[status],
            len(body),
            extra_headers,
            b"" if pending.keeps_alive else b"connection: close\r\n",
            body,
        )
        while self._pending and (data := self._pending[0].data) is not None:
            self.transport.write(data)
            is_last = not self._pending.popleft().keeps_alive
            self.server_state.total_requests += 1
            if is_last or (self._ignores_input and not self._pending):
                if self._has_unread:
                    self.close_gracefully()
                else:
                    self.transport.close()
                return
        if not self._pending and not self.transport.is_closing():
            if self._handle is None:
                self.end_request()
            self.flow.resume_reading()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


class HttpServer(uvicorn.Server):
    """uvicorn's server, with a callback once it can serve. A signal to stop counts as a normal exit."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None], on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # This thread may be pinned to one CPU. Threads that it starts must not be.
        executor = ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=cpu_affinity.allow_all_cpus)
        asyncio.get_running_loop().set_default_executor(executor)
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops gracefully; a second signal stops at once. The signal is not raised again afterwards."""
        self._on_exit()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def make_server(
    app: Any,
    *,
    graceful_timeout: int,
    on_ready: Callable[[], None],
    on_exit: Callable[[], None],
    fast_path: FastPathHandler | None = None,
    limits: ConnectionLimits | None = None,
) -> HttpServer:
    """Returns a server for the ASGI `app`. Pass listening sockets to its `run`. SIGTERM and SIGINT stop it gracefully.

    `fast_path` handles the complete requests that it wants; `app` handles all others.
    """
    table = ConnectionTable(limits or ConnectionLimits(descriptors.max_connections()))
    protocol: Any = (
        partial(DeadlineProtocol, table) if fast_path is None else partial(FastPathProtocol, table, fast_path)
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=graceful_timeout,
    )
    return HttpServer(config, on_ready=on_ready, on_exit=on_exit)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket listening at `host` and `port` (0: any free port). Raises OSError, such as for a port in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=descriptors.backlog())
