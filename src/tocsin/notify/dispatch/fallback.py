"""Moves an all-clear to another contact method if its own can no longer be used, and a page if no other contact method
would follow. Runs inside the caller's transaction and sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.dispatch.reason_sql import append_reason, reason_arrays
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.registry import address_problem, quietest_channel
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.delivery_reasons import FELL_BACK
from tocsin.notify.rules.notification_rules import NotificationMethod, Recipient, is_quiet
from tocsin.notify.rules.page_planner import FallbackMethod
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose

_FALLBACK_METHODS = """
SELECT w.id, m.label, m.channel, m.address,
       EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id AND p.user_id = d.user_id
               AND p.purpose = 'page' AND p.channel = m.channel
               AND (p.status IN ('sending', 'sent', 'delivered') OR p.outcome_unknown_at IS NOT NULL))
         AS was_used
FROM unnest(%s::uuid[]) AS w(id) JOIN notify_delivery d ON d.id = w.id
JOIN people_contactmethod m ON m.user_id = d.user_id AND m.is_enabled AND NOT m.awaits_code
WHERE NOT EXISTS (SELECT FROM notify_optout o WHERE o.channel = m.channel AND o.address = m.address)
  -- A page whose recipient has, or had, another contact method pending is left alone: that method is used instead.
  AND (d.purpose <> 'page' OR NOT EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id
       AND p.user_id = d.user_id AND p.purpose = 'page' AND p.queued_at = d.queued_at
       AND (p.channel, p.address) <> (d.channel, d.address) AND p.status IN ('queued', 'sending', 'sent', 'delivered')))
ORDER BY w.id, m.position, m.id
"""
_APPLY_FALLBACK = f"""
WITH found AS (
  SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::jsonb[])
    AS f(id, label, channel, address, code, data)
), turned AS (
  UPDATE notify_delivery d SET channel = f.channel, address = f.address FROM found f WHERE d.id = f.id
  RETURNING d.notification_id, f.label, f.channel, f.address, f.code, f.data
)
UPDATE notify_notification n
SET label = t.label, channel = t.channel, address = t.address, {append_reason("n", "t.code", "t.data")}
FROM turned t WHERE n.id = t.notification_id
"""


def apply_fallbacks(connection: Connection, unusable: Sequence[DueDelivery], now: datetime) -> list[DueDelivery]:
    """Moves each all-clear to the contact method that `page_planner.select_fallback` selects, and each page to the
    first that quiet hours do not delay. Records the reason. Returns the deliveries that were moved; those without
    another contact method are left unchanged.
    """
    if not unusable:
        return []
    methods_by_delivery: dict[object, list[FallbackMethod]] = {}
    for row in database.rows(connection, _FALLBACK_METHODS, ([due.id for due in unusable],)):
        if address_problem(row["channel"], row["address"]) is None:
            methods_by_delivery.setdefault(row.pop("id"), []).append(FallbackMethod(**row))
    pages = {due.user_id for due in unusable if due.purpose is Purpose.PAGE and due.user_id is not None}
    recipients = load_recipients(connection, pages)
    fallbacks = [
        (due, method)
        for due in unusable
        if (method := _choose_fallback(due, methods_by_delivery.get(due.id, ()), recipients, now)) is not None
    ]
    codes, data = reason_arrays(FELL_BACK(method=method.label, previous=due.label) for due, method in fallbacks)
    connection.execute(
        database.literal(_APPLY_FALLBACK),
        (
            [due.id for due, _ in fallbacks],
            [method.label for _, method in fallbacks],
            [method.channel for _, method in fallbacks],
            [method.address for _, method in fallbacks],
            codes,
            data,
        ),
    )
    return [due for due, _ in fallbacks]


def _choose_fallback(
    due: DueDelivery, methods: Sequence[FallbackMethod], recipients: Mapping[int, Recipient], now: datetime
) -> FallbackMethod | None:
    if due.purpose is not Purpose.PAGE:
        return page_planner.select_fallback(methods, quietest_channel)
    recipient = recipients.get(due.user_id or 0)
    if recipient is None or due.alert is None:
        return None
    for method in methods:
        if not is_quiet(
            recipient, NotificationMethod(method.label, method.channel, method.address), due.alert.priority, now
        ):
            return method
    return None
