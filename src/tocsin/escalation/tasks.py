"""The escalation task: claims due runs, decides each, and writes the whole batch in one transaction.

A batch ends after so many pages, because other alerts wait for it. One bad row never stops the others: it is retried
alone and postponed. After five consecutive failures it is stuck: administrators are notified, and it is retried every
hour. Runs are also corrected here after a rollback of the clock, and after users were deactivated.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from msgspec.structs import replace as replace_state

from tocsin.alerts import commands, lifecycle, service, store
from tocsin.alerts.commands import (
    SYSTEM,
    AlertChange,
    AlertState,
    Command,
    ExpireAcknowledgement,
    NewEvent,
    PagingConfig,
    Unassign,
)
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, CommandChannel, EventKind
from tocsin.alerts.store import ACTIVE_IDS, WITH_OWNER, OpenQuestions, is_about, join_alert
from tocsin.core.db import database
from tocsin.core.db.database import Batch, BatchRunner, Connection
from tocsin.core.delivery.circuit_breaker import Backoff, doubling
from tocsin.core.delivery.job_pool import FairQueue
from tocsin.core.reasons import as_reason, joined
from tocsin.core.runtime import clock, telemetry
from tocsin.core.runtime.clock import MIN_REPORTED_ROLLBACK, round_jump
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.runtime.telemetry import Span, SpanExporter, SpanKind
from tocsin.escalation import reasons
from tocsin.escalation.run import run_store
from tocsin.escalation.run.engine import advance
from tocsin.escalation.run.run_state import (
    ActivePause,
    RunDecision,
    RunState,
    bring_forward,
    derive_status,
    with_progress,
)
from tocsin.escalation.run.run_store import NewRun, load_plans
from tocsin.escalation.run.target_resolution import TargetContext
from tocsin.notify.rules.page_planner import count_pages
from tocsin.people.sql import join_user

log = logging.getLogger(__name__)

#: Runs per transaction; their alerts are locked until it ends.
BATCH = 100
#: Runs per transaction after full batches: the shared queries for groups and users then serve more runs.
BACKLOG_BATCH = 500
#: Pages per transaction, which only a run by itself may exceed. The alerts of other integrations wait for as long: with
#: a tenth of a core, two seconds.
MAX_PAGES = 200

STUCK_AFTER = 5

#: A failed run is retried soon, a stuck one every hour.
RETRIES = Backoff((*doubling(timedelta(seconds=5), timedelta(seconds=40)), timedelta(hours=1)))

#: The polling interval without a hint, which is the longest delay of a timer.
INTERVAL = timedelta(milliseconds=500)


def escalation_task() -> PeriodicTask:
    task = EscalationTask()
    return PeriodicTask(
        "escalation",
        lambda: task.run_once(clock.now()),
        INTERVAL,
        frozenset({"runs", "clock"}),
        due=_RUNS.is_due,
        is_busy=lambda: task.was_paused,
    )


@dataclass(slots=True)
class EscalationTask:
    """The task's state in one worker.

    It remembers whether paging was paused, to notice a pause that ends early, how many runs fit into one batch, and
    which integration was the last that did.
    """

    was_paused: bool = True
    last_lane: int = 0
    batches: BatchRunner[int] = field(default_factory=lambda: BatchRunner("A batch of runs", BATCH, BACKLOG_BATCH))

    def run_once(self, now: datetime) -> bool:
        """Decides one batch. Returns whether more may be due right away."""
        return self.batches.run(partial(self._decide_batch, now), partial(_fail_alone, now))

    def _decide_batch(self, now: datetime, batch: Batch[int]) -> bool:
        """Runs one transaction. Returns whether an integration used up its share, or the batch its pages, so that more
        may be due."""
        decisions: Sequence[tuple[int, RunDecision]] = ()
        with database.transaction() as connection:
            pause = run_store.load_pause(connection, now)
            if pause is None and self.was_paused:
                _release(connection, now)
            lanes, is_full = self._claim(connection, now, batch)
            batch.keys = list(lanes)
            claimed = _read(connection, batch.keys, now)
            if claimed:
                decisions = _decide(connection, claimed, batch, pause, now)
                self.last_lane = lanes[batch.keys[-1]]
        self.was_paused = pause is not None
        if telemetry.exporter is not None:
            _export_spans(telemetry.exporter, decisions, now)
        return is_full or len(batch.keys) < len(claimed)

    def _claim(self, connection: Connection, now: datetime, batch: Batch[int]) -> tuple[dict[int, int], bool]:
        """The ids of due runs, those of the batch if it has any, with their lanes, with their alerts locked, and
        whether an integration used up its share.

        The lanes take turns, from the one after the last that was served: a batch may end before all have their turn.
        """
        if batch.keys:
            return dict(connection.execute(_CLAIM_KNOWN, (now, batch.keys, batch.keys)).fetchall()), False
        rows = connection.execute(_CLAIM, {"now": now, "free": batch.limit}).fetchall()
        counts = Counter[int]()
        turns: list[tuple[tuple[int, bool, int], int]] = []
        for row_id, lane, _ in rows:
            counts[lane or 0] += 1
            turns.append(((counts[lane or 0], (lane or 0) <= self.last_lane, lane or 0), row_id))
        is_full = any(counts[lane or 0] >= share for _, lane, share in rows)
        return {row_id: lane for (_, _, lane), row_id in sorted(turns)}, is_full


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
_RUNS = FairQueue("escalation_run", "integration_id", "q.due_at IS NOT NULL", join=join_alert("q.alert_id"), locked="a")
_CLAIM = _RUNS.claim_query()

_CLAIM_KNOWN = f"""
SELECT r.id, coalesce(r.integration_id, 0) FROM escalation_run r {join_alert("r.alert_id")}
WHERE r.due_at <= %s AND r.id = ANY(%s) ORDER BY array_position(%s, r.id) FOR NO KEY UPDATE OF a SKIP LOCKED
"""

# The claim may have seen an older state than the lock: another worker may just have handled the run.
_READ = database.literal(
    f"SELECT {run_store.COLUMNS} FROM escalation_run r WHERE r.id = ANY(%s) AND r.due_at <= %s "
    "ORDER BY array_position(%s, r.id)"
)


def _read(connection: Connection, ids: Sequence[int], now: datetime) -> list[dict[str, Any]]:
    return database.rows(connection, _READ, (list(ids), now, list(ids))) if ids else []


def _fail_alone(now: datetime, row_id: int, error: Exception) -> None:
    log.error("Run %s could not be decided.", row_id, exc_info=error)
    with database.transaction() as connection:
        _fail(connection, row_id, error, now)


def _decide(
    connection: Connection, claimed: list[dict[str, Any]], batch: Batch[int], pause: ActivePause | None, now: datetime
) -> Sequence[tuple[int, RunDecision]]:
    """Decides the claimed runs and writes that, in order, until there are MAX_PAGES. Then `batch` has only those."""
    plans = load_plans(connection, {row["version_id"] for row in claimed})
    runs: dict[int, RunState] = {}
    failed: list[tuple[int, Exception]] = []
    for row in claimed:
        try:
            runs[row["id"]] = run_store.run_from_row(row, plans)
        except Exception as problem:  # noqa: BLE001 - one unreadable row must not stop the others
            failed.append((row["id"], problem))
    runs = run_store.users_with_pending_pages(connection, runs, now)
    states = store.load(connection, [run.alert_id for run in runs.values()])
    context = run_store.load_target_context(connection, runs.values(), now)
    decisions: list[tuple[int, RunDecision]] = []
    page_count = 0
    for row_id, run in runs.items():
        try:
            decision = advance(run, states[run.alert_id], context, now, pause)
        except Exception as problem:  # noqa: BLE001 - one bad row must not stop the others
            failed.append((row_id, problem))
        else:
            page_count += _count_pages(decision, context)
            if decisions and page_count > MAX_PAGES:
                break
            decisions.append((row_id, decision))
    batch.keys = [row_id for row_id, _ in [*failed, *decisions]]
    _write(connection, decisions, states, now)
    for row_id, error in failed:
        ids = {"alert_id": next(row["alert_id"] for row in claimed if row["id"] == row_id)}
        log.error("Run %s could not be decided.", row_id, exc_info=error, extra=ids)
        _fail(connection, row_id, error, now)
    return decisions


def _count_pages(decision: RunDecision, context: TargetContext) -> int:
    users = sum(
        count_pages(recipient, page.delivery_override, page.priority)
        for page in decision.pages
        if (recipient := context.active_users.get(page.target.user_id)) is not None
    )
    notices = sum(len(notice.user_ids) for notice in decision.notices)
    return users + notices + len(decision.contact_pages) + len(decision.ack_reminders)


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
            trace = telemetry.trace_of_alert(alert_id)
            exporter.export(Span("escalate", SpanKind.INTERNAL, trace, now, committed_at, attributes))


def _write(
    connection: Connection, decisions: list[tuple[int, RunDecision]], states: Mapping[int, AlertState], now: datetime
) -> None:
    service.write(connection, _changes(decisions, states, now), now)
    store.insert_events(connection, [event for _row, decision in decisions for event in decision.events])
    run_store.update(connection, {row_id: decision.run for row_id, decision in decisions})
    successors = [
        NewRun(one.run.alert_id, one.successor, one.successor_version)
        for _row, one in decisions
        if one.successor is not None
    ]
    run_store.insert(connection, successors)
    if successors:
        database.notify(connection, "runs")
    run_store.apply_effects(connection, decisions, now)
    # The escalation's events: a fired step, the end.
    decided = [(states[decision.run.alert_id], decision) for _row, decision in decisions if decision.events]
    changes = [AlertChange(state, state, one.events, paging=_handover_paging(one)) for state, one in decided]
    commands.call_handlers(connection, changes, now)
    changed = [decision.run.alert_id for _row, decision in decisions if decision.events or decision.commands]
    if changed:
        service.publish_alert_changes(connection, changed)


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


def _release(connection: Connection, now: datetime) -> None:
    """After an early end of a pause, everything that waited for its end is due now."""
    connection.execute(
        "UPDATE escalation_run r SET due_at = %(now)s "
        f"WHERE {is_about('r.alert_id', "a.status = 'open'")} AND r.status = 'paused' AND r.due_at > %(now)s "
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
        run_store.notify_administrators(connection, row["alert_id"], why, now)


# ---------- clock rollback
# Adjusts runs after a rollback of the database's clock, so that their timers fire as soon as they would have.
# The decision is pure. A step with a delay of ten minutes is due relative to the clock at which the delay began. Times
# set by people stay: the end of a hold, and the end of a pause of all paging.


CHUNK = 500


def shift_earlier(
    run: RunState, alert: AlertState, by: timedelta, now: datetime, pause: ActivePause | None = None
) -> RunState:
    """Returns `run` after the clock was rolled back by `by`, to `now`. None of its timers is later than before.

    `alert` is the state before the rollback; acknowledgements in the future are handled as in `acknowledged`. `pause`
    is the pause of all paging in force at `now`.
    """
    progress = run.progress
    after = shift_acknowledgements(alert, by, now)
    confirmed_at = {user: _shift_past_time(at, by, now) for user, at in progress.ack_confirmed_at.items()}
    reminded_at = {}
    for user, at in progress.ack_reminder_sent_at.items():
        moved_to, since = _shift_past_time(at, by, now), _last_confirmed_at(user, after, confirmed_at)
        # The order is preserved: an unanswered reminder stays unanswered, and an answered one stays answered.
        if since is None or at >= (_last_confirmed_at(user, alert, progress.ack_confirmed_at) or at):
            reminded_at[user] = moved_to if since is None else max(moved_to, since)
        elif moved_to < since:
            reminded_at[user] = moved_to
    moved = with_progress(
        run,
        step_due_at=progress.step_due_at - by if progress.step_due_at is not None else None,
        accept_by=progress.accept_by - by if progress.accept_by is not None else None,
        paging_until={user: until - by for user, until in progress.paging_until.items()},
        ack_reminder_sent_at=reminded_at,
        ack_confirmed_at=confirmed_at,
        **{
            name: _shift_past_time(at, by, now)
            for name in ("last_step_at", "exhausted_at", "paused_since", "escalate_requested_at", "assignee_page_at")
            if (at := getattr(progress, name)) is not None
        },
    )
    return derive_status(moved, after, now, pause if progress.pause_until is not None else None)


def shift_acknowledgements(alert: AlertState, by: timedelta, now: datetime) -> AlertState:
    """The alert, with acknowledgements in the future moved to when they really happened."""
    entries = {user: replace(one, at=_shift_past_time(one.at, by, now)) for user, one in alert.acknowledged.items()}
    return replace_state(alert, acknowledged=entries)


def _last_confirmed_at(user: int, alert: AlertState, confirmed_at: Mapping[int, datetime]) -> datetime | None:
    """When the user last acknowledged or confirmed; None when there is no acknowledgement."""
    entry = alert.acknowledged.get(user)
    return None if entry is None else max(entry.at, confirmed_at.get(user, entry.at))


def _shift_past_time(at: datetime, by: timedelta, now: datetime) -> datetime:
    """When something really happened: nothing has happened in the future."""
    return at - by if at > now else at


_WAITING = f"""
{ACTIVE_IDS} AND EXISTS (
  SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.status <> 'ended' AND r.mode <> 'record')
