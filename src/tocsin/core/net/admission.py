"""Admits connections of the HTTP server to the connection table, and reports which of them are idle."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tocsin.core.net import descriptors
from tocsin.core.net.asgi import client_address, is_from_trusted_proxy
from tocsin.core.net.client_limits import client_key
from tocsin.core.net.connection_table import ConnectionTable, Entry
from tocsin.core.net.lingering import LingeringProtocol

_DETAIL = msgspec.json.encode(
    {"error": "busy", "detail": "Too many requests from this address are in progress. Try again."}
)
_BUSY = b"%bcontent-type: application/json\r\ncontent-length: %d\r\nretry-after: 5\r\nconnection: close\r\n\r\n%b" % (
    STATUS_LINE[503],
    len(_DETAIL),
    _DETAIL,
)


class AdmittedProtocol(LingeringProtocol):
    """uvicorn's protocol, registered in a connection table that closes idle connections to make room."""

    _entry: Entry | None = None
    _is_proxy = False

    def __init__(self, table: ConnectionTable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._table = table

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The peer of a Unix socket has no address; it can only be a proxy on this machine.
        self._is_proxy = self.client is None or is_from_trusted_proxy({"client": self.client})
        self._entry = self._table.admit(
            self,
            client_key(self.client[0] if self.client else None),
            is_proxy=self._is_proxy,
            needs_room=descriptors.are_scarce(transport.get_extra_info("socket").fileno()),
        )
        if self._entry is None:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._entry is not None:
            self._table.remove(self._entry)
            self._entry = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Data between two requests, such as an empty line or the rest of a rejected body, stops the keep-alive timer. A
        # request header has its own deadline.
        if self._entry is not None and self._entry.requester is None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_headers_complete(self) -> None:
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
