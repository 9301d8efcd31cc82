"""Detects rollbacks of the database's clock and makes every pending timer earlier by the same span.

The repair runs in the transaction that records the jump, so exactly once, whichever node detects it, and also after a
restart. It never makes anything later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock, clock_jump
from tocsin.core.runtime.clock_jump import ClockJump, describe_jump
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation import clock_rollback as escalation
from tocsin.inbound.heartbeats import monitor
from tocsin.inbound.storage import clock_rollback as openings
from tocsin.notify import pause
from tocsin.notify.dispatch import clock_rollback as notify
from tocsin.oncall.calendars import calendar_import_worker
from tocsin.operate.self_check import problems
from tocsin.outbound.delivery import clock_rollback as outbound
from tocsin.workflows.run import run_store as workflows

log = logging.getLogger(__name__)

#: The check interval, which is the longest delay of a timer after a rollback.
CHECK_INTERVAL = timedelta(seconds=5)

# Transient errors: the transaction lost to another lock, or waited for one longer than the statement timeout.
_TRANSIENT_ERRORS = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    errors.QueryCanceled,
)

type ClockRepair = Callable[[Connection, timedelta, datetime], object]

# In lock order (ADR 6): heartbeats before their messages' dedup keys, keys and workflow runs before alerts, and alerts
# before their dependents.
_REPAIRS: tuple[tuple[str, ClockRepair], ...] = (
    ("the pause of all paging", pause.correct_after_rollback),
    ("heartbeats", monitor.correct_after_rollback),
    ("openings that wait", openings.correct_after_rollback),
    ("workflows", workflows.correct_after_rollback),
    ("escalation", escalation.correct_after_rollback),
    ("messages to people", notify.correct_after_rollback),
    ("calls of other systems", outbound.correct_after_rollback),
    ("calendars", calendar_import_worker.correct_after_rollback),
    ("problems", problems.correct_after_rollback),
)


def clock_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("clock", run_once, CHECK_INTERVAL, frozenset({"clock"}))


def run_once(read: Callable[[Connection], datetime] = clock.database_now) -> bool:
    """Checks the clock once. Always returns False: there is never more to do."""
    jump = database.retry_once(lambda: _check_clock(read))
    if not jump.amount:
        return False
    if jump.is_rollback:
        log.error(
            "The database's clock was set back by %s; what waits was brought forward by that.",
            describe_jump(jump.amount),
        )
    else:
        log.warning("The database's clock is %s further than when it was last looked at.", describe_jump(jump.amount))
    return False


def _check_clock(read: Callable[[Connection], datetime]) -> ClockJump:
    with database.transaction() as connection:
        now, jump = clock_jump.observe(connection, read)
        if jump.is_rollback:
            for description, repair in _REPAIRS:
                _repair(connection, description, repair, -jump.amount, now)
        if jump.amount:
            # All nodes measure the clock again, and all periodic tasks check what is due.
            database.notify(connection, "clock")
        return jump


def _repair(connection: Connection, description: str, repair: ClockRepair, by: timedelta, now: datetime) -> None:
    """Repairs one kind of timer. An error in one must not affect the others."""
    try:
        with connection.transaction():
            repair(connection, by, now)
    except Exception as error:  # one kind's edge
        if database.is_unavailable(error) or isinstance(error, _TRANSIENT_ERRORS):
            # Everything is retried: the jump stays visible until its repair is committed.
            raise
        log.exception("What waits could not be brought forward after the clock was set back: %s.", description)
