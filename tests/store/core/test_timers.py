"""One statement asks for all periodic tasks whether they have anything to do; only those run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.outbox_harness import OutboxHarness
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import IDLE_INTERVAL, TICK, PeriodicTask, Worker
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.wiring import worker_tasks

EMAIL = {"label": "Email-Official", "channel": "email", "address": "alice@example.org"}
SOON = IDLE_INTERVAL.total_seconds() / 2


def counted() -> tuple[threading.Semaphore, Callable[[], bool]]:
    """A task's function, and how often it ran."""
    runs = threading.Semaphore(0)

    def run_once() -> bool:
        runs.release()
        return False

    return runs, run_once


@pytest.mark.usefixtures("database")
def test_only_tasks_with_something_to_do_run() -> None:
    (due, run_due), (busy, run_busy), (idle, run_idle) = counted(), counted(), counted()
    with database.transaction() as connection:
        connection.execute("CREATE TABLE timer (due_at timestamptz)")
        connection.execute("INSERT INTO timer VALUES (%s)", (clock.now() + timedelta(seconds=1),))
    worker = Worker(
        [
            PeriodicTask("due", run_due, TICK, due="EXISTS (SELECT FROM timer WHERE due_at <= %(now)s)"),
            PeriodicTask("busy", run_busy, TICK, due="false", is_busy=lambda: True),
            PeriodicTask("idle", run_idle, TICK, due="false"),
        ]
    )
    worker.start()
    assert all(runs.acquire(timeout=SOON) for runs in (due, busy, idle))  # each once at the start
    assert due.acquire(timeout=SOON)
    assert busy.acquire(timeout=SOON)
    assert not idle.acquire(blocking=False)
    worker.stop(5)


def test_real_conditions_hold_for_exactly_the_tasks_with_work(post: OutboxHarness) -> None:
    tasks = [task for task in worker_tasks(IntegrationRegistry(), uuid4(), "all") if task.due]

    def due(seconds: float) -> set[str]:
        with database.transaction() as connection:
            return {
                task.name
                for task in tasks
                if connection.execute(f"SELECT WHERE {task.due}", {"now": post.at(seconds)}).fetchone() is not None
            }

    post.user("alice", EMAIL | {"wait": "5m"})
    before = due(0)
    assert before.isdisjoint({"escalation", "outbox", "outbox leases", "outbound", "workflows", "inbound drain"})
    post.page(post.alert(), "alice")
    assert "outbox" not in due(299)
    assert "outbox" in due(300)
    post.go(300)
    assert "outbox" not in due(300)
