"""What a process has claimed and does outside of any transaction: done in threads, and written down as it comes back.

Many results that come together are written in one transaction. One that cannot be written hurts no other. Until it is
written down, a job counts as on its way, so that its lease is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg.errors import DataError, IntegrityError

from tocsin.core.db import database
from tocsin.core.runtime.daemon_threads import DaemonThreads

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadline[J, R]:
    """How long a job may take before it counts as lost, and the result that it then has."""

    seconds: float
    result: Callable[[J], R]
    #: A monotonic clock.
    elapsed: Callable[[], float] = time.monotonic


@dataclass(slots=True, eq=False)
class _Task[J]:
    """One start of a job. A key may be started again while an earlier task of it still hangs."""

    job: J
    started_at: float


class JobPool[K, J, R]:
    """The jobs of one process that are on their way, at most `slots` at a time."""

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
        """`key` tells jobs apart. `work` does one, in a thread; one that breaks is forgotten, as if this process had
        ended with it. `write` writes what came of several, in a transaction, and may be called again for the same;
        `salvage` the least there is to say of one that `write` cannot write. `name` is the threads' and the log's.
        After its `deadline` a job ends with the deadline's result, and a new thread replaces the one that hangs."""
        self._name = name
        self._slots = slots
        self._key = key
        self._work = work
        self._write = write
        self._salvage = salvage
        self._deadline = deadline
        self._threads = DaemonThreads(slots, name)
        self._changed = threading.Condition()
        #: The running tasks, with those that are past their deadline.
        self._tasks: set[_Task[J]] = set()
        self._stuck: set[_Task[J]] = set()
        #: What is on its way, or done and not yet written down.
        self._jobs: dict[K, J] = {}
        self._results: dict[K, R] = {}
        self._writing = threading.Lock()

    def free(self) -> int:
        """How many more jobs may begin."""
        with self._changed:
            return self._slots - len(self._jobs)

    def jobs(self) -> list[J]:
        """What is on its way, or not yet written down."""
        with self._changed:
            return list(self._jobs.values())

    def stuck(self) -> list[J]:
        """The jobs past their deadline whose threads still hang."""
        with self._changed:
            return [task.job for task in self._stuck]

    def begin(self, jobs: Iterable[J]) -> None:
        """Begins jobs that this process has claimed."""
        now = self._deadline.elapsed() if self._deadline else 0.0
        begun = {self._key(job): _Task(job, now) for job in jobs}
        with self._changed:
            self._jobs |= {key: task.job for key, task in begun.items()}
            self._tasks |= set(begun.values())
        for task in begun.values():
            self._threads.submit(partial(self._do, task))

    def end_overdue(self) -> None:
        """Ends the jobs that are past their deadline: their thread is abandoned, and another takes its place."""
        if self._deadline is None:
            return
        latest = self._deadline.elapsed() - self._deadline.seconds
        with self._changed:
            overdue = [task for task in self._tasks - self._stuck if task.started_at <= latest]
            self._stuck |= set(overdue)
            self._results |= {self._key(task.job): self._deadline.result(task.job) for task in overdue}
            self._threads.grow(len(overdue))
            self._changed.notify_all()
        for task in overdue:
            log.error("%s of %s is past its deadline; its thread is abandoned.", self._key(task.job), self._name)

    def write_down(self) -> None:
        """Writes what has come in. While one thread writes, others wait here and leave theirs to the next write."""
        with self._writing:
            with self._changed:
                results = dict(self._results)
            if not results:
                return
            try:
                database.retry_once(lambda: self._write(list(results.values())))
            except (DataError, IntegrityError):
                # One of them cannot be written: alone, it hurts no other.
                self._write_each(results)
            self._forget(results)

    def wait_until(self, is_so: Callable[[list[J]], bool], timeout: float) -> bool:
        """Waits until `is_so` of the jobs on their way, for `timeout` seconds at most; False when it never was."""
        with self._changed:
            return self._changed.wait_for(lambda: is_so(list(self._jobs.values())), timeout)

    def settle(self, timeout: float | None = None) -> None:
        """Returns when nothing is on its way any more, or after `timeout` seconds; what came in is written down."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) == len(self._jobs), timeout)
        self.write_down()

    def close(self, timeout: float) -> None:
        """Settles, and begins nothing any more."""
        self.settle(timeout)
        self._threads.stop()

    def _do(self, task: _Task[J]) -> None:
        key = self._key(task.job)
        with self._changed:
            # It waited in the queue until its deadline, and has a result: it must not begin now.
            if task in self._stuck:
                self._finish(task)
                return
        try:
            result = self._work(task.job)
        except Exception:  # a thread's edge: the job's lease runs out, and whoever takes it up tries again
            log.exception("%s of %s broke.", key, self._name)
            if not self._finish(task):
                self._forget([key])
            return
        with self._changed:
            is_late = self._finish(task)
            if not is_late:
                self._results[key] = result
            self._changed.notify_all()
        if is_late:
            self._salvage_late(key, result)
            return
        try:
            self.write_down()
        except Exception:  # a thread's edge: the next turn writes it down
            log.exception("What came of %d jobs of %s could not be written down yet.", len(self._results), self._name)

    def _finish(self, task: _Task[J]) -> bool:
        """Ends a task. True if it was past its deadline: its job has a result already."""
        with self._changed:
            self._tasks.discard(task)
            is_late = task in self._stuck
            if is_late:
                self._stuck.discard(task)
                self._threads.shrink(1)
            return is_late

    def _salvage_late(self, key: K, result: R) -> None:
        """A job may be in progress again; only the least that is certain is written."""
        try:
            self._salvage(result)
        except Exception:  # a thread's edge: the deadline's result stays
            log.exception("The late result of %s of %s could not be written.", key, self._name)

    def _write_each(self, results: Mapping[K, R]) -> None:
        for key, result in results.items():
            try:
                self._write([result])
            except (DataError, IntegrityError):
                log.exception("What came of %s of %s cannot be written down.", key, self._name)
                self._salvage(result)

    def _forget(self, done: Iterable[K]) -> None:
        with self._changed:
            for key in done:
                self._results.pop(key, None)
                del self._jobs[key]
            self._changed.notify_all()
