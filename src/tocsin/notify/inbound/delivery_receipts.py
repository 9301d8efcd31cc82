"""Applies delivery receipts. After a failure, the next provider takes over at once; if nobody was reached, the user's
next contact method starts. Runs inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.reasons import NO_REASON, Reason, Text, reason_from_json
from tocsin.notify.dispatch import claim, results
from tocsin.notify.dispatch.send import redact_address
from tocsin.notify.interfaces import Receipt, ReceiptState
from tocsin.notify.providers import health, pool
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.rules.pre_send_check import FAULTS
from tocsin.notify.states import DeliveryStatus
from tocsin.people.sql import join_user

# ---------- opt outs
# An opt-out applies to the number on the channel for all providers: nobody gets texts against their will.


OPTED_IN = Text("You will receive text messages from Tocsin again.")


def opt_out(connection: Connection, channel: str, address: str, provider: str, now: datetime) -> None:
    """Stops all messages to the address on the channel."""
    connection.execute(
        "INSERT INTO notify_optout (channel, address, provider_name, at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (channel, address) DO NOTHING",
        (channel, address, provider, now),
    )


def opt_in(connection: Connection, channel: str, address: str) -> bool:
    """Allows messages to the address again. Returns whether they were stopped."""
    query = "DELETE FROM notify_optout WHERE channel = %s AND address = %s"
    return connection.execute(query, (channel, address)).rowcount > 0


def opted_out(connection: Connection) -> list[tuple[int, str, str, datetime]]:
    """Returns id, name, contact method and time of opt-out of each active user who has opted out with one."""
    rows = database.rows(
        connection,
        "SELECT u.id, u.display_name AS name, m.label, o.at FROM notify_optout o "
        "JOIN people_contactmethod m ON m.channel = o.channel AND m.address = o.address AND m.is_enabled "
        f"{join_user('m.user_id')} AND u.is_active ORDER BY name, m.label",
    )
    return [(row["id"], row["name"], row["label"], row["at"]) for row in rows]


#: How far back deliveries are matched by the vendor's message id alone.
RECEIPT_WINDOW = timedelta(days=2)


def apply(
    connection: Connection, provider: str, receipt: Receipt, now: datetime, *, is_final: bool = False
) -> list[UUID]:
    """Records a receipt from `provider` and applies its consequences. Returns the ids of the deliveries concerned. A
    final failure (`is_final`) is not handed to another provider.
    """
    delivery_ids = deliveries(connection, provider, receipt.key, receipt.external_id, now)
    if not delivery_ids:
        return []
    match receipt.state:
        case ReceiptState.IN_TRANSIT:
            return delivery_ids
        case ReceiptState.DELIVERED | ReceiptState.ANSWERED:
            _delivered(connection, delivery_ids, provider, receipt, now)
        case ReceiptState.FAILED:
            _failed(connection, delivery_ids, provider, receipt, now, is_final=is_final)
        case ReceiptState.NOT_REACHED:
            _not_reached(connection, delivery_ids, provider, receipt, now)
        case ReceiptState.ENDED:
            _ended(connection, delivery_ids, provider, receipt, now)
    alert_ids = connection.execute(
        "SELECT DISTINCT alert_id FROM notify_delivery WHERE id = ANY(%s) AND alert_id IS NOT NULL", (delivery_ids,)
    ).fetchall()
    if alert_ids:
        database.notify(connection, "alerts", *(f"alert:{row[0]}" for row in alert_ids))
    else:
        # A user who tests a contact method is watching the page.
        database.notify(connection, "outbox")
    return delivery_ids


def deliveries(connection: Connection, provider: str, key: str, external_id: str, now: datetime) -> list[UUID]:
    """Returns the deliveries that were sent as the message with that key, else with that vendor message id."""
    try:
        notification = UUID(key) if key else None
    except ValueError:
        notification = None
    if notification is not None:
        rows = connection.execute(
            "SELECT id FROM notify_delivery WHERE (notification_id = %(key)s OR id = ANY(ARRAY("
            "SELECT unnest(deliveries) FROM notify_bundle WHERE notification = %(key)s))) "
            "AND provider_name = %(provider)s ORDER BY id",
            {"key": notification, "provider": provider},
        ).fetchall()
    elif external_id:
        # Ids are UUIDv7s: the primary key leads to the newest rows, and no other index is needed.
        rows = connection.execute(
            "SELECT id FROM notify_delivery WHERE id >= %s AND external_id = %s AND provider_name = %s ORDER BY id",
            (ids.first_uuid7(now - RECEIPT_WINDOW), external_id, provider),
        ).fetchall()
    else:
        rows = []
    return [row[0] for row in rows]


# Includes messages that were tried and are queued again, or were cancelled, after their outcome was lost: the receipt
# reports the outcome.
_POSSIBLY_SENT = """(status IN ('sending', 'sent', 'delivered') OR (status = 'queued' AND attempts > 0)
            OR (status = 'cancelled' AND outcome_unknown_at IS NOT NULL))"""

# If nothing else was sent through the provider, the receipt is about an attempt whose response was lost and that was
# handed to another provider.
_DELIVERED = f"""
WITH lost AS (
  SELECT DISTINCT ON (notification_id) id FROM notify_delivery d WHERE id = ANY(%(ids)s)
    AND status = 'failed' AND attempts > 0 AND NOT is_permanent AND receipt = ''
    AND NOT EXISTS (SELECT FROM notify_delivery o
                    WHERE o.id = ANY(%(ids)s) AND o.notification_id = d.notification_id AND {_POSSIBLY_SENT})
  ORDER BY notification_id, outcome_unknown_at IS NULL, id DESC
), held AS (
  SELECT id, status FROM notify_delivery WHERE id = ANY(%(ids)s) AND ({_POSSIBLY_SENT} OR id IN (SELECT id FROM lost))
    AND receipt NOT IN ('answered', 'not_reached') ORDER BY id FOR NO KEY UPDATE
)
UPDATE notify_delivery d
SET status = 'delivered', receipt = %(receipt)s, delivered_at = coalesce(d.delivered_at, %(now)s),
    sent_at = coalesce(d.sent_at, d.outcome_unknown_at, %(now)s), error = '{{}}',
    lease_until = NULL, leased_by = '', ended_at = NULL,
    reason = CASE WHEN held.status IN ('queued', 'failed', 'cancelled') THEN %(reason)s ELSE d.reason END,
    external_id = coalesce(nullif(d.external_id, ''), %(external_id)s)
