"""The loops of a worker: a thread each, woken by hints and by the clock, that one failing turn does not stop."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tocsin.core.db import database

log = logging.getLogger(__name__)

#: After a turn that failed, the next one waits this long at least.
PAUSE_AFTER_FAILURE = timedelta(seconds=1)

#: A loop that could not use the database tries again after this long at most, however seldom it turns.
RETRY_DATABASE_WITHIN = timedelta(seconds=3)

#: A loop whose thread died this often within `DEATH_WINDOW` fails `/healthz`.
MAX_DEATHS = 2
DEATH_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """What a worker repeats.

    `turn` does one batch and returns True when there may be more to do at once; it opens and ends its own
    transactions. It runs at least each `every`, and when a hint names one of `topics`.
    """

    name: str
    turn: Callable[[], bool]
    every: timedelta
    topics: frozenset[str] = frozenset()


class Worker:
    """Runs loops until told to stop, and knows when each last turned."""

    def __init__(self, loops: Iterable[PeriodicTask]) -> None:
        self.loops = tuple(loops)
        self.turned_at: dict[str, datetime] = {}
        self._wake = {loop.name: threading.Event() for loop in self.loops}
        self._stop = threading.Event()
        self.threads: dict[str, threading.Thread] = {}
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)

    def start(self) -> None:
        """Starts a thread for each loop."""
        for loop in self.loops:
            self.turned_at[loop.name] = datetime.now(UTC)
            self._spawn(loop)

    def wake(self, topics: Iterable[str]) -> None:
        """Has the loops that wait for one of `topics` turn at once."""
        named = frozenset(topics)
        for loop in self.loops:
            if loop.topics & named:
                self._wake[loop.name].set()

    def stop(self, timeout: float) -> None:
        """Lets each loop end its turn, for `timeout` seconds at most."""
        self._stop.set()
        for event in self._wake.values():
            event.set()
        end = time.monotonic() + timeout
        for thread in self.threads.values():
            thread.join(max(0.0, end - time.monotonic()))

    def revive(self) -> None:
        """Starts again each loop whose thread died."""
        for loop in self.loops:
            if not self.threads[loop.name].is_alive() and not self._stop.is_set():
                log.error("The loop %s died and is started again.", loop.name)
                self._deaths.append(time.monotonic())
                self._spawn(loop)

    def is_healthy(self) -> bool:
        """False when loops died twice within a minute."""
        if len(self._deaths) < MAX_DEATHS:
            return True
        return time.monotonic() - self._deaths[0] > DEATH_WINDOW.total_seconds()

    def _spawn(self, loop: PeriodicTask) -> None:
        thread = threading.Thread(target=self._run, args=(loop,), name=f"loop {loop.name}", daemon=True)
        self.threads[loop.name] = thread
        thread.start()

    def _run(self, loop: PeriodicTask) -> None:
        wake = self._wake[loop.name]
        while not self._stop.is_set():
            wake.clear()
            wait = loop.every
            try:
                if loop.turn():
                    wait = timedelta()
                self.turned_at[loop.name] = datetime.now(UTC)
            except Exception as error:  # a loop's edge: one bad turn must not end the loop
                if database.is_unavailable(error):
                    log.warning("The loop %s waits for the database: %s", loop.name, error)
                    wait = min(wait, RETRY_DATABASE_WITHIN)
                else:
                    log.exception("A turn of the loop %s failed.", loop.name)
                self._stop.wait(PAUSE_AFTER_FAILURE.total_seconds())
            if wait:
                wake.wait(wait.total_seconds())
