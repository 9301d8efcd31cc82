"""One kept-alive HTTP/1.1 connection (RFC 9112), on the standard library's parser of responses.

A request leaves in one write, and its response is read until a deadline, however slowly it arrives. httpcore, with all
that it can do besides, took four times the processor time for a page.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Mapping
from http.client import BadStatusLine, HTTPResponse, IncompleteRead, parse_headers
from typing import IO

from tocsin.core.net.deadline_stream import DeadlineStream

#: Scheme, host and port.
type Origin = tuple[str, str, int]

#: Beyond the bytes of the body: the head, and what frames chunks of one byte.
MAX_HEAD_BYTES = 256 * 1024
_MAX_FRAMING_FACTOR = 8

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?|")


class Unsendable(Exception):
    """The request cannot be written: its method or a header contains a character that is not allowed there."""


class HttpConnection:
    """A connected socket, and the origin that it leads to. Used by one thread at a time."""

    def __init__(self, connection: socket.socket, origin: Origin) -> None:
        """`connection` has its timeout for each read and write."""
        self.origin = origin
        #: Whether it can carry another request: the response of the last one was read to its end.
        self.is_kept = False
        self._socket = connection
        self._exchange = DeadlineStream()

    def send(self, request: bytes) -> None:
        """Raises OSError."""
        self.is_kept = False
        self._socket.sendall(request)

    def receive(self, method: str, end: float, max_bytes: int) -> tuple[int, Mapping[str, str], bytes]:
        """Returns the response: status, headers by lower-case name, and at most `max_bytes` of the body; what arrived
        until `end`, by the monotonic clock, if the head did. Raises OSError and HTTPException.
        """
        self._exchange.begin_exchange(end - time.monotonic(), MAX_HEAD_BYTES + _MAX_FRAMING_FACTOR * max_bytes)
        response = _Response(self, method)
        try:
            response.begin()
            body = _read_body(response, end, max_bytes)
            self.is_kept = not response.will_close and response.isclosed()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, body
        finally:
            response.close()

    def makefile(self, _mode: str) -> IO[bytes]:
        """What `HTTPResponse` reads from."""
        return self._exchange.reader(self._socket)

    def is_usable(self) -> bool:
        """Returns False if an idle connection is readable: the server has closed it, or sent what nobody asked for."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self._socket.close()


def request_bytes(method: str, target: bytes, headers: list[tuple[bytes, bytes]], content: bytes) -> bytes:
    """Returns a request as sent on the wire. Raises Unsendable; the error does not repeat a header's value."""
    if not _NAME.fullmatch(method.encode()):
        raise Unsendable("the method is not a token")
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Unsendable(f"the header {name.decode('latin-1')[:100]} has a character that is not allowed")
    lines = [b"%b: %b" % header for header in headers]
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method.encode(), target), *lines, b"", content])


class _Response(HTTPResponse):
    """Skips every interim response, such as 103 (RFC 9110, 15.2). `HTTPResponse` skips 100 only."""

    def __init__(self, connection: HttpConnection, method: str) -> None:
        super().__init__(connection, method=method)  # type: ignore[arg-type]  # it needs `makefile` only

    def _read_status(self) -> tuple[str, int, str]:
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        for _ in range(10):
            if not 101 < found[1] < 200:
                return found
            parse_headers(self.fp)
            found = super()._read_status()  # type: ignore[misc]
        raise BadStatusLine("interim responses without end")


def _read_body(response: HTTPResponse, end: float, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        while len(body) < max_bytes and (part := response.read1(max_bytes - len(body))):
            body += part
            if time.monotonic() > end:
                return bytes(body)
    except TimeoutError:
        # The status is known, so what arrived in time is the response.
        if time.monotonic() < end:
            raise
        return bytes(body)
    if len(body) < max_bytes and response.length:
        raise IncompleteRead(b"", response.length)
    return bytes(body)
