"""A pool of daemon threads, so that hanging work never keeps a process from exiting.

`concurrent.futures` joins its threads at exit and cannot replace a thread that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from datetime import timedelta
from functools import partial
from queue import SimpleQueue


class DaemonThreads:
    """At most `size` threads at a time, started on demand."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        #: Number of tasks submitted and not yet finished.
        self._unfinished = 0
        self._is_stopped = False

    def submit(self, task: Callable[[], None]) -> None:
        """Runs `task` in a thread. `task` must not raise. Does nothing after `stop`."""
        with self._lock:
            if self._is_stopped:
                return
            self._unfinished += 1
            is_needed = self._threads < min(self._size, self._unfinished)
            self._threads += is_needed
        self._tasks.put(task)
        if is_needed:
            self._start()

    def grow(self, count: int) -> None:
        """Allows `count` more threads, in place of threads that hang, and starts them if tasks are waiting."""
        with self._lock:
            self._size += count
            missing = max(0, min(self._size, self._unfinished) - self._threads)
            self._threads += missing
        for _ in range(missing):
            self._start()

    def shrink(self, count: int) -> None:
        """Reverts a `grow`: surplus threads exit after their current task."""
        with self._lock:
            self._size -= count

    def stop(self) -> None:
        """Drops tasks that have not started. Each thread exits after its current task."""
        with self._lock:
            self._is_stopped = True
            for _ in range(self._threads):
                self._tasks.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            if not self._is_stopped:
                task()
            with self._lock:
                self._unfinished -= 1
                if self._threads > self._size:
                    self._threads -= 1
                    return


#: The maximum number of calls of `run_in_time` at the same time.
_MAX_PARALLEL = 32


def run_in_time[T](calls: Mapping[str, Callable[[], T]], deadline: timedelta, *, name: str) -> dict[str, Future[T]]:
    """Runs the calls in parallel, and returns their futures once all are done, or after `deadline` at most. The process
    does not wait at its exit for those that go on."""
    threads = DaemonThreads(_MAX_PARALLEL, name)
    futures: dict[str, Future[T]] = {key: Future() for key in calls}
    for key, call in calls.items():
        threads.submit(partial(_complete, futures[key], call))
    wait(futures.values(), deadline.total_seconds())
    threads.stop()
    return futures


def start_call[T](call: Callable[[], T], *, name: str) -> Future[T]:
    """Starts a call in a thread of its own. The process does not wait at its exit for one that goes on."""
    future: Future[T] = Future()
    threading.Thread(target=_complete, args=(future, call), name=name, daemon=True).start()
    return future


def _complete[T](future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - the caller gets it
        future.set_exception(error)
