"""Adjusts outbound timers after a rollback of the database's clock, so that retries are not delayed."""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.outbound.delivery.queue import TOPIC

_CALLS = """
UPDATE outbound_call SET due_at = due_at - %(by)s WHERE id IN (
  SELECT id FROM outbound_call WHERE status = 'queued' AND due_at > %(now)s ORDER BY id FOR NO KEY UPDATE)
"""

# Rate limit and next poll correct themselves.
_STATUS_ROWS = """
UPDATE outbound_integrationstatus SET
  open_until = CASE WHEN open_until > %(now)s THEN open_until - %(by)s ELSE open_until END,
  blocked_until = CASE WHEN blocked_until > %(now)s THEN blocked_until - %(by)s ELSE blocked_until END,
  not_before = CASE WHEN not_before > %(now)s THEN not_before - %(by)s ELSE not_before END
WHERE integration_id IN (
  SELECT integration_id FROM outbound_integrationstatus
  WHERE open_until > %(now)s OR blocked_until > %(now)s OR not_before > %(now)s
  ORDER BY integration_id FOR NO KEY UPDATE)
"""


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves the timers by `by`. Returns the number of calls moved."""
    parameters = {"by": by, "now": now}
    moved = connection.execute(_CALLS, parameters).rowcount
    connection.execute(_STATUS_ROWS, parameters)
    database.notify(connection, TOPIC)
    return moved
