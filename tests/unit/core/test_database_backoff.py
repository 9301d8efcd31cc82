"""However long the database was away, its return is noticed within five seconds."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import psycopg
from psycopg_pool.base import AttemptWithBackoff

from tocsin import node, web_process
from tocsin.core.db import database, start_up
from tocsin.core.runtime import child_process
from tocsin.core.runtime.periodic_tasks import PeriodicTask, Worker

MAX_SECONDS = 5.0

#: Seconds that the database is away.
AWAY = 180.0


class FakeClock:
    """Stands for the events that a worker waits for: each wait only moves the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def is_set(self) -> bool:
        return self.now > AWAY

    def clear(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        self.now += seconds


def longest_gap(moments: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(moments))


def test_pool_reconnects_within_five_seconds_after_minutes() -> None:
    now, moments = 0.0, [0.0]
    while now < AWAY:
        attempt = AttemptWithBackoff(timeout=database.RECONNECT_SECONDS)
        # The pool begins a new series of attempts as soon as a task asks for a connection.
        while not attempt.time_to_give_up(now):
            attempt.update_delay(now)
            now += attempt.delay
            moments.append(now)
    assert longest_gap(moments) <= MAX_SECONDS


def test_task_of_an_hour_retries_within_five_seconds() -> None:
    clock, moments = FakeClock(), []

    def run_once() -> bool:
        moments.append(clock.now)
        raise psycopg.OperationalError("away")

    task = PeriodicTask("hourly", run_once, timedelta(hours=1))
    worker = Worker([task])
    worker._stop = worker._wake["hourly"] = clock  # type: ignore[assignment]
    worker._run(task)
    assert longest_gap(moments) <= MAX_SECONDS


def test_every_other_pause_is_shorter_than_five_seconds() -> None:
    pauses = (node.POLL_SECONDS, web_process.POLL, child_process.RESTART_DELAY_SECONDS, start_up.RETRY_SECONDS)
    assert max(pauses) <= MAX_SECONDS
