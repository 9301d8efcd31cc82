"""Receipt timeouts: if a provider accepts a page but does not report it as delivered in time, the user's next contact
method starts. Timers are database rows. Runs inside the caller's transaction and sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from tocsin.alerts.states import Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.dispatch.reason_sql import append_reason
from tocsin.notify.dispatch.sent_journal import SentDelivery
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.rules.delivery_reasons import NO_RECEIPT, NOT_CONFIRMED, STARTED_EARLY
from tocsin.notify.rules.notification_rules import NotificationMethod, is_quiet
from tocsin.notify.rules.page_planner import NOTICE_HORIZON

#: An unresponsive phone counts against its provider at most once in this time.
COUNT_ONCE_PER = timedelta(hours=1)

#: The maximum number of overdue receipts in one run.
MAX_RECEIPTS_PER_RUN = 200


_AWAIT = """
INSERT INTO notify_awaitedreceipt (delivery, due_at, timeout_seconds)
SELECT t.id, t.due_at, t.timeout_seconds FROM unnest(%s::uuid[], %s::timestamptz[], %s::int[]) AS t(id, due_at,
timeout_seconds)
JOIN notify_delivery d ON d.id = t.id AND d.status = 'sent' AND d.receipt = ''
ON CONFLICT (delivery) DO UPDATE SET due_at = excluded.due_at, timeout_seconds = excluded.timeout_seconds
"""


def begin(connection: Connection, sent: Sequence[SentDelivery]) -> None:
    """Records the time by which accepted pages must be reported as delivered, for providers with delivery receipts."""
    rows = [
        (one.id, one.at + timedelta(seconds=one.receipt_timeout), one.receipt_timeout)
        for one in sent
        if one.receipt_timeout is not None
    ]
    if rows:
        connection.execute(_AWAIT, ([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]))


def end(connection: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Stops waiting for receipts of these deliveries, since the provider has reported."""
    connection.execute("DELETE FROM notify_awaitedreceipt WHERE delivery = ANY(%s)", (list(delivery_ids),))


@dataclass(frozen=True, slots=True)
class OverdueReceipt:
    """A delivery without a receipt in time."""

    id: UUID
    provider: str
    timeout_seconds: int
    channel: str
    address: str


# `NOT_CONFIRMED`, with a duration in seconds.
_NOT_CONFIRMED = """jsonb_build_object('provider', d.provider_name,
      'duration', jsonb_build_object('seconds', h.timeout_seconds))"""
_OVERDUE = f"""
WITH late AS (
  DELETE FROM notify_awaitedreceipt WHERE delivery IN (
    SELECT delivery FROM notify_awaitedreceipt WHERE due_at <= %s ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
  RETURNING delivery, timeout_seconds
), held AS (
  SELECT d.id, l.timeout_seconds FROM notify_delivery d JOIN late l ON l.delivery = d.id
  WHERE d.status = 'sent' AND d.receipt = '' ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET {append_reason("d", f"'{NOT_CONFIRMED.code}'", _NOT_CONFIRMED)}
FROM held h WHERE d.id = h.id RETURNING d.id, d.provider_name, h.timeout_seconds, d.channel, d.address
"""


def overdue(connection: Connection, now: datetime) -> list[OverdueReceipt]:
    """Takes the overdue receipts, records the reason on each delivery, and starts the next contact methods."""
    query = database.literal(_OVERDUE)
    receipts = [OverdueReceipt(*row) for row in connection.execute(query, (now, MAX_RECEIPTS_PER_RUN)).fetchall()]
    for receipt in receipts:
        start_next_method(connection, [receipt.id], NO_RECEIPT(provider=receipt.provider), now)
    return receipts


class UnresponsiveAddresses:
    """Recently unresponsive addresses by provider. A phone that is off is not its provider's fault, so an address
    counts once per hour, and only several consecutive ones open the circuit breaker. One per process.
    """

    def __init__(self) -> None:
        self._counted_at: dict[tuple[str, str, str], datetime] = {}

    def select_counted(self, overdue_receipts: Sequence[OverdueReceipt], now: datetime) -> list[OverdueReceipt]:
        """Returns the overdue receipts that count against their provider."""
        self._counted_at = {key: at for key, at in self._counted_at.items() if at > now - COUNT_ONCE_PER}
        counted = []
        for receipt in overdue_receipts:
            key = (receipt.provider, receipt.channel, receipt.address)
            if key not in self._counted_at:
                self._counted_at[key] = now
                counted.append(receipt)
        return counted


# A contact method that has already started, after its wait or after an earlier failure, is not a next one: its repeats
# are not brought forward. Pages of the same plan have the same `queued_at`.
_NOT_STARTED = """
WITH stuck AS (
  SELECT DISTINCT alert_id, user_id, channel, address FROM notify_delivery
  WHERE id = ANY(%(ids)s) AND purpose = 'page' AND user_id IS NOT NULL AND alert_id IS NOT NULL
)
SELECT d.id, d.alert_id, d.user_id, d.channel, d.address, n.label, a.priority FROM stuck s
JOIN notify_delivery d ON d.alert_id = s.alert_id AND d.user_id = s.user_id AND d.purpose = 'page'
    AND d.status = 'queued' AND d.provider_name = '' AND d.attempts = 0 AND d.due_at > %(now)s AND d.due_at <= %(soon)s
    AND (d.channel, d.address) <> (s.channel, s.address)
JOIN notify_notification n ON n.id = d.notification_id JOIN alerts_alert a ON a.id = d.alert_id
WHERE NOT EXISTS (SELECT FROM notify_delivery b WHERE b.alert_id = d.alert_id AND b.user_id = d.user_id
    AND b.purpose = 'page' AND b.channel = d.channel AND b.address = d.address AND b.queued_at = d.queued_at
    AND (b.status NOT IN ('queued', 'cancelled') OR (b.status = 'queued' AND (b.due_at <= %(now)s OR b.attempts > 0))))
ORDER BY d.due_at, d.id
"""
_START_NOW = """
UPDATE notify_delivery SET due_at = %(now)s, reason_code = %(code)s, reason_data = %(data)s WHERE id IN (
  SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) AND status = 'queued'
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
"""


def start_next_method(connection: Connection, delivery_ids: Sequence[UUID], cause: Reason, now: datetime) -> int:
    """Starts each user's next contact method now instead of after its wait, unless quiet hours apply. Returns how many
    were started.
    """
    page_ids = _find_next_pages(connection, delivery_ids, now)
    if not page_ids:
        return 0
    code, data = reason_columns(STARTED_EARLY(cause=cause))
    parameters = {"ids": page_ids, "now": now, "code": code, "data": Jsonb(data)}
    started = connection.execute(_START_NOW, parameters).rowcount
    if started:
        database.notify(connection, "outbox")
    return started


def _find_next_pages(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> list[UUID]:
    """Returns the ids of the first page on each user's next contact method that may be sent now."""
    parameters = {"ids": list(delivery_ids), "now": now, "soon": now + NOTICE_HORIZON}
    rows = database.rows(connection, _NOT_STARTED, parameters)
    recipients = load_recipients(connection, {row["user_id"] for row in rows})
    first_page_ids: dict[tuple[int, int], UUID] = {}
    for row in rows:
        method = NotificationMethod(row["label"], row["channel"], row["address"])
        recipient = recipients.get(row["user_id"])
        if recipient is None or not is_quiet(recipient, method, Priority(row["priority"]), now):
            first_page_ids.setdefault((row["alert_id"], row["user_id"]), row["id"])
    return list(first_page_ids.values())
