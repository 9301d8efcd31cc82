"""How the installation stands, as Home, System, `/metrics` and `doctor` show it: what the last audit found, when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.validation import durations
from tocsin.operate.self_check import problems
from tocsin.operate.self_check.problems import ProblemRecord

#: An audit that is older says nothing any more.
STALE_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """What is known of the installation's health."""

    #: How old the last audit is; None: there was none yet.
    age: timedelta | None
    #: The node that did it.
    node: str
    #: What it found, oldest first. Empty, while the audit is recent: paging works.
    problems: tuple[ProblemRecord, ...]
    #: When the outside last took a ping, and why the last one failed; empty: it did not.
    heartbeat_at: datetime | None = None
    heartbeat_age: timedelta | None = None
    heartbeat_problem: str = ""

    @property
    def is_recent(self) -> bool:
        return self.age is not None and self.age < STALE_AFTER

    @property
    def silence(self) -> str | None:
        """The sentence that says that nobody watches; None while the audits go on."""
        if self.is_recent:
            return None
        if self.age is None:
            return "Tocsin has not checked itself yet: no node with the role worker has run."
        return f"Tocsin last checked itself {durations.say(self.age)} ago: no node with the role worker runs."


def read() -> HealthStatus:
    """How it stands now, over a connection of the pool."""
    with database.transaction() as connection:
        return of(connection)


def of(connection: Connection) -> HealthStatus:
    """How it stands now."""
    row = database.row(
        connection,
        "SELECT clock_timestamp() - checked_at AS age, node, heartbeat_at, "
        "clock_timestamp() - heartbeat_at AS heartbeat_age, heartbeat_problem FROM operate_audit WHERE id = 1",
    )
    found = tuple(problems.load(connection, only_open=True).values())
    if row is None:
        return HealthStatus(None, "", found)
    return HealthStatus(
        row["age"], row["node"], found, row["heartbeat_at"], row["heartbeat_age"], row["heartbeat_problem"]
    )
