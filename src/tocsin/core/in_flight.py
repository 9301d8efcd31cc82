"""What a process has claimed and does outside of any transaction: done in threads, and written down as it comes back.

Many results that come together are written in one transaction. One that cannot be written hurts no other. Until it is
written down, a job counts as on its way, so that its lease is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from psycopg.errors import DataError, IntegrityError

from tocsin.core import database

log = logging.getLogger(__name__)


class InFlight[K, J, R]:
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
    ) -> None:
        """`key` tells jobs apart. `work` does one, in a thread; one that breaks is forgotten, as if this process had
        ended with it. `write` writes what came of several, in a transaction, and may be called again for the same;
        `salvage` the least there is to say of one that `write` cannot write. `name` is the threads' and the log's."""
        self._name = name
        self._slots = slots
        self._key = key
        self._work = work
        self._write = write
        self._salvage = salvage
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=name)
        self._changed = threading.Condition()
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

    def begin(self, jobs: Iterable[J]) -> None:
        """Begins jobs that this process has claimed."""
        begun = {self._key(job): job for job in jobs}
        with self._changed:
            self._jobs |= begun
        for job in begun.values():
            self._threads.submit(self._do, job)

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
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _do(self, job: J) -> None:
        try:
            result = self._work(job)
        except Exception:  # a thread's edge: the job's lease runs out, and whoever takes it up tries again
            log.exception("%s of %s broke.", self._key(job), self._name)
            self._forget([self._key(job)])
            return
        with self._changed:
            self._results[self._key(job)] = result
            self._changed.notify_all()
        try:
            self.write_down()
        except Exception:  # a thread's edge: the next turn writes it down
            log.exception("What came of %d jobs of %s could not be written down yet.", len(self._results), self._name)

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
