"""A TCP relay on loopback in front of real PostgreSQL servers: a virtual IP address that a failover moves.

It can lead to another server, or go silent: like a frozen host, it then accepts connections and data, and answers none.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

from psycopg.conninfo import make_conninfo


class Relay:
    """Forwards connections to `target`, the Unix socket of a server. Connections keep the server they began with."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.accepted = 0
        #: Refuses connections until it is started.
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        #: Set while the connections that began since the last move are passed on.
        self._audible = _audible()
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def url(self, url: str) -> str:
        """The conninfo of the database of `url` through this relay."""
        return make_conninfo(url, host="127.0.0.1", port=self.port, sslmode="disable", gssencmode="disable")

    def mute(self) -> None:
        """From now on nothing is passed on, in either direction, on old and new connections."""
        self._audible.clear()

    def unmute(self) -> None:
        """Everything is passed on again, and what was held first."""
        self._audible.set()

    def move(self, target: str | None = None) -> None:
        """New connections lead to `target` and are passed on; old ones stay as they are, silent if muted."""
        self.target = target or self.target
        self._audible = _audible()

    def start(self) -> None:
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listening.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.accepted += 1
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client, self._audible), daemon=True).start()

    def _serve(self, client: socket.socket, audible: threading.Event) -> None:
        audible.wait(60)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.target)
        except OSError:
            client.close()
            return
        self._open.append(server)
        threading.Thread(target=self._forward, args=(server, client, audible), daemon=True).start()
        self._forward(client, server, audible)

    def _forward(self, source: socket.socket, sink: socket.socket, audible: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                audible.wait(60)
                sink.sendall(data)
            audible.wait(60)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _audible() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def socket_of(url: str) -> str:
    """The Unix socket of the server of `url`."""
    query = parse_qs(urlsplit(url).query)
    return f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """A relay to the server of `url`, which listens on a Unix socket."""
    relay = Relay(socket_of(url))
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
