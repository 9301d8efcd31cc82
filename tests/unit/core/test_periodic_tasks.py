"""Periodic tasks: woken by hints, not stopped by a failing run, restarted after a crash."""

from __future__ import annotations

import threading
from datetime import timedelta

import psycopg
import pytest

from tocsin.core.db import database
from tocsin.core.runtime import periodic_tasks
from tocsin.core.runtime.periodic_tasks import IDLE_INTERVAL, TICK, PeriodicTask, Worker

HOUR = timedelta(hours=1)


def test_a_hint_wakes_only_the_loops_that_wait_for_it() -> None:
    woken, other = threading.Semaphore(0), threading.Semaphore(0)

    def turn(mark: threading.Semaphore) -> bool:
        mark.release()
        return False

    worker = Worker(
        [
            PeriodicTask("one", lambda: turn(woken), HOUR, frozenset({"runs"})),
            PeriodicTask("two", lambda: turn(other), HOUR, frozenset({"outbox"})),
        ]
    )
    worker.start()
    assert woken.acquire(timeout=5)  # each turns once at the start
    assert other.acquire(timeout=5)
    worker.wake({"runs"})
    assert woken.acquire(timeout=5)
    assert not other.acquire(blocking=False)
    worker.stop(5)


def test_task_with_remaining_work_runs_again_immediately() -> None:
    rounds = threading.Semaphore(0)
    remaining = iter([True, True, False])

    def turn() -> bool:
        rounds.release()
        return next(remaining, False)

    worker = Worker([PeriodicTask("busy", turn, HOUR)])
    worker.start()
    assert all(rounds.acquire(timeout=5) for _ in range(3))
    worker.stop(5)


def test_failing_run_does_not_stop_the_task() -> None:
    rounds = threading.Semaphore(0)

    def turn() -> bool:
        rounds.release()
        raise ValueError("one bad row")

    worker = Worker([PeriodicTask("failing", turn, timedelta(milliseconds=1))])
    worker.start()
    assert rounds.acquire(timeout=5)
    assert rounds.acquire(timeout=10)
    assert worker.is_healthy()
    worker.stop(5)


def test_a_loop_without_database_tries_again_within_seconds() -> None:
    rounds = threading.Semaphore(0)

    def turn() -> bool:
        rounds.release()
        raise psycopg.OperationalError("the connection is closed")

    worker = Worker([PeriodicTask("seldom", turn, HOUR)])
    worker.start()
    assert rounds.acquire(timeout=5)
    assert rounds.acquire(timeout=10)
    worker.stop(5)


def test_conditions_that_cannot_be_asked_run_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = threading.Semaphore(0)

    def turn() -> bool:
        rounds.release()
        return False

    def fail() -> None:
        raise psycopg.OperationalError("the connection is closed")

    monkeypatch.setattr(database, "connection", fail)
    worker = Worker([PeriodicTask("asked", turn, TICK, due="false")])
    worker.start()
    assert all(rounds.acquire(timeout=IDLE_INTERVAL.total_seconds() / 2) for _ in range(2))
    worker.stop(5)


def test_late_answer_about_what_is_due_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, answer = threading.Semaphore(0), threading.Event()

    def turn() -> bool:
        rounds.release()
        return False

    def wait_for_a_lock() -> None:
        answer.wait(30)
        raise psycopg.OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(database, "connection", wait_for_a_lock)
    monkeypatch.setattr(periodic_tasks, "MAX_ANSWER", timedelta(0))
    worker = Worker([PeriodicTask("asked", turn, timedelta(0), due="false")])
    worker.start()
    for _ in range(3):
        assert rounds.acquire(timeout=5)
        worker.supervise()
    answer.set()
    worker.stop(5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dead_task_restarts_and_two_deaths_per_minute_are_unhealthy() -> None:
    rounds = threading.Semaphore(0)

    def turn() -> bool:
        rounds.release()
        raise SystemExit  # no Exception: it ends the thread

    worker = Worker([PeriodicTask("dying", turn, HOUR)])
    worker.start()
    for _ in range(2):
        assert rounds.acquire(timeout=5)
        worker.threads["dying"].join(5)
        worker.supervise()
    assert rounds.acquire(timeout=5)
    assert not worker.is_healthy()
    worker.stop(5)
