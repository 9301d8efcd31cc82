"""Cancels queued pages with a reason, and restores them when the action that cancelled them is reversed. Runs inside
the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, as_reason
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.states import DeliveryStatus, Purpose

#: The purposes that are cancelled when an alert needs nobody any more.
ACTIVE_ALERT_PURPOSES = (Purpose.PAGE, Purpose.ACK_REMINDER)

# A sent page without a receipt may still be reported as failed, after which the next provider would take over.
_CANCELLABLE = """
SELECT id FROM notify_delivery
WHERE alert_id = ANY(%(alerts)s) AND purpose = ANY(%(purposes)s)
  AND (status IN ('queued', 'sending') OR (status = 'sent' AND receipt = '' AND cancel_requested_code = ''))
  AND (%(users)s::bigint[] IS NULL OR user_id = ANY(%(users)s))
  AND (%(queued_since)s::timestamptz IS NULL OR queued_at >= %(queued_since)s)
ORDER BY id FOR NO KEY UPDATE
"""
_CANCEL = f"""
WITH wanted AS ({_CANCELLABLE})
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'queued' THEN 'cancelled' ELSE d.status END,
    reason_code = CASE WHEN d.status <> 'queued' THEN d.reason_code
                       WHEN d.outcome_unknown_at IS NOT NULL THEN %(not_resent_code)s ELSE %(code)s END,
    reason_data = CASE WHEN d.status <> 'queued' THEN d.reason_data
                       WHEN d.outcome_unknown_at IS NOT NULL THEN %(not_resent_data)s ELSE %(data)s END,
    cancel_requested_code = CASE WHEN d.status = 'queued' THEN d.cancel_requested_code ELSE %(code)s END,
    cancel_requested_data = CASE WHEN d.status = 'queued' THEN d.cancel_requested_data ELSE %(data)s END,
    ended_at = CASE WHEN d.status = 'queued' THEN %(now)s ELSE d.ended_at END
FROM wanted w WHERE d.id = w.id AND d.status IN ('queued', 'sending', 'sent')
RETURNING d.alert_id, d.user_id, d.status
"""


@dataclass(frozen=True, slots=True)
class CancelledPages:
    """The number of cancelled pages by alert and user (None: group contacts)."""

    counts: Mapping[tuple[int, int | None], int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def cancel_pages(
    connection: Connection,
    alert_ids: Iterable[int],
    user_ids: Iterable[int] | None,
    reason: Reason | str,
    now: datetime,
    *,
    purposes: Collection[Purpose] = ACTIVE_ALERT_PURPOSES,
    queued_since: datetime | None = None,
) -> CancelledPages:
    """Cancels queued deliveries of these alerts, for all users or only for `user_ids`, of any age or only those queued
    at `queued_since` or later. The rows stay, with the reason.

    A delivery that is being sent or was sent cannot be recalled. If it fails, it is not retried, for the same reason.
    """
    code, data = reason_columns(as_reason(reason))
    not_resent_code, not_resent_data = reason_columns(delivery_reasons.NOT_RESENT(cause=as_reason(reason)))
    parameters = {
        "alerts": sorted(set(alert_ids)),
        "users": None if user_ids is None else sorted(set(user_ids)),
        "purposes": [str(purpose) for purpose in purposes],
        "queued_since": queued_since,
        "code": code,
        "data": Jsonb(data),
        "not_resent_code": not_resent_code,
        "not_resent_data": Jsonb(not_resent_data),
        "now": now,
    }
    # Locks in a separate statement first: if a failed attempt has just inserted the next provider's row, the second
    # statement sees it.
    connection.execute(_CANCELLABLE, parameters)
    rows = connection.execute(database.literal(_CANCEL), parameters).fetchall()
    counts: dict[tuple[int, int | None], int] = {}
    for alert_id, user_id, status in rows:
        if status == DeliveryStatus.CANCELLED:
            counts[alert_id, user_id] = counts.get((alert_id, user_id), 0) + 1
    return CancelledPages(counts)


# A delivery that was being sent at the time of the action, and failed later, was cancelled at its failure.
_RESTORE = """
WITH undone AS (
  SELECT * FROM unnest(%(alerts)s::bigint[], %(moments)s::timestamptz[], %(codes)s::text[], %(data)s::jsonb[],
                       %(after)s::timestamptz[]) AS u(alert_id, at, code, data, due_after)
), wanted AS (
  SELECT d.id, u.code, u.data FROM notify_delivery d JOIN undone u ON u.alert_id = d.alert_id
  WHERE d.purpose = 'page' AND (
    (d.status = 'cancelled' AND (d.ended_at = u.at OR (d.cancel_requested_code <> '' AND d.ended_at > u.at))
     AND (u.due_after IS NULL OR d.due_at > u.due_after))
    OR (d.status IN ('sending', 'sent') AND d.cancel_requested_code <> ''))
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'cancelled' THEN 'queued' ELSE d.status END,
    reason_code = CASE WHEN d.status = 'cancelled' THEN w.code ELSE d.reason_code END,
    reason_data = CASE WHEN d.status = 'cancelled' THEN w.data ELSE d.reason_data END,
    ended_at = CASE WHEN d.status = 'cancelled' THEN NULL ELSE d.ended_at END,
    cancel_requested_code = '', cancel_requested_data = '{}'
FROM wanted w WHERE d.id = w.id
RETURNING d.alert_id, d.user_id, d.due_at, d.status
"""


@dataclass(frozen=True, slots=True)
class ReversedAction:
    """The reversal of an action that cancelled pages: when the action was done, and why the pages are restored."""

    at: datetime
    reason: Reason | str
    #: Restores only pages that are due after this; None restores all.
    due_after: datetime | None = None


def restore_pages(connection: Connection, reversals: Mapping[int, ReversedAction]) -> dict[int, dict[int, datetime]]:
    """Restores pages that an action cancelled, by alert. They are sent at their original due time.

    Returns, by alert, the time of each user's last restored page.
    """
    if not reversals:
        return {}
    columns = [reason_columns(as_reason(reversal.reason)) for reversal in reversals.values()]
    parameters = {
        "alerts": list(reversals),
        "moments": [reversal.at for reversal in reversals.values()],
        "codes": [code for code, _ in columns],
        "data": [Jsonb(data) for _, data in columns],
        "after": [reversal.due_after for reversal in reversals.values()],
    }
    restored: dict[int, dict[int, datetime]] = {}
    for alert_id, user_id, due_at, status in connection.execute(_RESTORE, parameters).fetchall():
        if status == DeliveryStatus.QUEUED:
            users = restored.setdefault(alert_id, {})
            if user_id is not None:
                users[user_id] = max(due_at, users.get(user_id, due_at))
    if restored:
        database.notify(connection, "outbox")
    return restored


def release_pages(connection: Connection, alert_ids: Iterable[int], now: datetime) -> int:
    """Sends pages that waited for the end of their alert's hold. Returns how many."""
    released_count = connection.execute(
        "UPDATE notify_delivery SET due_at = %s WHERE id IN (SELECT id FROM notify_delivery "
        "WHERE alert_id = ANY(%s) AND status = 'queued' AND reason_code = %s ORDER BY id FOR NO KEY UPDATE)",
        (now, sorted(set(alert_ids)), delivery_reasons.ON_HOLD.code),
    ).rowcount
    if released_count:
        database.notify(connection, "outbox")
    return released_count