ORDER BY a.id FOR NO KEY UPDATE
"""

_CLOCK_ROLLBACK_READ = database.literal(
    f"SELECT {run_store.COLUMNS} FROM escalation_run r WHERE r.alert_id = ANY(%s) AND r.status <> 'ended' ORDER BY r.id"
)

#: For runs that cannot be read, or wait for a retry.
_SHIFT_DUE_AT = "UPDATE escalation_run SET due_at = due_at - %s WHERE id = ANY(%s) AND due_at > %s"


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves the timers of every active alert and locks the alerts for it. Returns the number of moved runs.

    A rollback of a minute or more is noted on each alert's timeline.
    """
    ids = [row[0] for row in connection.execute(_WAITING).fetchall()]
    pause = run_store.load_pause(connection, now)
    moved = sum(_chunk(connection, ids[first : first + CHUNK], by, now, pause) for first in range(0, len(ids), CHUNK))
    if moved:
        database.notify(connection, "runs")
    return moved


def _chunk(connection: Connection, ids: list[int], by: timedelta, now: datetime, pause: ActivePause | None) -> int:
    rows = database.rows(connection, _CLOCK_ROLLBACK_READ, (ids,))
    plans = load_plans(connection, {row["version_id"] for row in rows})
    states = store.load(connection, ids)
    runs: dict[int, RunState] = {}
    unreadable_ids: list[int] = []
    noted_ids: list[int] = []
    for row in rows:
        try:
            before = run_store.run_from_row(row, plans)
            run = shift_earlier(before, states[row["alert_id"]], by, now, pause)
        except Exception:  # one bad row must not stop the others
            log.exception("Run %s cannot be read after the clock was set back.", row["id"])
            unreadable_ids.append(row["id"])
            continue
        if row["failures"]:
            # Only the row knows when it is retried.
            unreadable_ids.append(row["id"])
        elif run != before:
            runs[row["id"]] = run
        if before.due_at is not None and run.due_at != before.due_at:
            noted_ids.append(row["alert_id"])
    run_store.update(connection, runs)
    connection.execute(_SHIFT_DUE_AT, (by, unreadable_ids, now))
    store.correct_after_rollback(connection, ids, by, now)
    if noted_ids and by >= MIN_REPORTED_ROLLBACK:
        reason = reasons.CLOCK_ROLLED_BACK(offset=round_jump(by))
        kind, via = EventKind.ESCALATION_CONTINUED, CommandChannel.POLICY
        store.insert_events(connection, [NewEvent(alert, kind, now, SYSTEM, reason, via) for alert in noted_ids])
    if noted_ids:
        service.publish_alert_changes(connection, noted_ids)
    return len(noted_ids)


