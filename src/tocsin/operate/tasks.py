"""The periodic tasks of this package: heartbeat of every node; clock check, self-check, mail and retention of
workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from psycopg import errors

from tocsin.access import audit_log
from tocsin.calls import service as calls
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.hooks import Expiry
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock
from tocsin.core.runtime.clock import ClockJump, Timers, describe_jump
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation import tasks as escalation
from tocsin.inbound import heartbeats
from tocsin.inbound.storage import dedup_key_store
from tocsin.notify import pause as pauses
from tocsin.notify.dispatch import claim, results, updates
from tocsin.notify.dispatch import dispatcher as deliveries
from tocsin.notify.inbound import receipts
from tocsin.oncall.calendars import calendar_import_worker
from tocsin.operate import coverage, node_heartbeat, self_check
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.operate.self_check import SelfCheckRunner
from tocsin.outbound.delivery import queue as outbound_queue
from tocsin.workflows.run import run_store as workflow_runs

# ---------- retention
# Deletes expired data: the rows that each room names in `core.hooks.EXPIRIES`, and old entries of the audit log.
#
# Works in small transactions, oldest first.


INTERVAL = timedelta(minutes=5)

#: Rows of one kind deleted per transaction.
CHUNK = 5_000


def delete_expired(now: datetime, *, chunk: int = CHUNK) -> bool:
    """Deletes one chunk of each kind, unless the clock may be far ahead. Returns whether there may be more."""
    with database.transaction() as connection:
        if clock.is_clock_suspect(connection, now):
            return False
        settings = settings_store.load(connection)
    removed = [_remove(expiry, settings, now, chunk) for expiry in hooks.EXPIRIES.of()]
    changed_before = now - timedelta(days=settings[settings_store.AUDIT_RETENTION_DAYS.name])
    return max([*removed, audit_log.delete_before(changed_before, chunk)]) >= chunk


def _remove(expiry: Expiry, settings: Mapping[str, Any], now: datetime, chunk: int) -> int:
    before = now - (expiry.kept if isinstance(expiry.kept, timedelta) else timedelta(days=settings[expiry.kept]))
    with database.transaction() as connection:
        parameters = {"before": before, "first": first_uuid7(before), "chunk": chunk}
        return connection.execute(database.literal(expiry.statement), parameters).rowcount


# ---------- clock jumps
# Detects rollbacks of the database's clock and makes every pending timer earlier by the same span.
#
# The repair runs in the transaction that records the jump, so exactly once, whichever node detects it, and also after
# a restart. It never makes anything later.


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


def _forget_nodes(connection: Connection, by: timedelta, now: datetime) -> None:
    """Deletes nodes with a heartbeat in the future: living ones report again."""
    connection.execute("DELETE FROM operate_node WHERE seen_at > clock_timestamp()")


# In lock order (ADR 6): heartbeats before their messages' dedup keys, keys and workflow runs before alerts, and alerts
# before their dependents. A pause's end stays as entered, as do times of holds; rate limits and polls of outbound
# integrations correct themselves; a workflow run or a delivery that waits for a fixed moment becomes due early, and
# then waits on.
_REPAIRS: tuple[ClockRepair, ...] = (
    pauses.TIMERS,
    heartbeats.correct_after_rollback,
    dedup_key_store.lock_all_keys,
    *dedup_key_store.TIMERS,
    *workflow_runs.TIMERS,
    calls.TIMERS,
    escalation.correct_after_rollback,
    results.TIMERS,
    receipts.TIMERS,
    deliveries.correct_after_rollback,
    *claim.TIMERS,
    updates.TIMERS,
    *outbound_queue.TIMERS,
    calendar_import_worker.TIMERS,
    # Otherwise no problem would be confirmed until the clock caught up.
    Timers("operate_problem", ("since", "seen_at", "ended_at", "notified_at", "last_notified_at")),
    _forget_nodes,
)


def check_clock(read: Callable[[Connection], datetime] = clock.database_now) -> bool:
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
        now, jump = clock.observe(connection, read)
        if jump.is_rollback:
            for repair in _REPAIRS:
                _repair(connection, repair, -jump.amount, now)
        if jump.amount:
            # All nodes measure the clock again, and all periodic tasks check what is due.
            database.notify(connection, "clock", "delayed")
        return jump


def _repair(connection: Connection, repair: ClockRepair, by: timedelta, now: datetime) -> None:
    """Repairs one kind of timer. An error in one must not affect the others."""
    try:
        with connection.transaction():
            repair(connection, by, now)
    except Exception as error:  # one kind's edge
        if database.is_unavailable(error) or isinstance(error, _TRANSIENT_ERRORS):
            # Everything is retried: the jump stays visible until its repair is committed.
            raise
        log.exception("What waits could not be brought forward after the clock was set back: %s.", repair)


#: The name of the heartbeat task.
HEARTBEAT_TASK = "presence"


def heartbeat_task(node: NodeHeartbeat) -> PeriodicTask:
    """The task that every node runs, whatever its role."""
    return PeriodicTask(HEARTBEAT_TASK, node.run_once, node_heartbeat.HEARTBEAT_INTERVAL)


def operate_tasks() -> tuple[PeriodicTask, ...]:
    """The tasks of a worker."""
    return (
        PeriodicTask("clock", check_clock, CHECK_INTERVAL, frozenset({"clock"})),
        PeriodicTask("auditor", SelfCheckRunner().run_once, self_check.CHECK_INTERVAL),
        coverage.weekly_mail_task(),
        coverage.deactivation_mail_task(),
        PeriodicTask("retention", lambda: delete_expired(clock.now()), INTERVAL),
    )
