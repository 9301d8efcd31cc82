"""The HTTP server: uvicorn, with a deadline to a complete request header and a cap on connections.

Eight clients that send one byte and wait cost eight sockets and nothing else.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: A connection that has not sent a whole request header in this many seconds is closed.
HEADER_DEADLINE = 10.0

#: An idle kept-alive connection is closed after this many seconds. Longer than a proxy's usual 60, so that a proxy
#: never sends a request into a connection that is just being closed.
KEEP_ALIVE = 75

#: More connections than this are closed at once.
MAX_CONNECTIONS = 2_000


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's protocol, closed when a request's header does not end in time."""

    _open = 0
    _counted = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts the connection, and starts the clock for its first header."""
        super().connection_made(transport)
        if DeadlineProtocol._open >= MAX_CONNECTIONS:
            transport.close()
            return
        DeadlineProtocol._open += 1
        self._counted = True
        self._deadline = self.loop.call_later(HEADER_DEADLINE, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_ended()
        if self._counted:
            DeadlineProtocol._open -= 1
            self._counted = False
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A header begins: on a kept-alive connection its clock starts here."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_DEADLINE, self._give_up)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._header_ended()
        super().on_headers_complete()

    def _header_ended(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


def make_server(app: Any, *, host: str, port: int, graceful_timeout: int) -> uvicorn.Server:
    """A server for the ASGI `app`. It installs no signal handlers of its own; set `should_exit` to end it."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=DeadlineProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=graceful_timeout,
        backlog=2048,
    )
    return uvicorn.Server(config)
