"""Unassigns alerts from deactivated users and expires their acknowledgements, so that escalation starts again.

This runs as a periodic task in a worker, so it works no matter how the account was deactivated.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts import service, store
from tocsin.alerts.commands import SYSTEM, Command, ExpireAcknowledgement, Unassign
from tocsin.alerts.states import ACTIVE, CommandChannel
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation import reasons

log = logging.getLogger(__name__)

#: A changed account wakes the task; without a hint it checks at this interval.
INTERVAL = timedelta(minutes=1)
BATCH = 100

NOTE = reasons.ACCOUNT_DEACTIVATED()

# Active alerts assigned to a deactivated user (`kind` owner), or unassigned and acknowledged by one.
_AFFECTED_ALERTS = """
SELECT a.id, 'owner' AS kind, u.id AS user_id
FROM alerts_alert a JOIN people_user u ON u.id = a.owner_id AND NOT u.is_active
WHERE a.status = ANY(%(live)s) AND (%(only)s::bigint IS NULL OR a.id = %(only)s)
UNION ALL
SELECT a.id, 'acknowledged', u.id
FROM alerts_acknowledgement k JOIN people_user u ON u.id = k.user_id AND NOT u.is_active
JOIN alerts_alert a ON a.id = k.alert_id AND a.owner_id IS NULL AND a.owner_name = ''
WHERE a.status = ANY(%(live)s) AND (%(only)s::bigint IS NULL OR a.id = %(only)s)
ORDER BY 1, 2 DESC, 3 LIMIT %(most)s
"""


def deactivated_users_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("departed owners", lambda: run_once(clock.now()), INTERVAL, frozenset({"config"}))


def run_once(now: datetime) -> bool:
    """Releases one batch of alerts. Returns whether there may be more."""
    with database.transaction() as connection:
        affected = _load_affected(connection)
    released = 0
    for alert_id in dict.fromkeys(alert_id for alert_id, _ in affected):
        try:
            released += database.retry_once(lambda alert_id=alert_id: _release(alert_id, now))  # type: ignore[misc]
        except Exception as error:  # one alert's failure must not stop the others
            if database.is_unavailable(error):
                raise
            log.exception("Alert %s could not be unassigned.", alert_id)
    return len(affected) == BATCH and released > 0


def _release(alert_id: int, now: datetime) -> bool:
    with database.transaction() as connection:
        store.lock(connection, [alert_id])
        # Another user may have been assigned, or the alert closed, before this transaction got the lock.
        affected = _load_affected(connection, alert_id)
        for _, command in affected:
            service.apply_command_within(connection, alert_id, command, now)
        return bool(affected)


def _load_affected(connection: Connection, only_alert_id: int | None = None) -> list[tuple[int, Command]]:
    """The active alerts assigned to or acknowledged by a deactivated user, each with the command that ends it."""
    parameters: dict[str, object] = {"live": sorted(ACTIVE), "only": only_alert_id, "most": BATCH}
    return [(row["id"], _ending_command(row)) for row in database.rows(connection, _AFFECTED_ALERTS, parameters)]


def _ending_command(row: dict[str, Any]) -> Command:
    # Not through CommandChannel.POLICY: the run must react to this as it reacts to a person's command.
    if row["kind"] == "owner":
        return Unassign(actor=SYSTEM, via=CommandChannel.API, note=NOTE)
    return ExpireAcknowledgement(actor=SYSTEM, via=CommandChannel.API, note=NOTE, user_id=row["user_id"])