# ---------- deactivated users
# Unassigns alerts from deactivated users and expires their acknowledgements, so that escalation starts again. Where
# only deactivated users were paged, the next step fires at once.
# This runs as a periodic task in a worker, so it works no matter how the account was deactivated.


#: A changed account wakes the task; without a hint it checks at this interval.
DEACTIVATED_USERS_INTERVAL = timedelta(minutes=1)


# Active alerts assigned to a deactivated user (`kind` owner), or unassigned and acknowledged by one.
_AFFECTED_ALERTS = f"""
SELECT a.id, 'owner' AS kind, u.id AS user_id
FROM {WITH_OWNER}
WHERE NOT u.is_active AND a.status = ANY(%(live)s) AND (%(only)s::bigint IS NULL OR a.id = %(only)s)
UNION ALL
SELECT a.id, 'acknowledged', u.id
FROM alerts_acknowledgement k {join_user("k.user_id")} AND NOT u.is_active
{join_alert("k.alert_id")} AND a.owner_id IS NULL AND a.owner_name = ''
WHERE a.status = ANY(%(live)s) AND (%(only)s::bigint IS NULL OR a.id = %(only)s)
ORDER BY 1, 2 DESC, 3 LIMIT %(most)s
"""


# Runs whose last step paged users, none of whom has an active account any more. A user may be deleted.
_ABANDONED_RUNS = f"""
SELECT r.alert_id
FROM escalation_run r {join_alert("r.alert_id")}
WHERE r.status = 'active' AND r.due_at > %(now)s AND a.status = ANY(%(live)s)
    AND (%(only)s::bigint IS NULL OR r.alert_id = %(only)s)
    AND EXISTS (
        SELECT 1 FROM jsonb_each_text(r.progress->'paging_until') p
        WHERE p.value::timestamptz >= (r.progress->>'last_step_at')::timestamptz
    )
    AND NOT EXISTS (
        SELECT 1 FROM jsonb_each_text(r.progress->'paging_until') p
        {join_user("p.key::bigint")} AND u.is_active
        WHERE p.value::timestamptz >= (r.progress->>'last_step_at')::timestamptz
    )
ORDER BY r.alert_id LIMIT %(most)s
"""