FROM held WHERE d.id = held.id
"""
# Once delivered, a message must not also be sent through another provider.
_CANCEL_OTHER_SENDS = """
WITH other AS (
  SELECT o.id FROM notify_delivery d JOIN notify_delivery o ON o.notification_id = d.notification_id
  WHERE d.id = ANY(%(ids)s) AND d.status = 'delivered' AND o.status IN ('queued', 'sending')
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'queued' THEN 'cancelled' ELSE d.status END,
    reason = CASE WHEN d.status = 'queued' THEN %(reason)s ELSE d.reason END,
    cancel_requested = CASE WHEN d.status = 'queued' THEN d.cancel_requested ELSE %(reason)s END,
    ended_at = CASE WHEN d.status = 'queued' THEN %(now)s ELSE d.ended_at END
FROM other WHERE d.id = other.id AND d.status IN ('queued', 'sending')
"""


def _delivered(
    connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime
) -> None:
    parameters = {
        "ids": delivery_ids,
        "receipt": str(receipt.state),
        "now": now,
        "external_id": receipt.external_id[:200],
        "reason": delivery_reasons.DELIVERED_AFTER_ALL(provider=provider),
    }
    connection.execute(_DELIVERED, parameters)
    connection.execute(_CANCEL_OTHER_SENDS, parameters)
    results.end(connection, delivery_ids)
    health.record_outcomes(connection, [health.HealthUpdate(provider, now)])


_NOT_REACHED = f"""
WITH held AS (
  SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) AND {_POSSIBLY_SENT}
    AND receipt NOT IN ('answered', 'not_reached') ORDER BY id FOR NO KEY UPDATE
)
UPDATE notify_delivery d
SET status = 'sent', receipt = 'not_reached', delivered_at = NULL,
    sent_at = coalesce(d.sent_at, d.outcome_unknown_at, %(now)s),
    lease_until = NULL, leased_by = '', ended_at = NULL, error = '{{}}',
    reason = {claim.joined_reason("d.reason", "%(reason)s")},
    external_id = coalesce(nullif(d.external_id, ''), %(external_id)s)
