"""Adjusts runs after a rollback of the database's clock, so that their timers fire as soon as they would have.

The decision is pure. A step with a delay of ten minutes is due relative to the clock at which the delay began. Times
set by people stay: the end of a hold, and the end of a pause of all paging.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tocsin.alerts import service, store
from tocsin.alerts.commands import SYSTEM, AlertState, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime.clock_jump import REPORT_FROM, describe_jump
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import ActivePause, RunState, with_progress
from tocsin.escalation.run.run_status import settle
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
    after = acknowledged(alert, by, now)
    heard = {user: _happened(at, by, now) for user, at in progress.heard.items()}
    asked = {}
    for user, at in progress.asked.items():
        moved_to = _happened(at, by, now)
        since = _heard_of(user, after, heard)
        # The order is preserved: an unanswered reminder stays unanswered, and an answered one stays answered.
        if since is None or at >= (_heard_of(user, alert, progress.heard) or at):
            asked[user] = moved_to if since is None else max(moved_to, since)
        elif moved_to < since:
            asked[user] = moved_to
    moved = with_progress(
        run,
        step_due_at=progress.step_due_at - by if progress.step_due_at is not None else None,
        busy={user: until - by for user, until in progress.busy.items()},
        asked=asked,
        heard=heard,
        **{
            name: _happened(at, by, now)
            for name in ("last_step_at", "finished_at", "still_since", "wake_at")
            if (at := getattr(progress, name)) is not None
        },
    )
    return settle(moved, after, now, pause if progress.pause_until is not None else None)


def acknowledged(alert: AlertState, by: timedelta, now: datetime) -> AlertState:
    """The alert, with acknowledgements in the future moved to when they really happened."""
    entries = {user: replace(one, at=_happened(one.at, by, now)) for user, one in alert.acknowledged.items()}
    return replace(alert, acknowledged=entries)


def _heard_of(user: int, alert: AlertState, heard: Mapping[int, datetime]) -> datetime | None:
    """When the user last acknowledged or confirmed; None when there is no acknowledgement."""
    entry = alert.acknowledged.get(user)
    return None if entry is None else max(entry.at, heard.get(user, entry.at))


def _happened(at: datetime, by: timedelta, now: datetime) -> datetime:
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
_ALONE = "UPDATE escalation_run SET due_at = due_at - %s WHERE id = ANY(%s) AND due_at > %s"


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves the timers of every active alert and locks the alerts for it. Returns the number of moved runs.

    A rollback of a minute or more is noted on each alert's timeline.
    """
    ids = [row[0] for row in connection.execute(_WAITING).fetchall()]
    held = pauses.current_pause(connection, now)
    pause = ActivePause(held.until, held.reason) if held else None
    moved = sum(_chunk(connection, ids[first : first + CHUNK], by, now, pause) for first in range(0, len(ids), CHUNK))
    if moved:
        database.notify(connection, "runs")
    return moved


def _chunk(connection: Connection, ids: list[int], by: timedelta, now: datetime, pause: ActivePause | None) -> int:
    found = database.rows(connection, _READ, (ids,))
    known = load_plans(connection, {row["version_id"] for row in found})
    states = store.load(connection, ids)
    runs: dict[int, RunState] = {}
    alone: list[int] = []
    told: list[int] = []
    for row in found:
        try:
            before = run_store.as_run(row, known)
            run = shift_earlier(before, states[row["alert_id"]], by, now, pause)
        except Exception:  # one bad row must not stop the others
            log.exception("Run %s cannot be read after the clock was set back.", row["id"])
            alone.append(row["id"])
            continue
        if row["failures"]:
            # Only the row knows when it is retried.
            alone.append(row["id"])
        elif run != before:
            runs[row["id"]] = run
        if before.due_at is not None and run.due_at != before.due_at:
            told.append(row["alert_id"])
    run_store.update(connection, runs)
    connection.execute(_ALONE, (by, alone, now))
    store.correct_after_rollback(connection, ids, by, now)
    if told and by >= REPORT_FROM:
        reason = f"The database's clock was set back by {describe_jump(by)}: what waits comes so much earlier."
        events = [
            NewEvent(alert, EventKind.ESCALATION_GOES_ON, now, SYSTEM, reason, CommandChannel.POLICY, {})
            for alert in told
        ]
        store.insert_events(connection, events)
    if told:
        service.hint_alerts(connection, told)
    return len(told)
