"""The escalation task: claims due runs, decides each, and writes the whole batch in one transaction.

One bad row never stops the others: it is retried alone and postponed. After five consecutive failures it is stuck:
administrators are notified, and it is retried every hour.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tocsin.alerts import change_handlers, lifecycle, service, store
from tocsin.alerts.change_handlers import AlertChange, PagingConfig
from tocsin.alerts.commands import AlertState
from tocsin.alerts.store import OpenQuestions
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.split_batch import run_or_split
from tocsin.core.delivery.backoff import Backoff, doubling
from tocsin.core.delivery.fair_queue import FairQueue
from tocsin.core.reasons import as_reason, joined
from tocsin.core.runtime import clock, tracing
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.runtime.tracing import Span, SpanExporter, SpanKind
from tocsin.escalation import reasons
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run import effects, pending_pages, run_store, target_loader
from tocsin.escalation.run.engine import advance
from tocsin.escalation.run.run_state import ActivePause, RunDecision, RunState
from tocsin.escalation.run.run_store import NewRun
from tocsin.notify import pause as pauses

log = logging.getLogger(__name__)

#: Runs per transaction; their alerts are locked until it ends.
BATCH = 100
#: Runs per transaction after a full batch: the shared queries for groups and users then serve more runs.
BACKLOG_BATCH = 500

#: Consecutive failures after which a run counts as stuck.
STUCK_AFTER = 5

#: A failed run is retried soon, a stuck one every hour.
RETRIES = Backoff((*doubling(timedelta(seconds=5), timedelta(seconds=40)), timedelta(hours=1)))

#: The polling interval without a hint, which is the longest delay of a timer.
INTERVAL = timedelta(milliseconds=500)


def escalation_task() -> PeriodicTask:
    """The worker's periodic task."""
    task = EscalationTask()
    return PeriodicTask("escalation", lambda: task.run_once(clock.now()), INTERVAL, frozenset({"runs", "clock"}))


@dataclass(slots=True)
class EscalationTask:
    """The task's state in one worker.

    It remembers whether paging was paused, to notice a pause that ends early, and whether more runs are due than fit
    into one batch.
    """

    was_paused: bool = True
    is_backlogged: bool = False

    def run_once(self, now: datetime) -> bool:
        """Decides one batch. Returns whether more may be due right away."""
        is_full = run_or_split(
            "A batch of runs",
            lambda: self._batch(now, None),
            lambda: _due(now),
            partial(self._batch, now),
            partial(_fail_alone, now),
        )
        self.is_backlogged = bool(is_full)
        return self.is_backlogged

    def _batch(self, now: datetime, only_row_id: int | None) -> bool:
        """Runs one transaction. Returns whether an integration used up its share, so that more may be due."""
        decisions: Sequence[tuple[int, RunDecision]] = ()
        with database.transaction() as connection:
            pause = _pause(connection, now)
            if pause is None and self.was_paused:
                _release(connection, now)
            self.was_paused = pause is not None
            ids, is_full = (
                _claim(connection, now, BACKLOG_BATCH if self.is_backlogged else BATCH)
                if only_row_id is None
                else (_claim_one(connection, now, only_row_id), False)
            )
            claimed = _read(connection, ids, now)
            if claimed:
                decisions = _decide(connection, claimed, pause, now, is_single=only_row_id is not None)
        if tracing.exporter is not None:
            _export_spans(tracing.exporter, decisions, now)
        return is_full


def open_questions(connection: Connection, alert_ids: Sequence[int]) -> Mapping[int, OpenQuestions]:
    """Unanswered acknowledgement reminders and assignments, by alert id; registered with `alerts.store`."""
    query = (
        "SELECT alert_id, progress -> 'ack_reminder_sent_at' AS reminded, progress ? 'accept_by' AS awaits_acceptance "
        "FROM escalation_run WHERE alert_id = ANY(%s) AND status <> 'ended' "
        "AND progress ?| '{ack_reminder_sent_at,accept_by}'"
    )
    rows = database.rows(connection, query, (list(alert_ids),))
    return {
        row["alert_id"]: OpenQuestions(frozenset(int(user) for user in row["reminded"] or ()), row["awaits_acceptance"])
        for row in rows
    }


