"""The installation's health for Home, the System view, `/metrics` and doctor: the last self-check's result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Ago, Reason, ReasonType, reason_from
from tocsin.operate.self_check import problems
from tocsin.operate.self_check.problems import ProblemRecord

#: The age at which a self-check counts as stale.
STALE_AFTER = timedelta(minutes=2)

NEVER_CHECKED = ReasonType(
    "health.never_self_checked",
    "Tocsin has not run a self-check yet: no node with the role worker has been running.",
)
_STALE = ReasonType(
    "health.self_check_stale", "Tocsin ran its last self-check {ago}: no node with the role worker is running."
)


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """The known health of the installation."""

    #: The age of the last self-check; None: there was none yet.
    age: timedelta | None
    #: The node that ran it.
    node: str
    #: Its problems, oldest first. Empty, while the self-check is recent: paging works.
    problems: tuple[ProblemRecord, ...]
    #: When the external heartbeat last succeeded, and why the last one failed, if it did.
    heartbeat_at: datetime | None = None
    heartbeat_age: timedelta | None = None
    heartbeat_problem: Reason = NO_REASON

    @property
    def is_recent(self) -> bool:
        return self.age is not None and self.age < STALE_AFTER

    @property
    def silence(self) -> Reason:
        """Says that no self-check is running; empty while it is recent."""
        if self.is_recent:
            return NO_REASON
        return NEVER_CHECKED() if self.age is None else _STALE(ago=Ago(self.age))


def read() -> HealthStatus:
    """The current health, using a pooled connection."""
    with database.transaction() as connection:
        return status_from_problems(connection)


def status_from_problems(connection: Connection) -> HealthStatus:
    """The current health."""
    row = database.row(
        connection,
        "SELECT clock_timestamp() - checked_at AS age, node, heartbeat_at, "
        "clock_timestamp() - heartbeat_at AS heartbeat_age, heartbeat_problem_code, "
        "heartbeat_problem_data FROM operate_audit WHERE id = 1",
    )
    open_problems = tuple(problems.load(connection, only_open=True).values())
    if row is None:
        return HealthStatus(None, "", open_problems)
    heartbeat_problem = reason_from(row["heartbeat_problem_code"], row["heartbeat_problem_data"])
    return HealthStatus(
        row["age"], row["node"], open_problems, row["heartbeat_at"], row["heartbeat_age"], heartbeat_problem
    )
