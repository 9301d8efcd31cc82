"""Adjusts runs after a rollback of the database's clock, so that their timers fire as soon as they would have.

The decision is pure. A step with a delay of ten minutes is due relative to the clock at which the delay began. Times
set by people stay: the end of a hold, and the end of a pause of all paging.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from msgspec.structs import replace as replace_state

from tocsin.alerts import service, store
from tocsin.alerts.commands import SYSTEM, AlertState, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime.clock_jump import MIN_REPORTED_ROLLBACK, round_jump
from tocsin.escalation import reasons
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import ActivePause, RunState, with_progress
from tocsin.escalation.run.run_status import derive_status
from tocsin.notify import pause as pauses

log = logging.getLogger(__name__)

#: Alerts that are read and written per batch.
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
        moved_to = _shift_past_time(at, by, now)
        since = _last_confirmed_at(user, after, confirmed_at)
        # The order is preserved: an unanswered reminder stays unanswered, and an answered one stays answered.
        if since is None or at >= (_last_confirmed_at(user, alert, progress.ack_confirmed_at) or at):
            reminded_at[user] = moved_to if since is None else max(moved_to, since)
        elif moved_to < since:
            reminded_at[user] = moved_to
    moved = with_progress(
        run,
        step_due_at=progress.step_due_at - by if progress.step_due_at is not None else None,
        paging_until={user: until - by for user, until in progress.paging_until.items()},
        ack_reminder_sent_at=reminded_at,
        ack_confirmed_at=confirmed_at,
        **{
            name: _shift_past_time(at, by, now)
            for name in ("last_step_at", "exhausted_at", "paused_since", "escalate_requested_at")
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


_WAITING = """
SELECT a.id FROM alerts_alert a WHERE EXISTS (
  SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.status <> 'ended' AND r.mode <> 'record')
AND a.status IN ('open', 'assigned', 'on_hold') ORDER BY a.id FOR NO KEY UPDATE
"""

_READ = database.literal(
    f"SELECT {run_store.COLUMNS} FROM escalation_run r WHERE r.alert_id = ANY(%s) AND r.status <> 'ended' ORDER BY r.id"
)

#: For runs that cannot be read, or wait for a retry.
_SHIFT_DUE_AT = "UPDATE escalation_run SET due_at = due_at - %s WHERE id = ANY(%s) AND due_at > %s"


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves the timers of every active alert and locks the alerts for it. Returns the number of moved runs.

    A rollback of a minute or more is noted on each alert's timeline.
    """
    ids = [row[0] for row in connection.execute(_WAITING).fetchall()]
    current_pause = pauses.current_pause(connection, now)
    pause = ActivePause(current_pause.until, current_pause.reason) if current_pause else None
    moved = sum(_chunk(connection, ids[first : first + CHUNK], by, now, pause) for first in range(0, len(ids), CHUNK))
    if moved:
        database.notify(connection, "runs")
    return moved


def _chunk(connection: Connection, ids: list[int], by: timedelta, now: datetime, pause: ActivePause | None) -> int:
    rows = database.rows(connection, _READ, (ids,))
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
        events = [
            NewEvent(alert, EventKind.ESCALATION_CONTINUED, now, SYSTEM, reason, CommandChannel.POLICY, {})
            for alert in noted_ids
        ]
        store.insert_events(connection, events)
    if noted_ids:
        service.publish_alert_changes(connection, noted_ids)
    return len(noted_ids)
