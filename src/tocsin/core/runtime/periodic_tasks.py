"""Runs the periodic tasks of a worker, a thread each, woken by hints and timers. A failed run never ends a task."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import LiteralString

from tocsin.core.db import database
from tocsin.core.runtime import clock

# ---------- daemon threads
# A pool of daemon threads, so that hanging work never keeps a process from exiting.
#
# `concurrent.futures` joins its threads at exit and cannot replace a thread that hangs.


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


# ---------- cpu affinity
# Keeps two threads that alternate in holding the interpreter on one CPU while both are busy.
#
# Only one thread of a process runs Python at a time. On two CPUs, each switch wakes the other CPU with cold caches,
# and takes CPU time from the database.


#: Seconds for which two threads stay on one CPU before the kernel places them again.
MIN_STAY_SECONDS = 10.0
#: Seconds that the kernel has to place them.
PLACEMENT_SECONDS = 0.05

#: The CPUs this process may use, as set when it was started. Empty on systems without CPU affinity.
_ALLOWED_CPUS = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset[int]()


def allow_all_cpus(thread: int = 0) -> None:
    """Lets a thread of this process run on every allowed CPU: the calling one, or the one with this native id. A new
    thread inherits the CPUs of the thread that starts it."""
    _pin(thread, _ALLOWED_CPUS)


class SharedCpu:
    """Makes the calling thread share the CPU of another thread, the leader.

    The kernel chooses the CPU. From time to time both threads are released for a moment and then pinned to the leader's
    CPU again, so that the kernel can move the leader away from a CPU that has become busy.
    """

    def __init__(self, leader: int, now: Callable[[], float] = time.monotonic) -> None:
        """`leader` is the native id of a thread of this process; `now` returns monotonic seconds."""
        self._leader = leader
        self._now = now
        self._is_pinned = False
        #: When the placement is next changed.
        self._due = 0.0

    def share(self) -> None:
        """Keeps both threads on one CPU. Call it often while both are busy."""
        now = self._now()
        if now < self._due or len(_ALLOWED_CPUS) < 2:
            return
        if self._due and not self._is_pinned:
            self._is_pinned = True
            cpus = {_current_cpu(self._leader)} & _ALLOWED_CPUS or _ALLOWED_CPUS
            _pin(self._leader, cpus)
            _pin(0, cpus)
            self._due = now + MIN_STAY_SECONDS
        else:
            self.release()
            self._due = now + PLACEMENT_SECONDS

    def release(self) -> None:
        """Releases both threads, because one of them is idle."""
        self._due = 0.0
        if self._is_pinned:
            self._is_pinned = False
            allow_all_cpus(self._leader)
            allow_all_cpus()


def _pin(thread: int, cpus: frozenset[int] | set[int]) -> None:
    # The thread may have ended, and the system may forbid pinning. Both are harmless.
    if cpus:
        with suppress(OSError):
            os.sched_setaffinity(thread, cpus)


def _current_cpu(thread: int) -> int:
    """Returns the CPU on which a thread of this process last ran (proc_pid_stat(5), field 39); -1 if unavailable."""
    try:
        return int(Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return -1


log = logging.getLogger(__name__)

#: Minimum delay after a failed run.
PAUSE_AFTER_FAILURE = timedelta(seconds=1)

#: Maximum delay before a task retries after a database failure, however long its interval is.
RETRY_DATABASE_WITHIN = timedelta(seconds=3)

#: A worker fails `/healthz` when this many task threads died within DEATH_WINDOW.
MAX_DEATHS = 2
DEATH_WINDOW = timedelta(minutes=1)


#: How often one statement asks for all tasks whether they have anything to do.
TICK = timedelta(milliseconds=500)

#: How often a task runs that has nothing to do, in case its condition has overlooked something.
IDLE_INTERVAL = timedelta(seconds=10)

#: An answer that takes longer is not waited for: a lock on the table of one task must not hold up the others.
MAX_ANSWER = timedelta(seconds=2)

#: The name of the task that asks.
TIMERS_TASK = "timers"


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """A task that a worker repeats.

    `run_once` processes one batch in its own transactions, and returns True if more work may be waiting. It runs at
    least once per `interval`, and when a hint names one of `topics`.

    A task with a condition `due` runs that often only while there is something to do, else every IDLE_INTERVAL.
    """

    name: str
    run_once: Callable[[], bool]
    interval: timedelta
    topics: frozenset[str] = frozenset()
    #: In SQL, with the parameter `now`: whether the database has something to do for it.
    due: LiteralString = ""
    #: Whether this process itself has something to do for it, such as results to store.
    is_busy: Callable[[], bool] = bool


class Worker:
    """Runs periodic tasks until it is stopped, and records when each last ran, by a clock that nobody sets.

    Tasks that each ask the database twice a second keep a node at rest awake: one task asks for all of them.
    """

    def __init__(self, tasks: Iterable[PeriodicTask]) -> None:
        self.tasks = tuple(tasks)
        self._asked = tuple(task for task in self.tasks if task.due)
        self._conditions = database.literal(f"SELECT {', '.join(task.due for task in self._asked)}")
        if self._asked:
            self.tasks += (PeriodicTask(TIMERS_TASK, self._wake_due, TICK),)
        self._last_run_at: dict[str, float] = {}
        self._wake = {task.name: threading.Event() for task in self.tasks}
        self._stop = threading.Event()
        self.threads: dict[str, threading.Thread] = {}
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)

    def start(self) -> None:
        """Starts a thread for each task."""
        for task in self.tasks:
            self.record_run(task.name)
            self._spawn(task)

    def wake(self, topics: Iterable[str]) -> None:
        """Runs the tasks that subscribe to one of `topics` at once."""
        woken_topics = frozenset(topics)
        for task in self.tasks:
            if task.topics & woken_topics:
                self._wake[task.name].set()

    def stop(self, timeout: float) -> None:
        """Lets each task finish its run, for at most `timeout` seconds in total."""
        self._stop.set()
        for event in self._wake.values():
            event.set()
        end = time.monotonic() + timeout
        for thread in self.threads.values():
            thread.join(max(0.0, end - time.monotonic()))

    def supervise(self) -> None:
        """Restarts each task whose thread died. Runs the asked tasks while the answer to what is due is late."""
        since_answer = self.since_run(TIMERS_TASK)
        if since_answer is not None and since_answer > MAX_ANSWER:
            self._wake_those([True] * len(self._asked))
        for task in self.tasks:
            if not self.threads[task.name].is_alive() and not self._stop.is_set():
                log.error("The loop %s died and is started again.", task.name)
                self._deaths.append(time.monotonic())
                self._spawn(task)

    def is_healthy(self) -> bool:
        """Returns False if MAX_DEATHS task threads died within DEATH_WINDOW."""
        if len(self._deaths) < MAX_DEATHS:
            return True
        return time.monotonic() - self._deaths[0] > DEATH_WINDOW.total_seconds()

    def record_run(self, name: str) -> None:
        """Records that a task has just finished a run."""
        self._last_run_at[name] = time.monotonic()

    def since_run(self, name: str) -> timedelta | None:
        """Returns how long ago a task last finished a run, or was started; None if it was not."""
        at = self._last_run_at.get(name)
        return timedelta(seconds=time.monotonic() - at) if at is not None else None

    def _is_rested(self, task: PeriodicTask) -> bool:
        """Returns whether a task ran about an interval ago: rather half a tick early than late."""
        since_run = self.since_run(task.name)
        return since_run is None or since_run >= task.interval - TICK / 2

    def _wake_due(self) -> bool:
        """Runs the tasks that have something to do. If it cannot be asked which, all of them run."""
        is_due: Iterable[bool] = [True] * len(self._asked)
        try:
            with database.connection() as connection:
                is_due = connection.execute(self._conditions, {"now": clock.now()}).fetchone() or is_due
        finally:
            self._wake_those(is_due)
        return False

    def _wake_those(self, is_due: Iterable[bool]) -> None:
        for task, has_rows in zip(self._asked, is_due, strict=True):
            if (has_rows or task.is_busy()) and self._is_rested(task):
                self._wake[task.name].set()

    def _spawn(self, task: PeriodicTask) -> None:
        thread = threading.Thread(target=self._run, args=(task,), name=f"loop {task.name}", daemon=True)
        thread.start()
        self.threads[task.name] = thread

    def _run(self, task: PeriodicTask) -> None:
        wake_event = self._wake[task.name]
        while not self._stop.is_set():
            wake_event.clear()
            wait = IDLE_INTERVAL if task.due else task.interval
            try:
                if task.run_once():
                    wait = timedelta()
                self.record_run(task.name)
            except Exception as error:  # the task's outermost handler: one failed run must not end the task
                if database.is_unavailable(error):
                    log.warning("The loop %s waits for the database: %s", task.name, error)
                    wait = min(wait, RETRY_DATABASE_WITHIN)
                else:
                    log.exception("A turn of the loop %s failed.", task.name)
                self._stop.wait(PAUSE_AFTER_FAILURE.total_seconds())
            if wait:
                wake_event.wait(wait.total_seconds())
