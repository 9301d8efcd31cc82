"""Runs the periodic tasks of a worker, a thread each, woken by hints and timers. A failed run never ends a task."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from tocsin.core.db import database

log = logging.getLogger(__name__)

#: Minimum delay after a failed run.
PAUSE_AFTER_FAILURE = timedelta(seconds=1)

#: Maximum delay before a task retries after a database failure, however long its interval is.
RETRY_DATABASE_WITHIN = timedelta(seconds=3)

#: A worker fails `/healthz` when this many task threads died within DEATH_WINDOW.
MAX_DEATHS = 2
DEATH_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """A task that a worker repeats.

    `run_once` processes one batch in its own transactions, and returns True if more work may be waiting. It runs at
    least once per `interval`, and when a hint names one of `topics`.
    """

    name: str
    run_once: Callable[[], bool]
    interval: timedelta
    topics: frozenset[str] = frozenset()


class Worker:
    """Runs periodic tasks until it is stopped, and records when each last ran, by a clock that nobody sets."""

    def __init__(self, tasks: Iterable[PeriodicTask]) -> None:
        self.tasks = tuple(tasks)
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

    def restart_dead(self) -> None:
        """Restarts each task whose thread died."""
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

    def _spawn(self, task: PeriodicTask) -> None:
        thread = threading.Thread(target=self._run, args=(task,), name=f"loop {task.name}", daemon=True)
        thread.start()
        self.threads[task.name] = thread

    def _run(self, task: PeriodicTask) -> None:
        wake_event = self._wake[task.name]
        while not self._stop.is_set():
            wake_event.clear()
            wait = task.interval
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
