"""The connections of an HTTP server: which are admitted, and which idle ones are closed to make room. Knows no sockets.

A connection is idle until a whole request header has arrived, and again after the answer. It is busy in between. Only
idle connections are ever closed here, so a client that delivers messages is never refused because of idle ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections may be open."""

    total: int = 2_000
    #: Idle connections of one client. A trusted proxy has no such limit: it keeps connections for all its clients.
    idle_per_client: int = 1_000
    #: Connections of one client with a request in progress. Behind a trusted proxy, the forwarded address counts.
    busy_per_client: int = 1_000


class Closable(Protocol):
    def close_idle(self) -> None:
        """Closes the connection at once."""
        ...


@dataclass(slots=True, eq=False)
class _Client:
    key: str
    is_proxy: bool = False
    #: How many connections come from this address.
    open: int = 0
    #: Those of them that are idle, the oldest first.
    idle: dict[Entry, None] = field(default_factory=dict)
    #: How many connections, its own or a proxy's, have a request of this client in progress.
    busy: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """One admitted connection."""

    connection: Closable
    peer: _Client
    #: Whose request is in progress; None while the connection is idle.
    requester: _Client | None = None


class ConnectionTable:
    """All open connections of one server. Used on the event loop's thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._clients: dict[str, _Client] = {}
        self._open: set[Entry] = set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(
        self, connection: Closable, key: str, *, is_proxy: bool = False, needs_room: bool = False
    ) -> Entry | None:
        """Admits a new connection, which is idle at first; None where every other connection is busy.

        `needs_room` says that idle connections must be closed even though the limit is not reached.
        """
        is_full = needs_room or len(self._open) >= self._limits.total
        if is_full and not self._make_room():
            return None
        if needs_room:
            # One more: the next connection gets the number that was freed, and does not look as if any were needed.
            self._make_room()
        peer = self._client(key)
        peer.is_proxy = is_proxy
        peer.open += 1
        entry = Entry(connection, peer)
        self._open.add(entry)
        self._make_idle(entry)
        return entry

    def begin(self, entry: Entry, key: str) -> bool:
        """A request begins, sent by the client of that key; False where that client has too many in progress."""
        if entry.requester is not None or entry not in self._open:
            return True
        requester = entry.peer if key == entry.peer.key else self._client(key)
        if requester.busy >= self._limits.busy_per_client and not requester.is_proxy:
            self._forget_if_gone(requester)
            return False
        requester.busy += 1
        entry.requester = requester
        entry.peer.idle.pop(entry, None)
        return True

    def end(self, entry: Entry) -> None:
        """The request was answered: the connection is idle again."""
        if entry.requester is None or entry not in self._open:
            return
        self._release(entry)
        self._make_idle(entry)

    def remove(self, entry: Entry) -> None:
        """The connection was closed. May be called again."""
        if entry not in self._open:
            return
        self._open.remove(entry)
        self._release(entry)
        entry.peer.idle.pop(entry, None)
        entry.peer.open -= 1
        self._forget_if_gone(entry.peer)

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
                self._forget_if_gone(requester)

    def _make_room(self) -> bool:
        """Closes the oldest idle connection of the client that has most of them; a proxy's only if there is no other:
        it may be about to send a request over it. False where no connection is idle."""
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

    def _forget_if_gone(self, client: _Client) -> None:
        """Nothing is kept of clients without a connection: there are many addresses."""
        if not client.open and not client.busy:
            self._clients.pop(client.key, None)
