"""Reads and writes runs in bulk, on the given connection and inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json
from tocsin.core.errors import Permanent
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.stored_reason import reason_columns
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.run.run_state import RunState, from_row, to_row

_UNREADABLE_VERSION = ReasonType(
    "policy.version_unreadable", "Version {version} of the escalation policy cannot be read."
)
_SAVE_AGAIN = ReasonType("policy.save_again", "Save the policy again.")

#: The columns that `run_state.from_row` needs, with the row's id, version and failure count.
COLUMNS = (
    "r.id, r.alert_id, r.version_id, r.status, r.mode, r.due_at, r.reason_code, r.reason_data, r.progress, "
    "r.recipient_users, r.recipient_groups, r.priority, r.started_at, r.failures"
)

_CURRENT = database.literal(
    f"SELECT DISTINCT ON (r.alert_id) {COLUMNS} FROM escalation_run r WHERE r.alert_id = ANY(%s) "
    "ORDER BY r.alert_id, r.id DESC"
)

_UPDATE = """
UPDATE escalation_run r SET status = n.status, mode = n.mode, due_at = n.due_at,
       reason_code = n.reason_code, reason_data = n.reason_data, priority = n.priority, started_at = n.started_at,
       progress = n.progress, failures = 0, error = ''
FROM jsonb_to_recordset(%s) AS n(id bigint, status text, mode text, due_at timestamptz, reason_code text,
     reason_data jsonb, priority text, started_at timestamptz, progress jsonb)
WHERE r.id = n.id
"""

_INSERT = """
INSERT INTO escalation_run (alert_id, integration_id, version_id, recipient_users, recipient_groups, status, mode,
       due_at, reason_code, reason_data, priority, started_at, progress, failures, error)
SELECT u.id, a.integration_id, n.version_id, n.recipient_users, n.recipient_groups, n.status, n.mode, n.due_at,
       n.reason_code, n.reason_data, n.priority, n.started_at, n.progress, 0, ''
FROM json_to_recordset(%s) AS n(alert_ids bigint[], version_id bigint, recipient_users jsonb, recipient_groups jsonb,
     status text, mode text, due_at timestamptz, reason_code text, reason_data jsonb, priority text,
     started_at timestamptz, progress jsonb)
CROSS JOIN LATERAL unnest(n.alert_ids) AS u(id) LEFT JOIN alerts_alert a ON a.id = u.id
"""


def current_rows(connection: Connection, alert_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The newest run's row of each alert, by alert id; an alert without a run is absent."""
    requested_ids = sorted(set(alert_ids))
    return (
        {row["alert_id"]: row for row in database.rows(connection, _CURRENT, (requested_ids,))} if requested_ids else {}
    )


def run_from_row(row: Mapping[str, Any], plans: Mapping[int | None, CompiledPolicy]) -> RunState:
    """Builds a run from its row.

    Raises Permanent for an unreadable policy version, msgspec.ValidationError for an unreadable progress.
    """
    plan = plans.get(row["version_id"])
    if plan is None:
        raise Permanent(_UNREADABLE_VERSION(version=str(row["version_id"])), _SAVE_AGAIN())
    return from_row(row, plan)


def update(connection: Connection, runs: Mapping[int, RunState]) -> None:
    """Writes changed runs by row id, in one statement, and resets their failure counts."""
    if runs:
        rows = [{"id": number, **to_row(run)} for number, run in runs.items()]
        connection.execute(_UPDATE, (as_json(rows),))


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to insert. Alerts of a batch that start alike share one `run`; `alert_id` says whose row it is."""

    alert_id: int
    run: RunState
    version_id: int | None


def insert(connection: Connection, runs: Sequence[NewRun]) -> None:
    """Inserts runs in one statement that contains each shared run once."""
    if not runs:
        return
    rows_by_key: dict[tuple[int, int | None], dict[str, Any]] = {}
    alert_ids_by_key: dict[tuple[int, int | None], list[int]] = {}
    for new in runs:
        key = (id(new.run), new.version_id)
        if key not in rows_by_key:
            alert_ids_by_key[key] = []
            rows_by_key[key] = {"alert_ids": alert_ids_by_key[key], **_columns(new.run, new.version_id)}
        alert_ids_by_key[key].append(new.alert_id)
    connection.execute(_INSERT, (as_json(list(rows_by_key.values())),))


def _columns(run: RunState, version_id: int | None) -> dict[str, Any]:
    """All columns except the alert's."""
    return {
        "version_id": version_id,
        "recipient_users": run.recipient_users,
        "recipient_groups": run.recipient_groups,
        **to_row(run),
    }


def record_failure(
    connection: Connection, row_id: int, failures: int, error: str, reason: Reason, due_at: datetime
) -> None:
    """Postpones a run that failed to advance to `due_at`, and stores its consecutive failure count."""
    code, data = reason_columns(reason)
    connection.execute(
        "UPDATE escalation_run SET failures = %s, error = %s, reason_code = %s, reason_data = %s::jsonb, due_at = %s "
        "WHERE id = %s",
        (min(failures, 32_000), error[:2000], code, as_json(data), due_at, row_id),
    )
