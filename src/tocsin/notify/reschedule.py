"""Makes waiting pages due again when the condition they wait for changes: a user's notification rules or a provider's
capacity. `rules.pre_send_check` decides again just before sending. Runs inside the caller's Django transaction.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from tocsin.core.db.database import CHANNEL
from tocsin.notify.rules.delivery_reasons import HOURLY_LIMIT_REACHED, PAUSED_CODES, RATE_LIMITED, STARTED_EARLY
from tocsin.notify.rules.page_planner import DEFERRED_FROM

_OF_PERSON = """
WITH waiting AS (
  SELECT d.id, CASE WHEN n.data ? %(held)s THEN greatest(%(now)s, (n.data ->> %(held)s)::timestamptz) ELSE %(now)s END
    AS due_at
  FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
  WHERE d.status = 'queued' AND d.user_id = %(user)s AND d.purpose = 'page' AND d.due_at > %(now)s
    AND (d.reason_code = %(capped)s OR (n.data ? %(held)s AND d.attempts = 0))
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d SET due_at = least(d.due_at, w.due_at) FROM waiting w WHERE d.id = w.id
"""
# A delivery that waited for another reason first keeps that reason while it waits for its rate limit.
_OF_PROVIDERS = """
UPDATE notify_delivery SET due_at = %(now)s WHERE id IN (
  SELECT id FROM notify_delivery WHERE status = 'queued' AND due_at > %(now)s
    AND (late_since IS NOT NULL OR reason_code = ANY(%(reasons)s))
  ORDER BY id FOR NO KEY UPDATE)
"""


def reschedule_user(user_id: int, now: datetime) -> None:
    """Reschedules this user's pages that wait for the end of quiet hours or for the hourly limit."""
    _reschedule(_OF_PERSON, {"user": user_id, "now": now, "held": DEFERRED_FROM, "capped": HOURLY_LIMIT_REACHED.code})


def reschedule_providers(now: datetime) -> None:
    """Reschedules messages that wait for a provider's rate limit or for a provider to recover."""
    reasons = [RATE_LIMITED.code, HOURLY_LIMIT_REACHED.code, STARTED_EARLY.code, *PAUSED_CODES]
    _reschedule(_OF_PROVIDERS, {"now": now, "reasons": reasons})


def _reschedule(statement: str, parameters: dict[str, object]) -> None:
    with transaction.get_connection().cursor() as cursor:
        cursor.execute(statement, parameters)
        if cursor.rowcount > 0:
            cursor.execute("SELECT pg_notify(%s, 'outbox')", (CHANNEL,))
