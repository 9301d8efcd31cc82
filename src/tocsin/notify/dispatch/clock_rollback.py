"""What waits to be sent after the database's clock was set back: it comes so much earlier, and nothing of it later.

What waits for a moment that somebody chose stays: the end of a hold, of a pause. What waits for the end of quiet hours,
for a turn or for room is looked at when it is due, and waits on where that is right.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.rules.page_planner import HELD_FROM
from tocsin.notify.rules.pre_send_check import ON_HOLD

_RECEIPTS = """
UPDATE notify_awaitedreceipt SET due_at = due_at - %(by)s WHERE delivery IN (
  SELECT delivery FROM notify_awaitedreceipt WHERE due_at > %(now)s ORDER BY due_at FOR UPDATE)
"""

# What quiet hours hold back is looked at when it was to leave without them: by the right clock they may not hold it.
_DELIVERIES = """
WITH waiting AS (
  SELECT d.id, d.notification_id, CASE WHEN d.attempts = 0 THEN (n.data ->> %(held)s)::timestamptz END AS held_from
  FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
  WHERE d.status = 'queued' AND d.due_at > %(now)s AND d.reason <> %(on_hold)s
  ORDER BY d.id FOR NO KEY UPDATE OF d
), held AS (
  UPDATE notify_notification n SET data = n.data || jsonb_build_object(%(held)s::text, w.held_from - %(by)s)
  FROM waiting w WHERE n.id = w.notification_id AND w.held_from > %(now)s
)
UPDATE notify_delivery d SET
  late_since = CASE WHEN d.late_since > %(now)s THEN d.late_since - %(by)s ELSE d.late_since END,
  due_at = CASE
    WHEN w.held_from IS NULL THEN d.due_at - %(by)s
    WHEN w.held_from > %(now)s THEN least(d.due_at, greatest(%(now)s, w.held_from - %(by)s))
    ELSE %(now)s END
FROM waiting w WHERE d.id = w.id
"""

_HEALTH = """
UPDATE notify_providerhealth SET retry_at = CASE WHEN retry_at > %(now)s THEN retry_at - %(by)s ELSE retry_at END,
       free_at = CASE WHEN free_at > %(now)s THEN free_at - %(by)s ELSE free_at END
WHERE name IN (SELECT name FROM notify_providerhealth WHERE retry_at > %(now)s OR free_at > %(now)s
               ORDER BY name FOR NO KEY UPDATE)
"""

_LEFT = """
UPDATE notify_lastsent l SET left_at = l.left_at - %(by)s FROM (
  SELECT recipient, channel, address, purpose FROM notify_lastsent WHERE left_at > %(now)s
  ORDER BY recipient, channel, address, purpose FOR NO KEY UPDATE) AS k
WHERE (l.recipient, l.channel, l.address, l.purpose) = (k.recipient, k.channel, k.address, k.purpose)
"""


def set_back(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves it. Returns how many messages wait less long."""
    parameters = {"by": by, "now": now, "on_hold": ON_HOLD, "held": HELD_FROM}
    # In the order in which they are locked where something is sent.
    connection.execute(_RECEIPTS, parameters)
    moved = connection.execute(_DELIVERIES, parameters).rowcount
    connection.execute(_HEALTH, parameters)
    connection.execute(_LEFT, parameters)
    if moved:
        database.hint(connection, "outbox")
    return moved
