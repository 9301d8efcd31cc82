"""Queues acknowledgement reminders. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tocsin.core.db.database import Connection
from tocsin.core.reasons import Person
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.rules.page_planner import PageRequest, Unreachable
from tocsin.notify.states import Purpose


def queue_ack_reminder(connection: Connection, targets: Sequence[tuple[int, int]], now: datetime) -> list[Unreachable]:
    """Queues the acknowledgement reminder "Still on it?" for each (alert id, user id), on every contact method without
    a wait, else on the first. Returns the users who cannot be asked.
    """
    recipients = load_recipients(connection, {user_id for _, user_id in targets})
    rows: list[NotificationRow] = []
    unreachable: list[Unreachable] = []
    for alert_id, user_id in targets:
        recipient = recipients.get(user_id)
        name = recipient.name if recipient else "Somebody"
        usable = [
            method
            for method in (recipient.methods if recipient and recipient.is_active else ())
            if method.is_enabled and address_problem(method.channel, method.address) is None
        ]
        if not usable:
            is_deactivated = recipient is not None and not recipient.is_active
            cause = delivery_reasons.ACCOUNT_DISABLED if is_deactivated else delivery_reasons.NO_USABLE_METHOD
            reason = delivery_reasons.NOT_REMINDED(user=Person(name, user_id), cause=cause())
            unreachable.append(Unreachable(PageRequest(alert_id, now, reason, user_id), name, reason))
        rows += [
            NotificationRow(
                purpose=Purpose.ACK_REMINDER,
                channel=method.channel,
                address=method.address,
                label=method.label,
                reason=delivery_reasons.ACKNOWLEDGED_BEFORE(),
                due_at=now,
                alert_id=alert_id,
                user_id=user_id,
            )
            for method in ([m for m in usable if not m.wait] or usable[:1])
        ]
    write(connection, rows, now)
    return unreachable
