"""The HTTP server: uvicorn with deadlines and limits for headers, stalled clients and connections, and a fast path.

The fast path answers small complete requests without ASGI. Eight clients that send one byte and wait cost eight sockets
and nothing else. Of eight thousand, the oldest are closed as soon as another client needs a socket.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Protocol

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tocsin.core.net.asgi import FastPathHandler, client_address, client_key, is_from_trusted_proxy
from tocsin.core.runtime import periodic_tasks

# ---------- connection table
# The connections of an HTTP server: which are admitted, and which idle ones are closed to make room. Knows no sockets.
#
# A connection is idle until a whole request header has arrived, and again after the response; in between it is busy.
# Only idle connections are closed here, so idle ones never cause a client that sends messages to be rejected.


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections may be open."""

    total: int = 2_000
    #: Maximum idle connections of one client. A trusted proxy is exempt: it keeps connections for all its clients.
    idle_per_client: int = 1_000
    #: Maximum connections of one client with a request in progress. Behind a trusted proxy, the forwarded address
    #: counts.
    busy_per_client: int = 1_000


class Closable(Protocol):
    def close_idle(self) -> None:
        """Closes the connection at once."""
        ...


@dataclass(slots=True, eq=False)
class _Client:
    key: str
    is_proxy: bool = False
    #: Number of open connections from this address.
    open: int = 0
    #: The idle connections among them, oldest first.
    idle: dict[Entry, None] = field(default_factory=dict)
    #: Number of connections, its own or a proxy's, with a request of this client in progress.
    busy: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """One admitted connection."""

    connection: Closable
    peer: _Client
    #: The client whose request is in progress; None while the connection is idle.
    requester: _Client | None = None


class ConnectionTable:
    """All open connections of one server. Used only on the event loop's thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._clients: dict[str, _Client] = {}
        self._open: set[Entry] = set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(
        self, connection: Closable, key: str, *, is_proxy: bool = False, needs_room: bool = False
    ) -> Entry | None:
        """Admits a new connection, initially idle. Returns None if every other connection is busy.

        `needs_room` forces idle connections to be closed although the limit is not reached.
        """
        is_full = needs_room or len(self._open) >= self._limits.total
        if is_full and not self._make_room():
            return None
        if needs_room:
            # Close a second one: the next connection reuses the lowest freed descriptor, which hides the shortage.
            self._make_room()
        peer = self._client(key)
        peer.is_proxy = is_proxy
        peer.open += 1
        entry = Entry(connection, peer)
        self._open.add(entry)
        self._make_idle(entry)
        return entry

    def begin_request(self, entry: Entry, key: str) -> bool:
        """Records the start of a request of the client `key`. Returns False if it has too many in progress."""
        if entry.requester is not None or entry not in self._open:
            return True
        requester = entry.peer if key == entry.peer.key else self._client(key)
        if requester.busy >= self._limits.busy_per_client and not requester.is_proxy:
            self._drop_if_unused(requester)
            return False
        requester.busy += 1
        entry.requester = requester
        entry.peer.idle.pop(entry, None)
        return True

    def end_request(self, entry: Entry) -> None:
        """Records that the request was answered. The connection is idle again."""
        if entry.requester is None or entry not in self._open:
            return
        self._release(entry)
        self._make_idle(entry)

    def remove(self, entry: Entry) -> None:
        """Records that the connection was closed. Idempotent."""
        if entry not in self._open:
            return
        self._open.remove(entry)
        self._release(entry)
        entry.peer.idle.pop(entry, None)
        entry.peer.open -= 1
        self._drop_if_unused(entry.peer)

    def _make_idle(self, entry: Entry) -> None:
        peer = entry.peer
        peer.idle[entry] = None
        if len(peer.idle) > self._limits.idle_per_client and not peer.is_proxy:
            self._close_oldest(peer)

    def _release(self, entry: Entry) -> None:
        if (requester := entry.requester) is not None:
            requester.busy -= 1
            entry.requester = None
            if requester is not entry.peer:
                self._drop_if_unused(requester)

    def _make_room(self) -> bool:
        """Closes the oldest idle connection of the client with the most idle ones. Returns False if none is idle.

        A proxy's connection is closed only if there is no other, because the proxy may be about to send a request over
        it.
        """
        idle = [client for client in self._clients.values() if client.idle]
        if not idle:
            return False
        self._close_oldest(max(idle, key=lambda client: (not client.is_proxy, len(client.idle))))
        return True

    def _close_oldest(self, client: _Client) -> None:
        oldest = next(iter(client.idle))
        self.remove(oldest)
        oldest.connection.close_idle()

    def _client(self, key: str) -> _Client:
        if (client := self._clients.get(key)) is None:
            client = self._clients[key] = _Client(key)
        return client

    def _drop_if_unused(self, client: _Client) -> None:
        """Drops clients without a connection, because there may be very many addresses."""
        if not client.open and not client.busy:
            self._clients.pop(client.key, None)


# ---------- descriptors
# How many file descriptors this process may open, and how many of them are reserved for its own work.


#: Connections to the web process, one for each request in progress there.
MAX_WEB_CONNECTIONS = 500

#: Reserved for Tocsin's own connections to the database, providers and mail servers, and for files.
RESERVE = 256

#: Enough descriptors for every connection that may be admitted.
REQUIRED = ConnectionLimits().total + MAX_WEB_CONNECTIONS + RESERVE

#: Bounds for the number of connections waiting to be accepted. All of them are accepted at once, before idle ones are
#: closed for them.
_MAX_BACKLOG = 2_048
_MIN_BACKLOG = 64

#: A higher limit has no use, and some libraries iterate over every possible descriptor.
_MAX_DESCRIPTORS = 65_536

_soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> None:
    """Raises the soft limit to the hard limit, up to 65,536. Child processes inherit it."""
    global _soft_limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    _soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def attainable() -> int:
    """Returns how many descriptors `tocsin serve` can open when started with this process's limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return _MAX_DESCRIPTORS
    return max(soft, min(hard, _MAX_DESCRIPTORS))


