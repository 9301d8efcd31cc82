"""Claims, reads and writes workflow runs, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_storable_json
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.core.stored_reason import named_columns, reason_columns, reason_in
from tocsin.workflows.run.engine import MAX_DEPTH, FinishRun, OwnerGroup, StartActions, WaitUntil, WorkflowProgress
from tocsin.workflows.states import WorkflowRunStatus


@dataclass(frozen=True, slots=True)
class DueRun:
    """A due run with its current workflow; `definition` is None if that was deleted."""

    id: int
    workflow_id: int
    alert_id: int
    name: str
    is_enabled: bool
    definition: Any
    progress: WorkflowProgress
    user_id: int | None = None
    user_name: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    reason: Reason = NO_REASON
    failures: int = 0


# Skips runs that another worker is deciding or executing.
_UNDECIDED = """
SELECT id FROM workflows_run WHERE due_at <= %(now)s AND started_at IS NULL
AND (%(only)s::bigint[] IS NULL OR id = ANY(%(only)s)) ORDER BY due_at, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""

_STARTED = """
SELECT id FROM workflows_run WHERE id = %s AND due_at <= %s AND started_at IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED
"""

_DUE = """
SELECT id FROM workflows_run WHERE due_at <= %(now)s AND (started_at IS NOT NULL) = %(is_started)s
ORDER BY due_at, id LIMIT %(limit)s
"""

# Every earlier run of the workflow on the alert counts; recurring ones may go on as long as the alert is active.
_READ = """
SELECT r.id, r.workflow_id, r.alert_id, r.cause_code, r.cause_data, r.depth, r.created_at,
       r.started_at IS NOT NULL AS is_started, r.step, r.steps,
       r.reason_code, r.reason_data, r.failures, r.user_id, r.user_name, w.name, w.is_enabled, w.definition,
       w.group_id, g.name AS group_name,
       h.lately, h.in_all, h.moments,
       EXISTS (SELECT FROM workflows_run n WHERE n.alert_id = r.alert_id AND n.workflow_id = r.workflow_id
               AND n.id > r.id) AS is_superseded
FROM workflows_run r
LEFT JOIN workflows_workflow w ON w.id = r.workflow_id
LEFT JOIN people_group g ON g.id = w.group_id
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE p.started_at > %(now)s - interval '1 minute') AS lately, count(*) AS in_all,
         array_agg(p.moment) FILTER (WHERE p.moment IS NOT NULL) AS moments
  FROM workflows_run p
  WHERE p.alert_id = r.alert_id AND p.workflow_id = r.workflow_id AND p.started_at IS NOT NULL AND p.id <> r.id
) AS h
WHERE r.id = ANY(%(ids)s) ORDER BY r.due_at, r.id
"""


def claim_undecided(connection: Connection, now: datetime, limit: int, only: Sequence[int] = ()) -> list[DueRun]:
    """Locks and reads due runs that have not started, of those with the ids `only` if there are any. Returns only the
    first per workflow and alert."""
    parameters = {"now": now, "limit": limit, "only": list(only) or None}
    runs = read(connection, [row[0] for row in connection.execute(_UNDECIDED, parameters).fetchall()], now)
    first: dict[tuple[int, int], DueRun] = {}
    for run in runs:
        first.setdefault((run.workflow_id, run.alert_id), run)
    return list(first.values())


def claim_started(connection: Connection, run_id: int, now: datetime) -> DueRun | None:
    """Locks and reads a due run that has started; None if another worker has it, or it is not due."""
    if connection.execute(_STARTED, (run_id, now)).fetchone() is None:
        return None
    return next(iter(read(connection, [run_id], now)), None)


def due(connection: Connection, now: datetime, limit: int, *, is_started: bool) -> list[int]:
    """Ids of due runs, without locks."""
    parameters = {"now": now, "limit": limit, "is_started": is_started}
    return [row[0] for row in connection.execute(_DUE, parameters).fetchall()]


def read(connection: Connection, ids: Sequence[int], now: datetime) -> list[DueRun]:
    """Reads the runs with these ids, in due order."""
    if not ids:
        return []
    return [_run(row) for row in database.rows(connection, _READ, {"ids": list(ids), "now": now})]


