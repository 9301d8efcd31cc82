"""Deletes expired data: notifications with deliveries, outbound calls, workflow runs, sandbox, audit log, old sessions,
and imports that were never applied.

Works in small transactions, oldest first. Never deletes anything unsent or anything of an active alert.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from tocsin.access import audit_log
from tocsin.alerts.states import ACTIVE
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.runtime import clock

INTERVAL = timedelta(minutes=5)

#: Rows of one kind deleted per transaction.
CHUNK = 5_000

# Ids are UUIDv7: the primary key finds the oldest rows, and limits the scan to them.
_NOTIFICATIONS = """
WITH old AS (
  SELECT n.id FROM notify_notification n WHERE n.id < %(first)s AND n.created_at < %(before)s
  AND NOT EXISTS (SELECT FROM alerts_alert a WHERE a.id = n.alert_id AND a.status = ANY(%(live)s))
  AND NOT EXISTS (SELECT FROM notify_delivery d WHERE d.notification_id = n.id AND d.status IN ('queued', 'sending'))
  ORDER BY n.id LIMIT %(chunk)s
), deliveries AS (
  DELETE FROM notify_delivery d USING old WHERE d.notification_id = old.id
)
DELETE FROM notify_notification n USING old WHERE n.id = old.id
"""

_SANDBOX = """
DELETE FROM notify_sandboxmessage WHERE id IN (
  SELECT id FROM (SELECT id, at FROM notify_sandboxmessage ORDER BY id LIMIT %(chunk)s) AS oldest
  WHERE at < %(before)s)
"""

# First requests and responses, then ended calls, including dead letters.
_EXCHANGES = """
DELETE FROM outbound_exchange WHERE id IN (
  SELECT e.id FROM outbound_exchange e WHERE e.at < %(before)s AND NOT EXISTS (
    SELECT FROM outbound_call c JOIN alerts_alert a ON a.id = c.alert_id
    WHERE c.id = e.call_id AND a.status = ANY(%(live)s))
  ORDER BY e.at LIMIT %(chunk)s)
"""

_CALLS = """
WITH old AS (
  SELECT id FROM (SELECT c.id, c.queued_at, c.status FROM outbound_call c
    WHERE NOT EXISTS (SELECT FROM alerts_alert a WHERE a.id = c.alert_id AND a.status = ANY(%(live)s))
    ORDER BY c.id LIMIT %(chunk)s) AS oldest
  WHERE queued_at < %(before)s AND status NOT IN ('queued', 'sending')
), said AS (
  DELETE FROM outbound_exchange e USING old WHERE e.call_id = old.id
)
DELETE FROM outbound_call c USING old WHERE c.id = old.id
"""

# A workflow's runs on an active alert still count for its limits, and are kept.
_RUNS = """
DELETE FROM workflows_run WHERE id IN (
  SELECT r.id FROM workflows_run r WHERE r.ended_at < %(before)s AND r.status <> 'stuck'
  AND NOT EXISTS (SELECT FROM alerts_alert a WHERE a.id = r.alert_id AND a.status = ANY(%(live)s))
  ORDER BY r.ended_at LIMIT %(chunk)s)
"""

_SESSIONS = """
WITH old AS (
  SELECT session_key FROM django_session WHERE expire_date < %(before)s LIMIT %(chunk)s
), browsers AS (
  DELETE FROM identity_browsersession b USING old WHERE b.session_key = old.session_key
)
DELETE FROM django_session s USING old WHERE s.session_key = old.session_key
"""


# Imported data contains phone numbers, and possibly senders' keys. After this time it is outdated as well.
_IMPORTS = """
UPDATE configure_importrun SET configuration = '', state = 'failed', progress = '{}',
  plan = '[]', problem = '{"code": "import.expired", "data": {}}'
WHERE beat_at < %(before)s AND configuration <> ''
"""

UNAPPLIED_RETENTION = timedelta(days=7)


def run_once(now: datetime, *, chunk: int = CHUNK) -> bool:
    """Deletes one chunk of each kind, unless the clock may be far ahead. Returns whether there may be more."""
    with database.transaction() as connection:
        if clock.is_clock_suspect(connection, now):
            return False
        settings = settings_store.load(connection)
    sent_before = now - timedelta(days=settings[settings_store.DELIVERY_RETENTION_DAYS.name])
    changed_before = now - timedelta(days=settings[settings_store.AUDIT_RETENTION_DAYS.name])
    removed = [
        _remove(_NOTIFICATIONS, sent_before, chunk),
        _remove(_SANDBOX, sent_before, chunk),
        _remove(_EXCHANGES, sent_before, chunk),
        _remove(_CALLS, sent_before, chunk),
        _remove(_RUNS, sent_before, chunk),
        audit_log.delete_before(changed_before, chunk),
        _remove(_SESSIONS, now, chunk),
    ]
    _remove(_IMPORTS, now - UNAPPLIED_RETENTION, chunk)
    return max(removed) >= chunk


def _remove(query: str, before: datetime, chunk: int) -> int:
    with database.transaction() as connection:
        parameters = {"before": before, "first": _first_id(before), "chunk": chunk, "live": sorted(ACTIVE)}
        return connection.execute(database.literal(query), parameters).rowcount


def _first_id(at: datetime) -> UUID:
    """A UUIDv7 before all those created at `at`; its 48 highest bits are Unix milliseconds (RFC 9562, section 5.7)."""
    return UUID(int=(int(at.timestamp() * 1000) & 0xFFFF_FFFF_FFFF) << 80)
