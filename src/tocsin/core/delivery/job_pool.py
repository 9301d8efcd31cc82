"""Runs claimed jobs in threads, outside of any transaction, and stores their results as they arrive.

Results that arrive together are stored in one transaction. A result that cannot be stored does not affect the others. A
job counts as in flight until its result is stored, so that its lease is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg.errors import DataError, IntegrityError

from tocsin.core.db.split_batch import Batch, BatchRunner
from tocsin.core.delivery.lease import LeaseLost
from tocsin.core.runtime.daemon_threads import DaemonThreads

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
        """Stores the results that have arrived, after those that another thread is storing."""
        with self._writing:
            while self._store():
                pass
        # What arrived meanwhile was left to this thread, which has more to do.
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

        return self._batches.run(write, lambda key, error: self._not_written(key, results[key], error))

    def wait_until(self, condition: Callable[[list[J]], bool], timeout: float) -> bool:
        """Waits until `condition` holds for the jobs in flight, for at most `timeout` seconds. Returns False on
        timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(list(self._jobs.values())), timeout)

    def settle(self, timeout: float | None = None) -> None:
        """Waits until all jobs have finished, or for `timeout` seconds, and stores the results that have arrived."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) == len(self._jobs), timeout)
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
        if is_late:
            self._salvage_late(key, result)
            return
        self._store_arriving()

    def _finish(self, task: _Task[J]) -> bool:
        """Ends a task. Returns True if it was past its deadline, so that its job already has a result."""
        with self._changed:
            self._tasks.discard(task)
            is_late = task in self._stuck
            if is_late:
                self._stuck.discard(task)
                self._threads.shrink(1)
            return is_late

    def _salvage_late(self, key: K, result: R) -> None:
        """Stores the minimum that is certain, because the job may be running again."""
        try:
            self._salvage(result)
        except Exception:  # the thread's outermost handler: the deadline's result remains
            log.exception("The late result of %s of %s could not be written.", key, self._name)

    def _not_written(self, key: K, result: R, error: Exception) -> None:
        log.error("What came of %s of %s cannot be written down.", key, self._name, exc_info=error)
        self._salvage(result)
        self._remove([key])

    def _remove(self, keys: Iterable[K]) -> None:
        with self._changed:
            for key in keys:
                self._results.pop(key, None)
                del self._jobs[key]
            self._changed.notify_all()
