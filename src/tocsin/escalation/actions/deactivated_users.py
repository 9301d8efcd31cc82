"""Unassigns alerts from deactivated users and expires their acknowledgements, so that escalation starts again. Where
only deactivated users were paged, the next step fires at once.

This runs as a periodic task in a worker, so it works no matter how the account was deactivated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tocsin.alerts import service, store
from tocsin.alerts.commands import SYSTEM, Command, ExpireAcknowledgement, NewEvent, Unassign
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.sql import WITH_OWNER, join_alert
from tocsin.alerts.states import ACTIVE, CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation import reasons
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import bring_forward
from tocsin.escalation.run.run_store import load_plans
from tocsin.people.sql import join_user

log = logging.getLogger(__name__)

#: A changed account wakes the task; without a hint it checks at this interval.
INTERVAL = timedelta(minutes=1)
BATCH = 100

NOTE = reasons.ACCOUNT_DEACTIVATED()

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
    """The worker's periodic task."""
    return PeriodicTask("departed owners", lambda: run_once(clock.now()), INTERVAL, frozenset({"config"}))


def run_once(now: datetime) -> bool:
    """Releases one batch of alerts, and continues one batch of runs. Returns whether there may be more."""
    with database.transaction() as connection:
        affected = _load_affected(connection)
        abandoned = _load_abandoned(connection, now)
    released = _each(dict.fromkeys(alert_id for alert_id, _ in affected), lambda alert_id: _release(alert_id, now))
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
            log.exception(
                "Alert %s could not be taken from a deactivated user.", alert_id, extra={"alert_id": alert_id}
            )
    return changed


def _release(alert_id: int, now: datetime) -> bool:
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
    return [(row["id"], _ending_command(row)) for row in database.rows(connection, _AFFECTED_ALERTS, parameters)]


def _ending_command(row: dict[str, Any]) -> Command:
    # Not through CommandChannel.POLICY: the run must react to this as it reacts to a person's command.
    if row["kind"] == "owner":
        return Unassign(actor=SYSTEM, via=CommandChannel.API, note=NOTE)
    return ExpireAcknowledgement(actor=SYSTEM, via=CommandChannel.API, note=NOTE, user_id=row["user_id"])
