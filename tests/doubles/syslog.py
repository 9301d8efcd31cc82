"""A syslog receiver on the loopback interface: TCP with octet counting, TLS, or UDP. It parses strictly."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_MESSAGE = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255}) tocsin - "
    rb'(?P<action>[!-~]{1,32}) \[meta sequenceId="(?P<sequence>\d+)"\] (?P<body>\{.*\})'
)


@dataclass(slots=True)
class SyslogReceiver:
    """What it received: the header fields and the JSON of each message."""

    port: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    #: How many of the next connections are reset after the first bytes.
    resets: int = 0

    @property
    def sequences(self) -> list[int]:
        return [message["sequence"] for message in self.messages]

    def take(self, text: bytes) -> None:
        match = _MESSAGE.fullmatch(text)
        assert match is not None, text
        body = json.loads(match["body"])
        assert int(match["sequence"]) == body["sequence"]
        assert match["action"].decode() == body["action"]
        self.messages.append({**body, "priority": int(match["priority"])})

    def take_stream(self, data: bytes) -> None:
        while data:
            length, _, rest = data.partition(b" ")
            self.take(rest[: int(length)])
            data = rest[int(length) :]


@contextmanager
def syslog_receiver(*, udp: bool = False, context: ssl.SSLContext | None = None) -> Iterator[SyslogReceiver]:
    """Runs a receiver until the block ends."""
    receiver = SyslogReceiver()
    with socket.socket(type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        receiver.port = server.getsockname()[1]
        if not udp:
            server.listen()
        thread = threading.Thread(target=_receive if udp else _accept, args=(server, receiver, context), daemon=True)
        thread.start()
        yield receiver
        # Wakes the thread.
        server.shutdown(socket.SHUT_RDWR) if not udp else socket.socket(type=socket.SOCK_DGRAM).sendto(
            b"", ("127.0.0.1", receiver.port)
        )
        thread.join(5)


def _receive(server: socket.socket, receiver: SyslogReceiver, _context: None) -> None:
    while data := server.recv(65_535):
        receiver.take(data)


def _accept(server: socket.socket, receiver: SyslogReceiver, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            if receiver.resets:
                receiver.resets -= 1
                connection.recv(10)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue
            try:
                stream = context.wrap_socket(connection, server_side=True) if context else connection
                data = b""
                while part := stream.recv(65_536):
                    data += part
            except OSError:
                continue
            receiver.take_stream(data)
            stream.close()
