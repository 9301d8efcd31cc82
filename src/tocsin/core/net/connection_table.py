"""The connections of an HTTP server: which are admitted, and which idle ones are closed to make room. Knows no sockets.

A connection is idle until a whole request header has arrived, and again after the response; in between it is busy. Only
idle connections are closed here, so idle ones never cause a client that sends messages to be rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


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
