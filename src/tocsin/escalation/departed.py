"""Gives back what somebody has whose account was switched off: nobody answers for it any more, so that its escalation
starts again. A loop of a worker, so that it happens whichever way the account was switched off."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from tocsin.alerts import commands, rows
from tocsin.alerts.orders import SYSTEM, Unassign
from tocsin.alerts.states import LIVE, Via
from tocsin.core import clock, database
from tocsin.core.database import Connection
from tocsin.core.loops import Loop

log = logging.getLogger(__name__)

#: A change of an account wakes the loop; without a hint it looks this often.
EVERY = timedelta(minutes=1)
BATCH = 100

NOTE = "the account was switched off"

_THEIRS = """
SELECT a.id FROM alerts_alert a JOIN people_user u ON u.id = a.owner_id AND NOT u.is_active
WHERE a.status = ANY(%s) AND (%s::bigint IS NULL OR a.id = %s) ORDER BY a.id LIMIT %s
"""


def loop() -> Loop:
    """The loop for a worker."""
    return Loop("departed owners", lambda: turn(clock.now()), EVERY, frozenset({"config"}))


def turn(now: datetime) -> bool:
    """Gives a batch of alerts back. Returns whether there may be more."""
    with database.transaction() as connection:
        found = _theirs(connection)
    given_back = 0
    for alert_id in found:
        try:
            given_back += database.retry_once(lambda alert_id=alert_id: _give_back(alert_id, now))  # type: ignore[misc]
        except Exception as error:  # an alert's edge: the others are given back all the same
            if database.is_unavailable(error):
                raise
            log.exception("Alert %s could not be given back.", alert_id)
    return len(found) == BATCH and given_back > 0


def _give_back(alert_id: int, now: datetime) -> bool:
    with database.transaction() as connection:
        rows.lock(connection, [alert_id])
        # Somebody else may have taken it, or closed it, before the lock.
        if not _theirs(connection, alert_id):
            return False
        order = Unassign(actor=SYSTEM, via=Via.API, note=NOTE)
        return commands.act_within(connection, alert_id, order, now).is_change


def _theirs(connection: Connection, only: int | None = None) -> list[int]:
    """The live alerts that somebody has who is switched off."""
    parameters = (sorted(LIVE), only, only, BATCH)
    return [row[0] for row in connection.execute(_THEIRS, parameters).fetchall()]