# No integration's first page waits behind another's thousandth.
_CLAIM = FairQueue(
    "escalation_run",
    "integration_id",
    "q.due_at IS NOT NULL",
    join="JOIN alerts_alert a ON a.id = q.alert_id",
    locked="a",
).claim_query()

_CLAIM_ONE = """
SELECT r.id FROM escalation_run r JOIN alerts_alert a ON a.id = r.alert_id
WHERE r.due_at <= %s AND r.id = %s FOR NO KEY UPDATE OF a SKIP LOCKED
"""

# The claim may have seen an older state than the lock: another worker may just have handled the run.
_READ = database.literal(
    f"SELECT {run_store.COLUMNS} FROM escalation_run r WHERE r.id = ANY(%s) AND r.due_at <= %s ORDER BY r.due_at, r.id"
)


def _claim(connection: Connection, now: datetime, limit: int) -> tuple[list[int], bool]:
    """The ids of due runs, with their alerts locked, and whether an integration used up its share."""
    rows = connection.execute(_CLAIM, {"now": now, "free": limit}).fetchall()
    counts = Counter(lane for _, lane, _ in rows)
    return [row[0] for row in rows], any(counts[lane] >= limit for _, lane, limit in rows)


def _claim_one(connection: Connection, now: datetime, row_id: int) -> list[int]:
    return [row[0] for row in connection.execute(_CLAIM_ONE, (now, row_id)).fetchall()]


def _read(connection: Connection, ids: list[int], now: datetime) -> list[dict[str, Any]]:
    return database.rows(connection, _READ, (ids, now)) if ids else []


def _fail_alone(now: datetime, row_id: int, error: Exception) -> None:
    log.error("Run %s could not be decided.", row_id, exc_info=error)
    with database.transaction() as connection:
        _fail(connection, row_id, error, now)


def _due(now: datetime) -> list[int]:
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT id FROM escalation_run WHERE due_at <= %s ORDER BY due_at LIMIT %s", (now, BATCH)
        ).fetchall()
    return [row[0] for row in rows]


def _decide(
    connection: Connection, claimed: list[dict[str, Any]], pause: ActivePause | None, now: datetime, *, is_single: bool
) -> Sequence[tuple[int, RunDecision]]:
    plans = load_plans(connection, {row["version_id"] for row in claimed})
    runs: dict[int, RunState] = {}
    failed: list[tuple[int, Exception]] = []
    for row in claimed:
        try:
            runs[row["id"]] = run_store.run_from_row(row, plans)
        except Exception as problem:  # noqa: BLE001 - one unreadable row must not stop the others
            failed.append((row["id"], problem))
    runs = pending_pages.users_with_pending_pages(connection, runs, now)
    states = store.load(connection, [run.alert_id for run in runs.values()])
    context = target_loader.load_target_context(connection, runs.values(), now)
    decisions: list[tuple[int, RunDecision]] = []
    for row_id, run in runs.items():
        try:
            decisions.append((row_id, advance(run, states[run.alert_id], context, now, pause)))
        except Exception as problem:  # noqa: BLE001 - one bad row must not stop the others
            failed.append((row_id, problem))
    _write(connection, decisions, states, now)
    for row_id, error in failed:
        if is_single:
            raise error
        ids = {"alert_id": next(row["alert_id"] for row in claimed if row["id"] == row_id)}
        log.error("Run %s could not be decided.", row_id, exc_info=error, extra=ids)
        _fail(connection, row_id, error, now)
    return decisions


def _export_spans(exporter: SpanExporter, decisions: Sequence[tuple[int, RunDecision]], now: datetime) -> None:
    """Exports a span for each decision that paged or ended something, from its moment to the commit."""
    committed_at = max(now, clock.now())
    for _row, decision in decisions:
        if decision.events:
            alert_id = decision.run.alert_id
            attributes: dict[str, str | int] = {
                "tocsin.alert.id": alert_id,
                "tocsin.pages": len(decision.pages) + len(decision.contact_pages),
                "tocsin.reason_code": as_reason(decision.events[0].reason).code,
            }
            trace = tracing.trace_of_alert(alert_id)
            exporter.export(Span("escalate", SpanKind.INTERNAL, trace, now, committed_at, attributes))


