"""Corrects deliveries after a rollback of the database's clock: due times move back by the same amount, so that no
message waits longer.

A time that a person chose stays: the end of a hold or of a pause. A message that waits for quiet hours, a rate limit or
a bundle is checked again when it is due, and waits on if necessary.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin.core.db.database import Connection
from tocsin.notify.rules.delivery_reasons import ON_HOLD
from tocsin.notify.rules.page_planner import DEFERRED_FROM

# A page delayed by quiet hours is checked again at its original time: by the corrected clock, quiet hours may not
# apply.
_DELIVERIES = """
WITH waiting AS (
  SELECT d.id, d.notification_id, CASE WHEN d.attempts = 0 THEN (n.data ->> %(held)s)::timestamptz END AS held_from
  FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
  WHERE d.status = 'queued' AND d.due_at > %(now)s AND d.reason_code <> %(on_hold)s
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


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves the due times back by `by`. Returns how many messages were moved."""
    parameters = {"by": by, "now": now, "on_hold": ON_HOLD.code, "held": DEFERRED_FROM}
    return connection.execute(_DELIVERIES, parameters).rowcount
