"""Fills the search index of messages and alerts in the background, without slowing down ingest.

Works in the order of message ids, which is chronological. Rows that are not indexed yet are searched directly.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from tocsin.alerts import search_index
from tocsin.core.db import database
from tocsin.core.db.trigram_index import search_expression
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.models import MessageText

#: The maximum number of messages, and of alerts, per run. During a flood, ingest and paging have priority.
MAX_ROWS_PER_RUN = 500

INTERVAL = timedelta(seconds=1)

#: A message that is pending for longer does not hold up the others: it is then indexed without its later values.
MAX_PENDING_AGE = timedelta(minutes=10)

#: An advisory lock, so that only one node fills the index.
_LOCK = 0x746F635F776F7264

_FILL = f"""
WITH next AS (
  SELECT m.id, m.subject, m.source_id, m.alert_id, m.received_at, m.status FROM inbound_inboundmessage m
  WHERE m.id > coalesce((SELECT message_id FROM inbound_messagetext ORDER BY message_id DESC LIMIT 1), %(first)s)
  ORDER BY m.id LIMIT %(most)s
), unsettled AS (
  SELECT id FROM next WHERE received_at >= %(settled)s OR (status = 'Pending' AND received_at >= %(waits)s)
  ORDER BY id LIMIT 1
), done AS (
  INSERT INTO inbound_messagetext (message_id, subject, source_id)
  SELECT n.id, {search_expression("n.subject", "n.source_id")} FROM next n
  WHERE n.id < coalesce((SELECT id FROM unsettled), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  ON CONFLICT DO NOTHING RETURNING message_id
)
SELECT n.alert_id FROM next n JOIN done d ON d.message_id = n.id
"""

_FIRST = UUID(int=0)


def search_index_task() -> PeriodicTask:
    """Returns the worker's periodic task."""
    return PeriodicTask("inbound search", lambda: run_once(clock.now()), INTERVAL)


def run_once(now: datetime, *, max_rows: int = MAX_ROWS_PER_RUN) -> bool:
    """Indexes the next alerts and messages. Always returns False, to run at the interval only: see MAX_ROWS_PER_RUN."""
    with database.transaction() as connection:
        lock_row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
        if lock_row is None or not lock_row[0]:
            return False
        search_index.fill(connection, now, max_rows)
        rows = connection.execute(
            _FILL,
            {
                "first": _FIRST,
                "most": max_rows,
                "settled": now - search_index.SETTLE_AFTER,
                "waits": now - MAX_PENDING_AGE,
            },
        ).fetchall()
        search_index.refresh(connection, [row[0] for row in rows if row[0] is not None])
    return False


def newest_indexed_id() -> UUID:
    """Returns the id of the newest indexed message; all older ones are indexed too."""
    return MessageText.objects.order_by("-pk").values_list("pk", flat=True).first() or _FIRST
