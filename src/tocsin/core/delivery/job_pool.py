"""Runs claimed jobs in threads, outside of any transaction, and stores their results as they arrive.

Results that arrive together are stored in one transaction. A result that cannot be stored does not affect the others. A
job counts as in flight until its result is stored, so that its lease is kept.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import psycopg
from psycopg.errors import DataError, IntegrityError

from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Batch, BatchRunner, Connection
from tocsin.core.runtime.periodic_tasks import DaemonThreads

# ---------- lease
# Leases on rows that are being sent: granted with the claim, renewed during the send, taken over when expired.
#
# A lease runs by the database's clock. A process that was stopped (SIGSTOP, a suspended machine) does not notice that
# its leases expired meanwhile. So it asks the database once more before it sends, if its own clock says that a lease
# was not renewed lately.


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

    @property
    def is_any_held(self) -> LiteralString:
        """The condition that a row is being sent: its lease is to be renewed by this process, or may expire."""
        return database.literal(f"EXISTS (SELECT FROM {self.name} WHERE status = 'sending')")

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


# ---------- fair queue
# The SQL that claims due rows fairly: each lane, such as an integration, gets an equal share of what can be taken.


# Finds every lane with waiting rows (a loose index scan), and of those the ones with due rows. Rows without a lane form
# one of their own. NULL has its own arm, because an index serves `=` and `IS NULL`, but no single condition that covers
# both.
_DUE_LANES = """
WITH RECURSIVE lanes(lane) AS (
  (SELECT {lane} FROM {table} q WHERE {waiting} ORDER BY {lane} LIMIT 1)
  UNION ALL
  SELECT (SELECT {lane} FROM {table} q WHERE {waiting} AND {lane} > l.lane ORDER BY {lane} LIMIT 1)
  FROM lanes l WHERE l.lane IS NOT NULL
), due AS (
  SELECT l.lane, f.is_first FROM lanes l CROSS JOIN (VALUES {ranks}) AS f(is_first) CROSS JOIN LATERAL (
    (SELECT FROM {table} q WHERE {waiting} AND {lane} = l.lane{rank} AND {due} LIMIT 1)
    UNION ALL
    (SELECT FROM {table} q WHERE {waiting} AND l.lane IS NULL AND {lane} IS NULL{rank} AND {due} LIMIT 1)
  ) AS found
)"""

# Then the share of each. Rows locked by another node are skipped.
_CLAIM = """, share AS (
  SELECT ceil(%(free)s::numeric / greatest(1, count(*)))::int AS most
  FROM (SELECT DISTINCT coalesce(lane, 0) FROM due) AS different
), picked AS (
  SELECT p.id, f.lane, f.is_first, p.due_at, s.most,
         row_number() OVER (PARTITION BY f.lane ORDER BY f.is_first DESC, p.due_at) AS place
  FROM share s CROSS JOIN due f CROSS JOIN LATERAL (
    SELECT * FROM (
      SELECT q.id, q.due_at FROM {table} q{join} WHERE {waiting} AND {lane} = f.lane{rank} AND {due}
      ORDER BY q.due_at LIMIT s.most FOR NO KEY UPDATE OF {locked} SKIP LOCKED) a
    UNION ALL
    SELECT * FROM (
      SELECT q.id, q.due_at FROM {table} q{join} WHERE {waiting} AND f.lane IS NULL AND {lane} IS NULL{rank} AND {due}
      ORDER BY q.due_at LIMIT s.most FOR NO KEY UPDATE OF {locked} SKIP LOCKED) b
  ) p
)
SELECT id, lane, most FROM picked WHERE place <= most ORDER BY place, is_first DESC, due_at LIMIT %(free)s
"""


@dataclass(frozen=True, slots=True)
class FairQueue:
    """A table of waiting rows with the columns `id` and `due_at`. Expressions name the table `q`.

    An index on (lane, the first-column descending if there is one, `due_at`) with the condition `waiting` serves it.
    """

    table: str
    #: A column: rows with the same value share what one lane gets.
    lane: str
    #: The condition of the partial index.
    waiting: str
    #: A boolean column: within a lane, its rows come first.
    first: str = ""
    #: A join, and the alias of the table whose rows are locked.
    join: str = ""
    locked: str = "q"

    @property
    def is_due(self) -> LiteralString:
        """The condition, with the parameter `now`, that any row is due."""
        return self._format(f"EXISTS ({_DUE_LANES} SELECT FROM due)")

    def claim_query(self, filters: str = "") -> LiteralString:
        """Returns the query that locks the due rows, the lanes in turn: id, lane, and the share of each lane.

        Its parameters are `now` and `free`, the number of rows that can be taken, and those of `filters`, further
        conditions.
        """
        return self._format(_DUE_LANES + _CLAIM, filters)

    def _format(self, query: str, filters: str = "") -> LiteralString:
        return database.literal(
            query.format(
                table=self.table,
                lane=f"q.{self.lane}",
                waiting=self.waiting,
                ranks="(true), (false)" if self.first else "(true)",
                rank=f" AND q.{self.first} = f.is_first" if self.first else "",
                due=f"q.due_at <= %(now)s {filters}".rstrip(),
                join=f" {self.join}" if self.join else "",
                locked=self.locked,
            )
        )


# ---------- live pool
# What a process keeps open for its configuration: providers, outbound integrations. Reloads when that changes.


#: In seconds. What was replaced is closed after this delay, when its sends in progress have finished.
_CLOSE_DELAY = 120.0


class LivePool[K, T](ABC):
    """Open items by key, as of the configuration that `refresh` last loaded. One per process; read by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = -1
        self._open: dict[K, tuple[str, T]] = {}
        self._loading: dict[K, tuple[str, T]] = {}
        self._retired: list[tuple[float, T]] = []

    def refresh(self, connection: Connection) -> None:
        """Reloads if the configuration version has changed."""
        with self._lock:
            self._close_retired(time.monotonic())
            version = settings_store.current_version(connection)
            if version == self._version:
                return
            self._loading = {}
            self._load(connection)
            for key, (fingerprint, item) in self._open.items():
                if self._loading.get(key, ("", item))[0] != fingerprint:
                    self._retired.append((time.monotonic() + _CLOSE_DELAY, item))
            self._open, self._version = self._loading, version

    def close(self) -> None:
        """Closes every item."""
        with self._lock:
            self._retired += [(0.0, item) for _, item in self._open.values()]
            self._open, self._loading, self._version = {}, {}, -1
            self._close_retired(float("inf"))

    def _reuse_or_open(self, key: K, configuration: object, open_item: Callable[[], T]) -> T:
        """Returns the open item if its configuration is unchanged, so that its connections are kept; else opens a new
        one. For `_load`. `configuration` is JSON.
        """
        fingerprint = json.dumps(configuration, sort_keys=True, default=str)
        existing = self._open.get(key)
        is_unchanged = existing is not None and existing[0] == fingerprint
        self._loading[key] = existing if is_unchanged and existing is not None else (fingerprint, open_item())
        return self._loading[key][1]

    def _close_retired(self, now: float) -> None:
        for _, item in [pair for pair in self._retired if pair[0] <= now]:
            self._close_item(item)
        self._retired = [pair for pair in self._retired if pair[0] > now]

    @abstractmethod
    def _load(self, connection: Connection) -> None:
        """Opens all items of the current configuration by `_reuse_or_open`."""

    @abstractmethod
    def _close_item(self, item: T) -> None:
        """Closes the connections of one item."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadline[J, R]:
    """How many seconds a job may run before it counts as lost, and the result that it then gets."""

    seconds: Callable[[J], float]
    result: Callable[[J], R]
    #: Returns monotonic seconds.
    elapsed: Callable[[], float] = time.monotonic


@dataclass(slots=True, eq=False)
class _Task[J]:
    """One run of a job. A key may be started again while an earlier task of the same key still hangs."""

    job: J
    started_at: float


class JobPool[K, J, R]:
    """The jobs that this process has in flight, at most `slots` at a time."""

    def __init__(
        self,
        name: str,
        slots: int,
        *,
        key: Callable[[J], K],
        work: Callable[[J], R],
        write: Callable[[Sequence[R]], None],
        salvage: Callable[[R], None],
        deadline: Deadline[J, R] | None = None,
    ) -> None:
        """`key` identifies a job; `name` names the threads and appears in the log.

        `work` runs one job in a thread. A job that raises, such as LeaseLost, is dropped, as if this process had died,
        and its lease expires. `write` stores several results in one transaction, and may be called again with the same
        results. `salvage` stores the minimum about a result that `write` cannot store. A job past its `deadline` gets
        the deadline's result, and a new thread replaces the one that hangs.
        """
        self._name = name
        self._slots = slots
        self._key = key
        self._work = work
        self._write = write
        self._salvage = salvage
        self._deadline = deadline
        self._threads = DaemonThreads(slots, name)
        self._changed = threading.Condition()
        #: The running tasks, including those past their deadline.
        self._tasks: set[_Task[J]] = set()
        self._stuck: set[_Task[J]] = set()
        #: Jobs that are running, or finished with a result not yet stored.
        self._jobs: dict[K, J] = {}
        self._results: dict[K, R] = {}
        self._writing = threading.Lock()
        self._batches = BatchRunner[K](f"Results of {name}", slots, slots, caught=(DataError, IntegrityError))

    def free_slots(self) -> int:
        """Returns how many more jobs may start."""
        with self._changed:
            return self._slots - len(self._jobs)

    def jobs(self) -> list[J]:
        """Returns the jobs that are running, or whose results are not yet stored."""
        with self._changed:
            return list(self._jobs.values())

    def stuck(self, min_seconds: float = 0) -> list[J]:
        """Returns the jobs past their deadline whose threads still hang, those that run for `min_seconds` or more."""
        latest = (self._deadline.elapsed() if self._deadline else 0) - min_seconds
        with self._changed:
            return [task.job for task in self._stuck if task.started_at <= latest]

    def start(self, jobs: Iterable[J]) -> None:
        """Starts jobs that this process has claimed."""
        now = self._deadline.elapsed() if self._deadline else 0.0
        tasks = {self._key(job): _Task(job, now) for job in jobs}
        with self._changed:
            self._jobs |= {key: task.job for key, task in tasks.items()}
            self._tasks |= set(tasks.values())
        for task in tasks.values():
            self._threads.submit(partial(self._run, task))

    def end_overdue(self) -> None:
        """Ends the jobs past their deadline. Their threads are abandoned and replaced."""
        if self._deadline is None:
            return
        now, seconds = self._deadline.elapsed(), self._deadline.seconds
        with self._changed:
            overdue = [task for task in self._tasks - self._stuck if now - task.started_at >= seconds(task.job)]
            self._stuck |= set(overdue)
            self._results |= {self._key(task.job): self._deadline.result(task.job) for task in overdue}
            self._threads.grow(len(overdue))
            self._changed.notify_all()
        for task in overdue:
            log.error("%s of %s is past its deadline; its thread is abandoned.", self._key(task.job), self._name)

    def store_results(self) -> None:
        """Stores one batch of the results that have arrived, after those that another thread is storing."""
        with self._writing:
            self._store()
        # The others are left to a thread of the pool: the caller has more to do.
        if self._results:
            self._threads.submit(self._store_arriving)

    def _store_arriving(self) -> None:
        """Stores results until none is left. A thread that finds another one at it leaves its result to that one, and
        is free for the next job."""
        try:
            while self._results and self._writing.acquire(blocking=False):
                try:
                    self._store()
                finally:
                    self._writing.release()
        except Exception:  # the thread's outermost handler: the next run stores it
            log.exception("What came of %d jobs of %s could not be written down yet.", len(self._results), self._name)

    def _store(self) -> bool:
        """Stores one batch of results. Returns whether there are more of those that had arrived."""
        with self._changed:
            results = dict(self._results)
        if not results:
            return False

        def write(batch: Batch[K]) -> bool:
            has_more = not batch.keys and len(results) > batch.limit
            batch.keys = batch.keys or list(results)[: batch.limit]
            self._write([results[key] for key in batch.keys])
            self._remove(batch.keys)
            return has_more

        def salvage(key: K, error: Exception) -> None:
            log.error("What came of %s of %s cannot be written down.", key, self._name, exc_info=error)
            self._salvage(results[key])
            self._remove([key])

        return self._batches.run(write, salvage)

    def wait_until(self, condition: Callable[[list[J]], bool], timeout: float) -> bool:
        """Waits until `condition` holds for the jobs in flight, for at most `timeout` seconds. Returns False on
        timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(list(self._jobs.values())), timeout)

    def settle(self, timeout: float | None = None) -> None:
        """Waits until all jobs have finished, or for `timeout` seconds, and stores the results that have arrived."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) == len(self._jobs), timeout)
        while self._results:
            self.store_results()

    def close(self, timeout: float) -> None:
        """Settles the jobs in flight and starts no more."""
        self.settle(timeout)
        self._threads.stop()

    def _run(self, task: _Task[J]) -> None:
        key = self._key(task.job)
        with self._changed:
            # The task passed its deadline in the queue and already has a result, so it must not start.
            if task in self._stuck:
                self._finish(task)
                return
        try:
            result = self._work(task.job)
        except Exception as error:  # the thread's outermost handler: the job's lease expires, and a claim retries it
            if isinstance(error, LeaseLost):
                log.warning("%s of %s is left to another process: its lease is lost.", key, self._name)
            else:
                log.exception("%s of %s broke.", key, self._name)
            if not self._finish(task):
                self._remove([key])
            return
        with self._changed:
            is_late = self._finish(task)
            if not is_late:
                self._results[key] = result
            self._changed.notify_all()
        if not is_late:
            self._store_arriving()
            return
        try:
            # The minimum that is certain, because the job may be running again.
            self._salvage(result)
        except Exception:  # the thread's outermost handler: the deadline's result remains
            log.exception("The late result of %s of %s could not be written.", key, self._name)

    def _finish(self, task: _Task[J]) -> bool:
        """Ends a task. Returns True if it was past its deadline, so that its job already has a result."""
        with self._changed:
            self._tasks.discard(task)
            is_late = task in self._stuck
            if is_late:
                self._stuck.discard(task)
                self._threads.shrink(1)
            return is_late

    def _remove(self, keys: Iterable[K]) -> None:
        with self._changed:
            for key in keys:
                self._results.pop(key, None)
                del self._jobs[key]
            self._changed.notify_all()