def _run(row: Mapping[str, Any]) -> DueRun:
    progress = WorkflowProgress(
        reason_in(row, "cause"), row["depth"], row["is_started"], row["step"], row["is_superseded"], row["lately"],
        row["in_all"],
        frozenset(row["moments"] or ()), OwnerGroup(row["group_id"], row["group_name"]) if row["group_id"] else None,
        row["created_at"],
    )  # fmt: skip
    return DueRun(
        row["id"], row["workflow_id"], row["alert_id"], row["name"] or "", bool(row["is_enabled"]), row["definition"],
        progress, row["user_id"], row["user_name"], list(row["steps"]), reason_in(row), row["failures"],
    )  # fmt: skip


_UPDATE = """
UPDATE workflows_run r SET status = n.status, reason_code = n.reason_code, reason_data = n.reason_data,
       due_at = n.due_at, ended_at = n.ended_at,
       started_at = coalesce(n.started_at, r.started_at), moment = coalesce(n.moment, r.moment), step = n.step,
       steps = n.steps, failures = 0, error = ''
FROM jsonb_to_recordset(%s) AS n(id bigint, status text, reason_code text, reason_data jsonb, due_at timestamptz,
     ended_at timestamptz, started_at timestamptz, moment timestamptz, step smallint, steps jsonb)
WHERE r.id = n.id
"""

_INSERT_NEXT = """
INSERT INTO workflows_run (workflow_id, alert_id, status, cause_code, cause_data, depth, created_at, due_at)
SELECT r.workflow_id, r.alert_id, 'waiting', r.cause_code, r.cause_data, least(r.depth, %(depth)s), %(now)s, n.due_at
FROM unnest(%(ids)s::bigint[], %(due)s::timestamptz[]) AS n(id, due_at) JOIN workflows_run r ON r.id = n.id
"""


def write(
    connection: Connection, decided: Sequence[tuple[DueRun, FinishRun | WaitUntil | StartActions]], now: datetime
) -> None:
    """Writes decisions in one statement; recurring runs get a successor."""
    if not decided:
        return
    connection.execute(_UPDATE, (as_storable_json([_columns(run, decision, now) for run, decision in decided]),))
    recurring = [
        (run.id, decision.again_at)
        for run, decision in decided
        if isinstance(decision, StartActions) and decision.again_at is not None
    ]
    if recurring:
        ids, at = [one[0] for one in recurring], [one[1] for one in recurring]
        connection.execute(_INSERT_NEXT, {"ids": ids, "due": at, "now": now, "depth": MAX_DEPTH})


def _columns(run: DueRun, decision: FinishRun | WaitUntil | StartActions, now: datetime) -> dict[str, object]:
    columns: dict[str, object] = {
        "id": run.id,
        "steps": run.steps,
        "step": run.progress.step,
        **named_columns("reason", decision.reason),
    }
    match decision:
        case FinishRun():
            # The reason for acting is more useful than "everything was done".
            reason = run.reason if decision.status is WorkflowRunStatus.DONE and run.reason else decision.reason
            return {**columns, "status": decision.status, "ended_at": now, **named_columns("reason", reason)}
        case WaitUntil():
            return {**columns, "status": WorkflowRunStatus.WAITING, "due_at": decision.until, "step": decision.step}
        case StartActions():
            return {
                **columns, "status": WorkflowRunStatus.WAITING, "due_at": now, "started_at": now,
                "moment": decision.moment,
            }  # fmt: skip


def write_step(connection: Connection, run: DueRun, step: Mapping[str, object]) -> None:
    """Records the result of the run's next action."""
    connection.execute(
        "UPDATE workflows_run SET step = %s, steps = steps || %s::jsonb, failures = 0, error = '' WHERE id = %s",
        (run.progress.step + 1, as_storable_json([step]), run.id),
    )


def fail(
    connection: Connection,
    run_id: int,
    failures: int,
    error: str,
    reason: Reason,
    due_at: datetime | None,
    now: datetime,
) -> None:
    """Postpones a failed run to `due_at`; None: it is stuck until a person retries it."""
    status = WorkflowRunStatus.STUCK if due_at is None else WorkflowRunStatus.WAITING
    ended_at = now if due_at is None else None
    code, data = reason_columns(reason)
    connection.execute(
        "UPDATE workflows_run SET failures = %s, error = %s, reason_code = %s, reason_data = %s::jsonb, due_at = %s, "
        "status = %s, ended_at = %s WHERE id = %s",
        (failures, error[:2000], code, as_storable_json(data), due_at, status, ended_at, run_id),
    )