def _write(
    connection: Connection, decisions: list[tuple[int, RunDecision]], states: Mapping[int, AlertState], now: datetime
) -> None:
    service.write(connection, _changes(decisions, states, now), now)
    store.insert_events(connection, [event for _row, decision in decisions for event in decision.events])
    run_store.update(connection, {row_id: decision.run for row_id, decision in decisions})
    successors = [decision for _row, decision in decisions if decision.successor is not None]
    run_store.insert(
        connection,
        [
            NewRun(handover.run.alert_id, handover.successor, handover.successor_version)
            for handover in successors
            if handover.successor
        ],
    )
    if successors:
        database.notify(connection, "runs")
    effects.apply_effects(connection, decisions, now)
    _notify_handlers(connection, decisions, states, now)
    changed = [decision.run.alert_id for _row, decision in decisions if decision.events or decision.commands]
    if changed:
        service.publish_alert_changes(connection, changed)


def _notify_handlers(
    connection: Connection, decisions: list[tuple[int, RunDecision]], states: Mapping[int, AlertState], now: datetime
) -> None:
    """Passes the escalation's events (a fired step, the end) to the alert change handlers."""
    decided = [(states[decision.run.alert_id], decision) for _row, decision in decisions if decision.events]
    changes = [AlertChange(state, state, one.events, paging=_handover_paging(one)) for state, one in decided]
    change_handlers.call_handlers(connection, changes, now)


def _handover_paging(decision: RunDecision) -> PagingConfig | None:
    """How the alert pages from now on, if its policy handed over to another."""
    successor = decision.successor
    if successor is None:
        return None
    reason = successor.progress.policy_reason
    return PagingConfig(
        successor.mode, decision.successor_version, successor.recipient_users, successor.recipient_groups, reason
    )


def _changes(
    decisions: list[tuple[int, RunDecision]], states: Mapping[int, AlertState], now: datetime
) -> list[AlertChange]:
    """The alert changes made by the engine: an ended hold, an expired acknowledgement."""
    changes = []
    for _row, decision in decisions:
        before = states[decision.run.alert_id]
        for command in decision.commands:
            transition = lifecycle.apply(before, command, now)
            if transition.is_change:
                changes.append(AlertChange(before, transition.state, transition.events, command))
            before = transition.state
    return changes


def _pause(connection: Connection, now: datetime) -> ActivePause | None:
    pause = pauses.current_pause(connection, now)
    return ActivePause(pause.until, pause.reason) if pause else None


def _release(connection: Connection, now: datetime) -> None:
    """After an early end of a pause, everything that waited for its end is due now."""
    connection.execute(
        "UPDATE escalation_run r SET due_at = %(now)s FROM alerts_alert a "
        "WHERE a.id = r.alert_id AND a.status = 'open' AND r.status = 'paused' AND r.due_at > %(now)s "
        "AND r.progress ? 'pause_until' AND (r.progress ->> 'pause_until')::timestamptz = r.due_at",
        {"now": now},
    )


def _fail(connection: Connection, row_id: int, error: Exception, now: datetime) -> None:
    """Postpones a failed run and counts the failure; notifies administrators after the fifth in a row."""
    row = database.row(connection, "SELECT alert_id, failures FROM escalation_run WHERE id = %s", (row_id,))
    if row is None:
        return
    failures = row["failures"] + 1
    is_stuck = failures >= STUCK_AFTER
    message = f"{type(error).__name__}: {error}"
    reason = reasons.STUCK(count=failures) if is_stuck else reasons.FAILED(failures=failures, limit=STUCK_AFTER)
    run_store.record_failure(connection, row_id, failures, message, reason, now + RETRIES.delay(failures))
    if failures == STUCK_AFTER:
        why = joined(reason, reasons.ERROR(error=message), separator=" ")
        effects.notify_administrators(connection, row["alert_id"], why, now)
