"""Runs the self-check every 30 seconds on one of the nodes: checks paging, stores and reports problems.

Sends the external heartbeat only while there are no problems.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from tocsin.alerts import service
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.enqueue.notices import queue_notice
from tocsin.notify.enqueue.recipients import load_administrators
from tocsin.operate import disk_space
from tocsin.operate.finding import HealthFinding
from tocsin.operate.self_check import inputs, problems
from tocsin.operate.self_check.heartbeat import ping
from tocsin.operate.self_check.rules import DetectedProblem, find_problems

log = logging.getLogger(__name__)

CHECK_INTERVAL = timedelta(seconds=30)

#: A node skips the self-check if another node ran it within this time.
SKIP_IF_WITHIN = timedelta(seconds=20)


class SelfCheckRunner:
    """The self-check of one worker. `run_once` is a periodic task."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = clock.now,
        heartbeat_url: Callable[[], str | None] = lambda: environment.current().heartbeat_url,
        check_disks: Callable[[], Iterable[HealthFinding]] = disk_space.check_database_disks,
        name: str = "",
    ) -> None:
        self._now = now
        self._heartbeat_url = heartbeat_url
        self._check_disks = check_disks
        self._name = name or socket.gethostname()

    def run_once(self) -> bool:
        """Runs the self-check unless another node just did, and sends the heartbeat after the commit if nothing is
        wrong.

        Then releases leaked dedup keys: that fault repairs itself and is not reported.
        """
        with database.transaction() as connection:
            if not _claim(connection, self._name):
                return False
            detected = run_self_check(connection, self._now(), tuple(self._check_disks()))
        # The transaction has committed, which proves that writes work.
        if all(problem.is_warning for problem in detected) and (url := self._heartbeat_url()) is not None:
            self._ping(url)
        for alert_id in service.release_stale_keys(self._now()):
            log.warning("Alert #%s held its key though nobody acts on it any more; it is free now.", alert_id)
        return False

    def _ping(self, url: str) -> None:
        problem = ping(url)
        if problem:
            log.warning("The external heartbeat failed: %s.", problem)
        code, data = reason_columns(problem)
        with database.transaction() as connection:
            connection.execute(
                "UPDATE operate_audit SET heartbeat_problem_code = %(code)s, heartbeat_problem_data = %(data)s, "
                "heartbeat_at = CASE WHEN %(is_ok)s THEN clock_timestamp() ELSE heartbeat_at END WHERE id = 1",
                {"code": code, "data": Jsonb(data), "is_ok": not problem},
            )


def run_self_check(
    connection: Connection, now: datetime, disk_findings: Sequence[HealthFinding] = ()
) -> tuple[DetectedProblem, ...]:
    """Finds and stores problems at `now`, and queues notices to administrators, in the caller's transaction.

    `disk_findings` are shortages on the disks.
    """
    detected = find_problems(replace(inputs.load_inputs(connection, now), disk_findings=disk_findings))
    update = problems.update_problems(problems.load(connection), detected, now)
    problems.store_problems(connection, update.changed, now)
    if update.notices:
        administrators = load_administrators(connection)
        for notice in update.notices:
            queue_notice(connection, notice, now, user_ids=administrators)
    if update.changed:
        # Home lists the same problems.
        database.notify(connection, "alerts")
    for problem in detected:
        log.error("%s: %s %s", problem.title, problem.detail, problem.remedy)
    return detected


# A self-check in the future was made before a clock rollback.
_CLAIM = """
UPDATE operate_audit SET checked_at = clock_timestamp(), node = %(node)s
WHERE id IN (SELECT id FROM operate_audit WHERE id = 1
             AND checked_at NOT BETWEEN clock_timestamp() - %(recent)s AND clock_timestamp() + %(recent)s
             FOR NO KEY UPDATE SKIP LOCKED)
"""


def _claim(connection: Connection, node: str) -> bool:
    """Whether this node runs the self-check now; others skip it, also while it is running."""
    connection.execute(
        "INSERT INTO operate_audit (id, checked_at) VALUES (1, 'epoch') ON CONFLICT (id) DO NOTHING",
    )
    return connection.execute(_CLAIM, {"node": node, "recent": SKIP_IF_WITHIN}).rowcount == 1
