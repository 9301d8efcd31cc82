"""Runs as rows: reading and writing them list-wise, on the connection passed in, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.alerts.rows import as_json
from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.core.errors import Permanent
from tocsin.escalation.policy import PolicyPlan
from tocsin.escalation.runs import RunState, from_row, to_row

#: The columns that `runs.from_row` needs, with the row's id, version and count of failures.
COLUMNS = (
    "r.id, r.alert_id, r.version_id, r.status, r.mode, r.due_at, r.reason, r.progress, r.recipient_users, "
    "r.recipient_groups, r.priority, r.started_at, r.failures"
)

_CURRENT = database.literal(
    f"SELECT DISTINCT ON (r.alert_id) {COLUMNS} FROM escalation_run r WHERE r.alert_id = ANY(%s) "
    "ORDER BY r.alert_id, r.id DESC"
)

_UPDATE = """
UPDATE escalation_run r SET status = n.status, mode = n.mode, due_at = n.due_at, reason = n.reason,
       priority = n.priority, started_at = n.started_at, progress = n.progress, failures = 0, error = ''
FROM jsonb_to_recordset(%s) AS n(id bigint, status text, mode text, due_at timestamptz, reason text, priority text,
     started_at timestamptz, progress jsonb)
WHERE r.id = n.id
"""

#: In the order in which `insert` writes them.
_INSERT = (
    "COPY escalation_run (alert_id, version_id, recipient_users, recipient_groups, status, mode, due_at, reason, "
    "priority, started_at, progress, failures, error) FROM STDIN"
)


def current(connection: Connection, alert_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The newest run's row of each alert, by alert id; an alert without one is absent."""
    wanted = sorted(set(alert_ids))
    return {row["alert_id"]: row for row in database.rows(connection, _CURRENT, (wanted,))} if wanted else {}


def as_run(row: Mapping[str, Any], plans: Mapping[int | None, PolicyPlan]) -> RunState:
    """The run of a row. Raises Permanent for a version, msgspec.ValidationError for a progress that cannot be read."""
    plan = plans.get(row["version_id"])
    if plan is None:
        raise Permanent(
            f"Version {row['version_id']} of the escalation policy cannot be read.", "Save the policy again."
        )
    return from_row(row, plan)


def update(connection: Connection, runs: Mapping[int, RunState]) -> None:
    """Writes changed runs by their row's id, in one statement. Whatever failed before is forgotten."""
    if runs:
        written = [{"id": number, **to_row(run)} for number, run in runs.items()]
        connection.execute(_UPDATE, (as_json(written),))


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to insert. The alerts of a batch that open alike share one `run`; `alert_id` says whose row it is."""

    alert_id: int
    run: RunState
    version_id: int | None


def insert(connection: Connection, runs: Sequence[NewRun]) -> None:
    """Writes new runs in one COPY."""
    if not runs:
        return
    written: dict[int, tuple[object, ...]] = {}
    with connection.cursor() as cursor, cursor.copy(_INSERT) as copy:
        for new in runs:
            columns = written.get(id(new.run))
            if columns is None:
                columns = written[id(new.run)] = _columns(new.run, new.version_id)
            copy.write_row((new.alert_id, *columns))


def _columns(run: RunState, version_id: int | None) -> tuple[object, ...]:
    """Everything but the alert, in the order of `_INSERT`."""
    row = to_row(run)
    return (
        version_id,
        as_json(run.recipient_users),
        as_json(run.recipient_groups),
        row["status"],
        row["mode"],
        row["due_at"],
        row["reason"],
        row["priority"],
        row["started_at"],
        as_json(row["progress"]),
        0,
        "",
    )


def fail(connection: Connection, row_id: int, failures: int, error: str, reason: str, due_at: datetime) -> None:
    """Pushes a run that could not be decided to `due_at`, with the count of its failures in a row."""
    connection.execute(
        "UPDATE escalation_run SET failures = %s, error = %s, reason = %s, due_at = %s WHERE id = %s",
        (min(failures, 32_000), error[:2000], reason, due_at, row_id),
    )