FROM held WHERE d.id = held.id RETURNING d.id
"""


def _ended(connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime) -> None:
    """A call that ended before it said anything (or while the vendor was still detecting a machine) reached nobody."""
    without_receipt = connection.execute(
        "SELECT id FROM notify_delivery WHERE id = ANY(%s) AND receipt = ''", (delivery_ids,)
    ).fetchall()
    if without_receipt:
        not_reached = replace(receipt, reason=delivery_reasons.CALL_CUT_OFF())
        _not_reached(connection, [row[0] for row in without_receipt], provider, not_reached, now)


def _not_reached(
    connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime
) -> None:
    """Records that the provider worked but nobody was reached."""
    parameters = {"ids": delivery_ids, "now": now, "reason": receipt.reason, "external_id": receipt.external_id[:200]}
    rows = connection.execute(database.literal(_NOT_REACHED), parameters).fetchall()
    changed = [row[0] for row in rows]
    results.end(connection, delivery_ids)
    results.start_next_method(connection, changed, delivery_reasons.CALL_NOT_REACHED(), now)
    health.record_outcomes(connection, [health.HealthUpdate(provider, now)])


# A message that was sent again has another vendor id. A receipt for the first attempt does not apply to it.
_FAILED = """
WITH held AS (
  SELECT id, status, cancel_requested FROM notify_delivery
  WHERE id = ANY(%(ids)s) AND status IN ('sending', 'sent')
    AND receipt = '' AND (external_id = '' OR %(external_id)s::text IN ('', external_id))
  ORDER BY id FOR NO KEY UPDATE
)
UPDATE notify_delivery d SET receipt = 'failed', external_id = coalesce(nullif(d.external_id, ''), %(external_id)s)
FROM held WHERE d.id = held.id RETURNING d.id, held.status, held.cancel_requested
"""


def _failed(
    connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime, *, is_final: bool
) -> None:
    changed: dict[UUID, Reason] = {}
    final_ids: set[UUID] = set()
    parameters = {"ids": delivery_ids, "external_id": receipt.external_id[:200]}
    for row_id, status, requested in connection.execute(_FAILED, parameters).fetchall():
        cancel_requested = reason_from_json(requested)
        changed[row_id] = cancel_requested if status == DeliveryStatus.SENDING else NO_REASON
        if is_final or (cancel_requested and status == DeliveryStatus.SENT):
            # Someone has responded since: do not page through another provider.
            final_ids.add(row_id)
    if not changed:
        return
    results.end(connection, delivery_ids)
    send_failure = AttemptFailed(receipt.failure, receipt.reason)
    failed_deliveries = [
        replace(due, problem=send_failure.error) if due.id in final_ids else due
        for due in claim.facts(connection, sorted(changed))
    ]
    attempts = results.attempts_by_provider(connection, {due.notification_id for due in failed_deliveries})
    outcomes = [
        results.next_attempt(
            results.DeliveryFailure(due, provider, send_failure, now),
            changed[due.id],
            attempts.get(due.notification_id, {}),
            pool.in_order(connection, due.channel, due.address),
            0.0,
        )
        for due in failed_deliveries
    ]
    results.write_outcomes(connection, outcomes)
    retried = [outcome.failure.due.id for outcome in outcomes if outcome.status == DeliveryStatus.QUEUED]
    if retried:
        # A retry is a new message without a receipt, for which the user's next contact method does not wait.
        connection.execute("UPDATE notify_delivery SET receipt = '', external_id = '' WHERE id = ANY(%s)", (retried,))
        results.start_next_method(connection, retried, delivery_reasons.METHOD_FAILED(), now)
    if receipt.failure in FAULTS:
        health.record_outcomes(connection, [health.HealthUpdate(provider, now, send_failure.error)])


def record_bounce(
    connection: Connection, notification: UUID, user_id: int, server_message: str, now: datetime
) -> Reason | None:
    """Records a bounced mail to a user, which no other provider can fix. Returns the recorded reason, or None if no
    mail of that notification had been sent to that user.
    """
    row = database.row(
        connection,
        "SELECT provider_name, address FROM notify_delivery WHERE notification_id = %s AND user_id = %s "
        "AND channel = 'email' AND status IN ('sending', 'sent') ORDER BY id DESC LIMIT 1",
        (notification, user_id),
    )
    if row is None:
        return None
    error = redact_address(server_message, "email", row["address"]).rstrip(".")
    reason = delivery_reasons.BOUNCED(error=error)
    receipt = Receipt(ReceiptState.FAILED, str(notification), "", reason, FailureKind.NO_SUCH_ADDRESS)
    apply(connection, row["provider_name"], receipt, now, is_final=True)
    return reason


_APPEND = f"""
UPDATE notify_delivery d SET reason = {claim.joined_reason("d.reason", "%(reason)s")}
WHERE d.id IN (SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE)
"""


def append_reason(connection: Connection, delivery_ids: Sequence[UUID], reason: Reason) -> None:
    """Appends a reason to that of these deliveries."""
    connection.execute(database.literal(_APPEND), {"reason": reason, "ids": list(delivery_ids)})
