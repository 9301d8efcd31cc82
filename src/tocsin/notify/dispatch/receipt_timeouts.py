"""Receipt timeouts: if a provider accepts a page but does not report it as delivered in time, the user's next contact
method starts. Timers are database rows. Runs inside the caller's transaction and sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.alerts.states import Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.dispatch.send import Accepted, SendResult
from tocsin.notify.enqueue import queue
from tocsin.notify.rules.notification_rules import NotificationMethod, is_quiet
from tocsin.notify.rules.page_planner import NOTICE_HORIZON
from tocsin.notify.rules.pre_send_check import BROUGHT_FORWARD
from tocsin.notify.states import Purpose

#: The reasons why the next contact method starts early.
FAILED = "the way before it failed"
NOT_REACHED = "the call before it reached nobody"

#: An unresponsive phone counts against its provider at most once in this time.
COUNT_ONCE_PER = timedelta(hours=1)

#: The maximum number of overdue receipts in one run.
MAX_RECEIPTS_PER_RUN = 200


_BEGIN = """
INSERT INTO notify_awaitedreceipt (delivery, due_at, waited)
SELECT t.id, t.due_at, t.waited FROM unnest(%s::uuid[], %s::timestamptz[], %s::int[]) AS t(id, due_at, waited)
JOIN notify_delivery d ON d.id = t.id AND d.status = 'sent' AND d.receipt = ''
ON CONFLICT (delivery) DO UPDATE SET due_at = excluded.due_at, waited = excluded.waited
"""


def begin(connection: Connection, results: Sequence[SendResult]) -> None:
    """Records the time by which accepted pages must be reported as delivered, for providers with delivery receipts."""
    rows = [
        (due.id, result.at + timedelta(seconds=carrier.receipt_timeout), carrier.receipt_timeout)
        for result in results
        if isinstance(result.outcome, Accepted)
        and (carrier := result.job.carrier) is not None
        and result.job.bundle.lead.channel in carrier.receipts
        for due in result.job.bundle.members
        if due.purpose is Purpose.PAGE and due.user_id is not None
    ]
    if rows:
        connection.execute(_BEGIN, ([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]))


def end(connection: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Stops waiting for receipts of these deliveries, since the provider has reported."""
    connection.execute("DELETE FROM notify_awaitedreceipt WHERE delivery = ANY(%s)", (list(delivery_ids),))


@dataclass(frozen=True, slots=True)
class OverdueReceipt:
    """A delivery without a receipt in time."""

    id: UUID
    provider: str
    waited: int
    channel: str
    address: str


_OVERDUE = """
WITH late AS (
  DELETE FROM notify_awaitedreceipt WHERE delivery IN (
    SELECT delivery FROM notify_awaitedreceipt WHERE due_at <= %s ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
  RETURNING delivery, waited
), held AS (
  SELECT d.id, l.waited FROM notify_delivery d JOIN late l ON l.delivery = d.id
  WHERE d.status = 'sent' AND d.receipt = '' ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET reason = concat_ws(' ', nullif(d.reason, ''), format(
      '%%s did not report it as delivered within %%s seconds.', d.provider_name, h.waited))
FROM held h WHERE d.id = h.id RETURNING d.id, d.provider_name, h.waited, d.channel, d.address
"""


def overdue(connection: Connection, now: datetime) -> list[OverdueReceipt]:
    """Takes the overdue receipts, records the reason on each delivery, and starts the next contact methods."""
    found = [OverdueReceipt(*row) for row in connection.execute(_OVERDUE, (now, MAX_RECEIPTS_PER_RUN)).fetchall()]
    for one in found:
        why = f"{one.provider} did not report the way before as delivered"
        move_on(connection, [one.id], why, now)
    return found


class SilentAddresses:
    """Recently unresponsive addresses by provider. A phone that is off is not its provider's fault, so an address
    counts once per hour, and only several consecutive ones open the circuit breaker. One per process.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[str, str, str], datetime] = {}

    def counted(self, late: Sequence[OverdueReceipt], now: datetime) -> list[OverdueReceipt]:
        """Returns the overdue receipts that count against their provider."""
        self._since = {key: at for key, at in self._since.items() if at > now - COUNT_ONCE_PER}
        found = []
        for one in late:
            key = (one.provider, one.channel, one.address)
            if key not in self._since:
                self._since[key] = now
                found.append(one)
        return found


# A contact method that has already started, after its wait or after an earlier failure, is not a next one: its repeats
# are not brought forward. Pages of the same plan have the same `queued_at`.
_NOT_BEGUN = """
WITH stuck AS (
  SELECT DISTINCT alert_id, user_id, channel, address FROM notify_delivery
  WHERE id = ANY(%(ids)s) AND purpose = 'page' AND user_id IS NOT NULL AND alert_id IS NOT NULL
)
SELECT d.id, d.alert_id, d.user_id, d.channel, d.address, n.label, a.priority FROM stuck s
JOIN notify_delivery d ON d.alert_id = s.alert_id AND d.user_id = s.user_id AND d.purpose = 'page'
    AND d.status = 'queued' AND d.provider_name = '' AND d.due_at > %(now)s AND d.due_at <= %(soon)s
    AND (d.channel, d.address) <> (s.channel, s.address)
JOIN notify_notification n ON n.id = d.notification_id JOIN alerts_alert a ON a.id = d.alert_id
WHERE NOT EXISTS (SELECT FROM notify_delivery b WHERE b.alert_id = d.alert_id AND b.user_id = d.user_id
    AND b.purpose = 'page' AND b.channel = d.channel AND b.address = d.address AND b.queued_at = d.queued_at
    AND (b.status NOT IN ('queued', 'cancelled') OR (b.status = 'queued' AND b.due_at <= %(now)s)))
ORDER BY d.due_at, d.id
"""
_BRING_FORWARD = """
UPDATE notify_delivery SET due_at = %(now)s, reason = %(why)s WHERE id IN (
  SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) AND status = 'queued'
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
"""


def move_on(connection: Connection, delivery_ids: Sequence[UUID], why: str, now: datetime) -> int:
    """Starts each user's next contact method now instead of after its wait, unless quiet hours apply. Returns how many
    were started.
    """
    following = _following(connection, delivery_ids, now)
    if not following:
        return 0
    wanted = {"ids": following, "now": now, "why": f"{BROUGHT_FORWARD}, because {why}."}
    moved = connection.execute(_BRING_FORWARD, wanted).rowcount
    if moved:
        database.notify(connection, "outbox")
    return moved


def _following(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> list[UUID]:
    """Returns the ids of the first page on each user's next contact method that may be sent now."""
    wanted = {"ids": list(delivery_ids), "now": now, "soon": now + NOTICE_HORIZON}
    rows = database.rows(connection, _NOT_BEGUN, wanted)
    people = queue.people_of(connection, {row["user_id"] for row in rows})
    found: dict[tuple[int, int], UUID] = {}
    for row in rows:
        method = NotificationMethod(row["label"], row["channel"], row["address"])
        person = people.get(row["user_id"])
        if person is None or not is_quiet(person, method, Priority(row["priority"]), now):
            found.setdefault((row["alert_id"], row["user_id"]), row["id"])
    return list(found.values())
