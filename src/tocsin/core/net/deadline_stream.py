"""Reads the responses of a line protocol (SMTP, IMAP) with a deadline and a size limit for the whole exchange.

Without them, a server that sends a line just before each timeout could block its caller forever.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any

_ENDLESS = "its answer does not come to an end"


class DeadlineStream:
    """The limits of one exchange, from a command to the end of its response. Call `begin` before each."""

    def __init__(self) -> None:
        self._until, self._most, self._heard = 0.0, 0, 0

    def begin(self, seconds: float, most: int) -> None:
        """Starts an exchange of at most `seconds` seconds and `most` bytes."""
        self._until, self._most, self._heard = time.monotonic() + seconds, most, 0

    def answers(self, connection: socket.socket) -> io.BufferedReader:
        """Returns the received data as a file. Raises TimeoutError if the exchange exceeds a limit, or if the server is
        silent for longer than the connection's own timeout."""
        return io.BufferedReader(_ResponseReader(self, connection))

    def receive(self, connection: socket.socket, buffer: Any) -> int:
        """Receives bytes into `buffer` and returns their number. Raises TimeoutError as `answers` does."""
        usual, left = connection.gettimeout(), self._until - time.monotonic()
        if left <= 0 or self._heard > self._most:
            raise TimeoutError(_ENDLESS)
        connection.settimeout(left if usual is None else min(left, usual))
        try:
            number = connection.recv_into(buffer)
        except TimeoutError:
            if usual is None or left < usual:
                raise TimeoutError(_ENDLESS) from None
            raise
        finally:
            connection.settimeout(usual)
        self._heard += number
        return number


class _ResponseReader(io.RawIOBase):
    def __init__(self, exchange: DeadlineStream, connection: socket.socket) -> None:
        self._exchange, self._connection = exchange, connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._exchange.receive(self._connection, buffer)
