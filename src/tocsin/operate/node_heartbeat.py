"""A node's own row: that it is alive, and when each of its tasks last ran. Uses the database's clock only."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

import tocsin
from tocsin.core.config import crypto
from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: The interval of the heartbeat. Each one is a commit, so it also proves that the database accepts writes.
HEARTBEAT_INTERVAL = timedelta(seconds=5)

#: A node without a heartbeat for this long is dead, or cannot reach the database.
DEAD_AFTER = timedelta(seconds=60)

#: How long rows of dead nodes are kept for inspection.
DEAD_NODE_RETENTION = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A periodic task of a node: how long ago it last ran, and its interval."""

    name: str
    age: timedelta
    interval: timedelta


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node, as stored in the database."""

    id: UUID
    name: str
    role: str
    version: str
    started_at: datetime
    #: The time since its last heartbeat.
    age: timedelta
    tasks: tuple[TaskRun, ...] = ()
    #: The fingerprints of the secret keys it knows.
    keys: tuple[str, ...] = ()
    #: By provider: the number of sends that hang past their deadline.
    stuck_senders: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        return self.age < DEAD_AFTER


_UPSERT = """
INSERT INTO operate_node (id, name, role, version, started_at, seen_at, loops, keys, stuck_senders)
VALUES (%(id)s, %(name)s, %(role)s, %(version)s, clock_timestamp(), clock_timestamp(), %(loops)s, %(keys)s, %(stuck)s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), loops = excluded.loops, keys = excluded.keys,
  stuck_senders = excluded.stuck_senders
"""


class NodeHeartbeat:
    """Maintains this node's row. `run_once` is a periodic task; `leave` removes the row on a clean shutdown."""

    def __init__(
        self,
        node_id: UUID,
        role: str,
        task_runs: Callable[[], Sequence[TaskRun]],
        name: str = "",
        *,
        stuck_senders: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._id = node_id
        self._role = role
        self._task_runs = task_runs
        self._stuck_senders = stuck_senders
        self._name = name or socket.gethostname()

    def run_once(self) -> bool:
        """Writes the row and deletes those of long-dead nodes. Always returns False."""
        values = {"id": self._id, "name": self._name, "role": self._role, "version": tocsin.__version__}
        with database.transaction() as connection:
            (clock,) = database.rows(connection, "SELECT clock_timestamp() AS now")
            tasks = {
                run.name: {"at": (clock["now"] - run.age).isoformat(), "every": run.interval.total_seconds()}
                for run in self._task_runs()
            }
            stuck_senders = Jsonb(dict(self._stuck_senders()))
            keys = list(crypto.fingerprints())
            connection.execute(_UPSERT, {**values, "loops": Jsonb(tasks), "keys": keys, "stuck": stuck_senders})
            connection.execute(
                "DELETE FROM operate_node WHERE seen_at < clock_timestamp() - %s", (DEAD_NODE_RETENTION,)
            )
        return False

    def leave(self) -> None:
        """Removes the row on a clean shutdown."""
        with database.transaction() as connection:
            # A stop must not wait for a synchronous standby that is missing.
            connection.execute("SET LOCAL synchronous_commit = local")
            connection.execute("DELETE FROM operate_node WHERE id = %s", (self._id,))


def load_nodes(connection: Connection) -> list[NodeStatus]:
    """Every node with a heartbeat within the last hour, by name; `is_alive` tells which are alive."""
    query = (
        "SELECT id, name, role, version, started_at, seen_at, loops, keys, stuck_senders, "
        "clock_timestamp() AS now FROM operate_node WHERE seen_at > clock_timestamp() - %s ORDER BY name, started_at"
    )
    return [
        NodeStatus(
            **{name: row[name] for name in ("id", "name", "role", "version", "started_at", "stuck_senders")},
            age=row["now"] - row["seen_at"],
            tasks=tuple(_task_run(name, stored, row["now"]) for name, stored in sorted(row["loops"].items())),
            keys=tuple(row["keys"]),
        )
        for row in database.rows(connection, query, (DEAD_NODE_RETENTION,))
    ]


def _task_run(name: str, stored: dict[str, object], now: datetime) -> TaskRun:
    age = now - datetime.fromisoformat(str(stored["at"]))
    return TaskRun(name, age, timedelta(seconds=float(str(stored["every"]))))
