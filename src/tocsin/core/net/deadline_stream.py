"""Reads the responses of a line protocol (SMTP, IMAP) with a deadline and a size limit for the whole exchange.

Without them, a server that sends a line just before each timeout could block its caller forever.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any

_TOO_LONG = "its answer does not come to an end"


class DeadlineStream:
    """The limits of one exchange, from a command to the end of its response. Call `begin_exchange` before each."""

    def __init__(self) -> None:
        self._deadline, self._max_bytes, self._received = 0.0, 0, 0

    def begin_exchange(self, seconds: float, max_bytes: int) -> None:
        """Starts an exchange of at most `seconds` seconds and `max_bytes` bytes."""
        self._deadline, self._max_bytes, self._received = time.monotonic() + seconds, max_bytes, 0

    def reader(self, connection: socket.socket) -> io.BufferedReader:
        """Returns the received data as a file. Raises TimeoutError if the exchange exceeds a limit, or if the server is
        silent for longer than the connection's own timeout."""
        return io.BufferedReader(_ResponseReader(self, connection))

    def receive(self, connection: socket.socket, buffer: Any) -> int:
        """Receives bytes into `buffer` and returns their number. Raises TimeoutError as `reader` does."""
        default_timeout, remaining = connection.gettimeout(), self._deadline - time.monotonic()
        if remaining <= 0 or self._received > self._max_bytes:
            raise TimeoutError(_TOO_LONG)
        # Each change is a system call.
        is_shorter = default_timeout is None or remaining < default_timeout
        try:
            if is_shorter:
                connection.settimeout(remaining)
            count = connection.recv_into(buffer)
        except TimeoutError:
            if is_shorter:
                raise TimeoutError(_TOO_LONG) from None
            raise
        finally:
            if is_shorter:
                connection.settimeout(default_timeout)
        self._received += count
        return count


class _ResponseReader(io.RawIOBase):
    def __init__(self, stream: DeadlineStream, connection: socket.socket) -> None:
        self._stream, self._connection = stream, connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.receive(self._connection, buffer)
