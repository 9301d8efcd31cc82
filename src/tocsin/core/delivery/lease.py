"""Leases on rows that are being sent: granted with the claim, renewed during the send, taken over when expired.

A lease runs by the database's clock. A process that was stopped (SIGSTOP, a suspended machine) does not notice that its
leases expired meanwhile. So it asks the database once more before it sends, if its own clock says that a lease was not
renewed lately.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import psycopg

from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: A lease is renewed every two seconds.
LEASE_SECONDS = 10

#: In seconds. A lease that was confirmed longer ago is confirmed again before anything is sent.
MAX_UNCONFIRMED = LEASE_SECONDS / 2


class LeaseLost(Exception):
    """Another process has taken over: this one must not send or write any more."""


def elapsed() -> float:
    """Returns seconds by a clock that nobody sets and that also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


# Without slots: before Python 3.12.3 a generic class with frozen slots cannot be called by its parameters.
@dataclass(frozen=True)
class LeaseTable[K]:
    """A table with the columns `id`, `status` (`sending` under a lease), `leased_by` and `lease_until`."""

    name: str
    id_type: str

    def renew(self, connection: Connection, ids: Collection[K], node: str, *, skip_locked: bool) -> list[K]:
        """Extends the leases that `node` still holds on these rows, and returns their ids."""
        held = f"id = ANY(%(ids)s::{self.id_type}[]) AND leased_by = %(node)s"
        return self._lease(connection, held, ids, node, skip_locked=skip_locked)

    def take_over(self, connection: Connection, own_ids: Collection[K], node: str, *, limit: int) -> list[K]:
        """Leases to `node` at most `limit` rows whose lease has expired, and returns their ids.

        A lease that expires more than a minute from now was granted before a clock rollback. If its holder is alive, it
        renews the lease at once.
        """
        expired = (
            "(lease_until < clock_timestamp() OR lease_until > clock_timestamp() + interval '1 minute') "
            f"AND id <> ALL(%(ids)s::{self.id_type}[])"
        )
        return self._lease(connection, expired, own_ids, node, limit=limit, skip_locked=True)

    def _lease(
        self,
        connection: Connection,
        condition: str,
        ids: Collection[K],
        node: str,
        *,
        limit: int | None = None,
        skip_locked: bool,
    ) -> list[K]:
        query = (
            f"UPDATE {self.name} SET leased_by = %(node)s, "
            "lease_until = clock_timestamp() + make_interval(secs => %(seconds)s) WHERE id IN ("
            f"SELECT id FROM {self.name} WHERE status = 'sending' AND {condition} ORDER BY id LIMIT %(limit)s "
            f"FOR NO KEY UPDATE{' SKIP LOCKED' if skip_locked else ''}) RETURNING id"
        )
        parameters = {"ids": list(ids), "node": node, "seconds": LEASE_SECONDS, "limit": limit}
        return [row[0] for row in connection.execute(database.literal(query), parameters).fetchall()]


class LeaseKeeper[K]:
    """The leases of one process, and when each was last confirmed by its own clock. Used by many threads."""

    def __init__(self, table: LeaseTable[K], node: str, clock: Callable[[], float] = elapsed) -> None:
        self._table = table
        self._node = node
        self._clock = clock
        self._lock = threading.Lock()
        self._confirmed_at: dict[K, float] = {}

    def granted(self, ids: Sequence[K], at: float) -> None:
        """Notes leases that a claim granted. `at` is the time before the claim, by `now`."""
        with self._lock:
            self._confirmed_at |= dict.fromkeys(ids, at)

    def now(self) -> float:
        """Returns the process's own time."""
        return self._clock()

    def renew(self, connection: Connection, ids: Collection[K]) -> None:
        """Renews the leases of the sends in progress."""
        at = self._clock()
        held = self._table.renew(connection, ids, self._node, skip_locked=True) if ids else []
        with self._lock:
            in_progress = {id_: since for id_, since in self._confirmed_at.items() if id_ in ids or since >= at}
            self._confirmed_at = in_progress | dict.fromkeys(held, at)

    def check(self, ids: Collection[K]) -> None:
        """Raises LeaseLost unless this process holds all these leases. Asks the database only after a pause, and if it
        cannot be asked, another process may have taken over.
        """
        oldest = self._clock() - MAX_UNCONFIRMED
        with self._lock:
            if all(self._confirmed_at.get(id_, oldest - 1) >= oldest for id_ in ids):
                return
        at = self._clock()
        try:
            with database.transaction() as connection:
                held = self._table.renew(connection, ids, self._node, skip_locked=False)
        except psycopg.Error as error:
            raise LeaseLost from error
        if len(held) < len(set(ids)):
            raise LeaseLost
        self.granted(held, at)
