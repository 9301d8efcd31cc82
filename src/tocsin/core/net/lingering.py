"""Reads and discards the data that a client still sends after an early response, so that it can read the response.

Closing a socket with unread data resets the connection, and the client's system discards the response (RFC 9112, 9.6).
nginx's `lingering_close` does the same.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