def backlog() -> int:
    """Returns how many connections may wait to be accepted, so that even two full backlogs spare the reserve."""
    spare = _MAX_DESCRIPTORS if _soft_limit == resource.RLIM_INFINITY else _soft_limit - REQUIRED
    return max(_MIN_BACKLOG, min(_MAX_BACKLOG, spare // 2))


def max_connections() -> int:
    """Returns how many client connections leave the reserve untouched."""
    limit = ConnectionLimits().total
    if _soft_limit == resource.RLIM_INFINITY:
        return limit
    return min(limit, max(_soft_limit - RESERVE - 2 * _MIN_BACKLOG, _soft_limit // 4))


def are_scarce(descriptor: int) -> bool:
    """Returns whether only the reserve is left. `descriptor` is a descriptor opened just now; the system always assigns
    the lowest free one."""
    if _soft_limit == resource.RLIM_INFINITY:
        return False
    # With a limit so low that the reserve would take most of it, half is reserved.
    return descriptor >= _soft_limit - min(RESERVE, _soft_limit // 2)


# ---------- lingering
# Reads and discards the data that a client still sends after an early response, so that it can read the response.
#
# Closing a socket with unread data resets the connection, and the client's system discards the response (RFC 9112,
# 9.6). nginx's `lingering_close` does the same.


#: Seconds for which unwanted data is read.
LINGER_SECONDS = 10.0

#: Maximum bytes of unwanted data.
MAX_DISCARDED_BYTES = 32 * 1024 * 1024


class LingeringProtocol(HttpToolsProtocol):
    """uvicorn's protocol, in which a response sent before the whole request has arrived does not reset the
    connection."""

    #: Set once a response that closes the connection was sent.
    _is_lingering = False
    #: Set while data is discarded.
    _discarding: asyncio.TimerHandle | None = None
    _discarded = 0

    def data_received(self, data: bytes) -> None:
        if self._discarding is not None:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.close()
                return
        if not self._is_lingering:
            super().data_received(data)

    def on_headers_complete(self) -> None:
        if self._is_lingering:
            return
        super().on_headers_complete()
        # The cycle's task has not started yet.
        self.cycle.transport = _ResponseTransport(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if not self._is_lingering:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_discarding()
        if not self._is_lingering:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._is_lingering:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        # With pipelined requests, `cycle` belongs to the last one.
        if self.cycle.response_complete and self.cycle.more_body:
            self._discard()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_discarding()
        super().connection_lost(exc)
        if self.cycle is not None:
            # Break the reference cycle, so that the garbage collector has no work.
            self.cycle.transport = self.transport

    def shutdown(self) -> None:
        """Ends the connection when the server stops."""
        if self._is_lingering:
            self.transport.close()
        else:
            super().shutdown()

    def close_gracefully(self) -> None:
        """Closes the connection after the client has read the response, or after the time for it has passed."""
        if self._is_lingering or self.transport.is_closing():
            return
        self._is_lingering = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self._discard()

    def close_after_response(self) -> None:
        """Closes the connection after its last response: at once if no more of the request can arrive."""
        if self.cycle.more_body:
            self.close_gracefully()
        else:
            self.transport.close()

    def _discard(self) -> None:
        self._discarded = 0
        if self._discarding is None:
            self._discarding = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _stop_discarding(self) -> None:
        if self._discarding is not None:
            self._discarding.cancel()
            self._discarding = None


class _ResponseTransport:
    """The transport passed to uvicorn's request cycle: its `close` waits for the rest of the request."""

    __slots__ = ("_protocol", "write")

    def __init__(self, protocol: LingeringProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write

    def is_closing(self) -> bool:
        return self._protocol._is_lingering or self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.close_after_response()


# ---------- admission and deadlines
# Admits connections to the connection table, reports which of them are idle, and ends those that are too slow.


_DETAIL = msgspec.json.encode(
    {"error": "busy", "detail": "Too many requests from this address are in progress. Try again."}
)
_BUSY = b"%bcontent-type: application/json\r\ncontent-length: %d\r\nretry-after: 5\r\nconnection: close\r\n\r\n%b" % (
    STATUS_LINE[503],
    len(_DETAIL),
    _DETAIL,
)


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


class DeadlineProtocol(LingeringProtocol):
    """uvicorn's protocol, registered in a connection table that closes idle connections to make room, with deadlines
    for the request header and for a client that does not read its response."""

    _entry: Entry | None = None
    _is_proxy = False
    #: Whether a header is awaited or being read. The header deadline runs only then.
    _in_header = False
    _header_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _header_size = 0

    def __init__(self, table: ConnectionTable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._table = table

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admits the connection, and starts the deadline for the first header."""
        super().connection_made(transport)
        # The peer of a Unix socket has no address; it can only be a proxy on this machine.
        self._is_proxy = self.client is None or is_from_trusted_proxy({"client": self.client})
        self._entry = self._table.admit(
            self,
            client_key(self.client[0] if self.client else None),
            is_proxy=self._is_proxy,
            needs_room=are_scarce(transport.get_extra_info("socket").fileno()),
        )
        if self._entry is None:
            transport.close()
        self._in_header = True
        self._header_timer = self.loop.call_later(HEADER_DEADLINE, self._on_header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_header()
        self._cancel_stall_timer()
        if self._entry is not None:
            self._table.remove(self._entry)
            self._entry = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and rejects a header that is too slow or too long."""
        super().data_received(data)
        # Data between two requests, such as an empty line or the rest of a rejected body, stops the keep-alive timer. A
        # request header has its own deadline.
        if self._entry is not None and self._entry.requester is None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
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
        if self.begin_request():
            super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # With pipelined requests, `cycle` belongs to the last one.
        if self.cycle.response_complete:
            self.end_request()

    def close_idle(self) -> None:
        """Closes the connection, because the table needs room."""
        self.transport.close()

    def begin_request(self) -> bool:
        """Counts a request as in progress. Returns False, and answers 503, if its client has too many in progress."""
        if self._entry is None or self._is_lingering:
            return False
        key = self._entry.peer.key
        if self._is_proxy and self._entry.requester is None:
            key = client_key(client_address({"client": self.client, "headers": self.headers}))
        if self._table.begin_request(self._entry, key):
            return True
        self.transport.write(_BUSY)
        self.close_gracefully()
        return False

    def end_request(self) -> None:
        """Marks the connection as idle after its last response."""
        if self._entry is not None:
            self._table.end_request(self._entry)

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


class RestingServer(uvicorn.Server):
    """uvicorn's server looks ten times a second whether it is to end. This one is told, and sleeps until then."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._is_ending = False
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        return self._is_ending

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        """Set by any thread, and by a signal."""
        self._is_ending = value
        if value and self._loop is not None:
            # A loop that has ended already needs no telling.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        # It makes the headers of every response, and returns whether the server was ended meanwhile.
        if not await self.on_tick(0):
            await self._ending.wait()


class HttpServer(RestingServer):
    """uvicorn's server, with a callback once it can serve. A signal to stop counts as a normal exit."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None], on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # This thread may be pinned to one CPU. Threads that it starts must not be.
        executor = ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=periodic_tasks.allow_all_cpus)
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
    table = ConnectionTable(limits or ConnectionLimits(max_connections()))
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
    return socket.create_server((host, port), family=family, backlog=backlog())
