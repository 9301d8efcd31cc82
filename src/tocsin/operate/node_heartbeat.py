"""A node's own row: that it lives, and when each loop last turned. By the database's clock, unmoved by tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

import tocsin
from tocsin.core.config import crypto
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock

#: How often a node says that it lives. Each time is a commit, so it also shows that the database takes writes.
HEARTBEAT_INTERVAL = timedelta(seconds=5)

#: A node that was not heard of for so long is gone, or cannot reach the database.
GONE_AFTER = timedelta(seconds=60)

#: The rows of nodes that are gone are kept for so long, to be looked at.
GONE_NODE_RETENTION = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One of this process's loops: when it last turned, by this machine's clock, and how often it should."""

    name: str
    at: datetime
    every: timedelta


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One loop of a node, as the database knows it."""

    name: str
    #: How long ago it last turned.
    age: timedelta
    every: timedelta


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node, as the database knows it."""

    id: UUID
    name: str
    role: str
    version: str
    started_at: datetime
    #: How long ago it was heard of.
    age: timedelta
    loops: tuple[TaskStatus, ...] = ()
    #: The fingerprints of the secret keys that it knows.
    keys: tuple[str, ...] = ()
    #: By provider: how many of its sends hang past their deadline.
    stuck_senders: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        return self.age < GONE_AFTER


_SAY = """
INSERT INTO operate_node (id, name, role, version, started_at, seen_at, loops, keys, stuck_senders)
VALUES (%(id)s, %(name)s, %(role)s, %(version)s, clock_timestamp(), clock_timestamp(), %(loops)s, %(keys)s, %(stuck)s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), loops = excluded.loops, keys = excluded.keys,
  stuck_senders = excluded.stuck_senders
"""


class NodeHeartbeat:
    """This node's row. `turn` is a loop's; `leave` ends it in good order, so that nobody takes the node for dead."""

    def __init__(
        self,
        node_id: UUID,
        role: str,
        turned: Callable[[], Sequence[TaskRun]],
        name: str = "",
        *,
        stuck_senders: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._id = node_id
        self._role = role
        self._turned = turned
        self._stuck_senders = stuck_senders
        self._name = name or socket.gethostname()

    def turn(self) -> bool:
        """Writes the row, and removes those of nodes that are long gone. Never more to do at once."""
        loops = {
            one.name: {"at": _database_time(one.at).isoformat(), "every": one.every.total_seconds()}
            for one in self._turned()
        }
        said = {"id": self._id, "name": self._name, "role": self._role, "version": tocsin.__version__}
        with database.transaction() as connection:
            stuck = Jsonb(dict(self._stuck_senders()))
            keys = list(crypto.fingerprints())
            connection.execute(_SAY, {**said, "loops": Jsonb(loops), "keys": keys, "stuck": stuck})
            connection.execute(
                "DELETE FROM operate_node WHERE seen_at < clock_timestamp() - %s", (GONE_NODE_RETENTION,)
            )
        return False

    def leave(self) -> None:
        """Removes the row: the node ends on purpose."""
        with database.transaction() as connection:
            connection.execute("DELETE FROM operate_node WHERE id = %s", (self._id,))


def nodes(connection: Connection) -> list[NodeStatus]:
    """Every node that was heard of within the hour, by name; `is_there` says which live."""
    query = (
        "SELECT id, name, role, version, started_at, seen_at, loops, keys, stuck_senders, "
        "clock_timestamp() AS now FROM operate_node ORDER BY name, started_at"
    )
    return [
        NodeStatus(
            row["id"],
            row["name"],
            row["role"],
            row["version"],
            row["started_at"],
            row["now"] - row["seen_at"],
            tuple(_loop(name, stored, row["now"]) for name, stored in sorted(row["loops"].items())),
            tuple(row["keys"]),
            row["stuck_senders"],
        )
        for row in database.rows(connection, query)
    ]


def _loop(name: str, stored: dict[str, object], now: datetime) -> TaskStatus:
    return TaskStatus(
        name, now - datetime.fromisoformat(str(stored["at"])), timedelta(seconds=float(str(stored["every"])))
    )


def _database_time(at: datetime) -> datetime:
    """A moment by this machine's clock, as the database's would have shown it."""
    return at.astimezone(UTC) + clock.skew()