def deactivated_users_task() -> PeriodicTask:
    interval = DEACTIVATED_USERS_INTERVAL
    return PeriodicTask(
        "departed owners", lambda: release_deactivated_users(clock.now()), interval, frozenset({"config"})
    )


def release_deactivated_users(now: datetime) -> bool:
    """Releases one batch of alerts, and continues one batch of runs. Returns whether there may be more."""
    with database.transaction() as connection:
        affected = _load_affected(connection)
        abandoned = _load_abandoned(connection, now)
    released = _each(
        dict.fromkeys(alert_id for alert_id, _ in affected), lambda alert_id: _release_alert(alert_id, now)
    )
    continued = _each(abandoned, lambda alert_id: _continue_escalation(alert_id, now))
    return (len(affected) == BATCH and released > 0) or (len(abandoned) == BATCH and continued > 0)


def _each(alert_ids: Iterable[int], change: Callable[[int], bool]) -> int:
    """Changes each alert in a transaction of its own. Returns how many were changed."""
    changed = 0
    for alert_id in alert_ids:
        try:
            changed += database.retry_once(partial(change, alert_id))
        except Exception as error:  # one alert's failure must not stop the others
            if database.is_unavailable(error):
                raise
            ids = {"alert_id": alert_id}
            log.exception("Alert %s could not be taken from a deactivated user.", alert_id, extra=ids)
    return changed


