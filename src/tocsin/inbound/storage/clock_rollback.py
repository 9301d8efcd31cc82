"""Moves delayed alerts and rate windows back in time after a rollback of the database's clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.ids import advisory_lock_key
from tocsin.inbound.deciding.state import DelayReason

#: Delays that are counted from their start. Support hours and maintenance windows end at real times, and an alert that
#: waits for a count must not be dropped earlier.
_RELATIVE_DELAYS = (DelayReason.WAIT, DelayReason.EVERY, DelayReason.FLAPPING)

#: The maximum number of keys to lock: advisory locks use PostgreSQL's shared lock table.
_MAX_LOCKS = 1000

_KEYS = """
SELECT key_hash FROM inbound_delayedalert WHERE due_at > %(now)s AND delay_reason = ANY(%(waits)s)
UNION ALL SELECT hash FROM inbound_ratewindow WHERE until > %(now)s OR at > %(now)s
"""

_DELAYED_ALERTS = """
UPDATE inbound_delayedalert SET due_at = due_at - %(by)s, since = CASE WHEN since > %(now)s THEN since - %(by)s
ELSE since END WHERE due_at > %(now)s AND delay_reason = ANY(%(waits)s)
"""

_RATE_WINDOWS = """
UPDATE inbound_ratewindow SET until = CASE WHEN until > %(now)s THEN until - %(by)s ELSE until END,
       at = CASE WHEN at > %(now)s THEN at - %(by)s ELSE at END,
       times = ARRAY(SELECT CASE WHEN t > %(now)s THEN t - %(by)s ELSE t END
                     FROM unnest(times) WITH ORDINALITY AS n(t, place) ORDER BY place)
WHERE until > %(now)s OR at > %(now)s
"""


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves them, under their keys' locks. Returns the number of delayed alerts moved."""
    parameters = {"by": by, "now": now, "waits": [str(delay_reason) for delay_reason in _RELATIVE_DELAYS]}
    rows = connection.execute(_KEYS, parameters).fetchall()
    if not rows:
        return 0
    lock_numbers = sorted({advisory_lock_key(bytes(row[0])) for row in rows})[:_MAX_LOCKS]
    connection.execute("SELECT pg_advisory_xact_lock(n) FROM unnest(%s::bigint[]) AS n", (lock_numbers,))
    moved_count = connection.execute(_DELAYED_ALERTS, parameters).rowcount
    connection.execute(_RATE_WINDOWS, parameters)
    database.notify(connection, "delayed")
    return moved_count
