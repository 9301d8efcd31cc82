"""What a server of a line protocol (SMTP, IMAP) says until whoever asked has its answer: with a deadline and a limit
for all of it. One that drips would hold its caller for ever, since each of its lines is in time."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

_ENDLESS = "its answer does not come to an end"


class DeadlineStream:
    """From a question to the end of its answer; `begin` it before each."""

    def __init__(self) -> None:
        self._until, self._most, self._heard = 0.0, 0, 0

    def begin(self, seconds: float, most: int) -> None:
        """An exchange begins, of so many seconds and so many bytes at most."""
        self._until, self._most, self._heard = time.monotonic() + seconds, most, 0

    def answers(self, connection: socket.socket) -> io.BufferedReader:
        """What comes over the connection, to be read as a file. Raises TimeoutError where the exchange is over, or the
        other side is silent for as long as the connection's own timeout."""
        return io.BufferedReader(_ResponseReader(self, connection))

    def receive(self, connection: socket.socket, buffer: Any) -> int:
        """The next bytes, into `buffer`; how many. Raises TimeoutError as `answers` does."""
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