def _release_alert(alert_id: int, now: datetime) -> bool:
    with database.transaction() as connection:
        store.lock(connection, [alert_id])
        # Another user may have been assigned, or the alert closed, before this transaction got the lock.
        affected = _load_affected(connection, alert_id)
        for _, command in affected:
            service.apply_command_within(connection, FoundAlert.by_tocsin(alert_id), command, now)
        return bool(affected)


def _continue_escalation(alert_id: int, now: datetime) -> bool:
    with database.transaction() as connection:
        store.lock(connection, [alert_id])
        if not _load_abandoned(connection, now, alert_id):
            return False
        row = run_store.current_rows(connection, [alert_id])[alert_id]
        run = run_store.run_from_row(row, load_plans(connection, {row["version_id"]}))
        continued = bring_forward(run, store.load(connection, [alert_id])[alert_id], now)
        if continued is run:
            return False
        run_store.update(connection, {row["id"]: continued})
        event = NewEvent(alert_id, EventKind.ESCALATION_CONTINUED, now, SYSTEM, reasons.RESPONDERS_DEACTIVATED())
        store.insert_events(connection, [event])
        database.notify(connection, "runs")
        return True


def _load_abandoned(connection: Connection, now: datetime, only_alert_id: int | None = None) -> list[int]:
    """The active alerts whose last step paged nobody who has an active account."""
    parameters = {"now": now, "live": sorted(ACTIVE), "only": only_alert_id, "most": BATCH}
    return [row["alert_id"] for row in database.rows(connection, _ABANDONED_RUNS, parameters)]


def _load_affected(connection: Connection, only_alert_id: int | None = None) -> list[tuple[int, Command]]:
    """The active alerts assigned to or acknowledged by a deactivated user, each with the command that ends it."""
    parameters: dict[str, object] = {"live": sorted(ACTIVE), "only": only_alert_id, "most": BATCH}
    # Not through CommandChannel.POLICY: the run must react to this as it reacts to a person's command.
    origin: dict[str, Any] = {"actor": SYSTEM, "via": CommandChannel.API, "note": reasons.ACCOUNT_DEACTIVATED()}
    return [
        (row["id"], Unassign(**origin))
        if row["kind"] == "owner"
        else (row["id"], ExpireAcknowledgement(**origin, user_id=row["user_id"]))
        for row in database.rows(connection, _AFFECTED_ALERTS, parameters)
    ]
