"""Queues all-clears: messages that an alert needs nobody any more. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, reason_as_json
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import quietest_channel
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.rules import page_planner as planning
from tocsin.notify.rules.page_planner import AllClear, PagedRecipient
from tocsin.notify.states import Purpose


@dataclass(frozen=True, slots=True)
class AlertEnded:
    """An alert that needs nobody any more: the sentence for the users who were paged, and the users who
    have responded.
    """

    alert_id: int
    #: "Assigned to Alice: VPN down (#42). Nothing to do."
    sentence: Reason
    #: Users besides those who have acknowledged or own the alert, such as the user who closed it.
    responder_ids: frozenset[int] = frozenset()
    #: The alert that it was merged into, which has its own all-clear. Users who were paged about both get only that
    #: one.
    merged_into: int | None = None


_PAGED = """
SELECT d.alert_id, d.user_id, d.channel, d.address, n.label, coalesce(d.sent_at, d.outcome_unknown_at) AS sent_at
FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
JOIN people_user u ON u.id = d.user_id AND u.is_active
WHERE d.alert_id = ANY(%(alerts)s) AND d.purpose = 'page'
  AND (d.status IN ('sending', 'sent', 'delivered') OR d.outcome_unknown_at IS NOT NULL)
ORDER BY d.id
"""
_RESPONDERS = """
SELECT alert_id, user_id FROM alerts_acknowledgement WHERE alert_id = ANY(%(alerts)s)
UNION SELECT id, owner_id FROM alerts_alert WHERE id = ANY(%(alerts)s) AND owner_id IS NOT NULL
"""
_LAST_ALL_CLEARS = """
SELECT alert_id, user_id, max(created_at) FROM notify_notification
WHERE alert_id = ANY(%(alerts)s) AND purpose = 'all_clear' GROUP BY alert_id, user_id
"""


def queue_all_clear(connection: Connection, ended: Sequence[AlertEnded], now: datetime) -> list[AllClear]:
    """Queues one all-clear to each user who was paged about these alerts and has not responded, on the quietest channel
    used.

    A page that is being sent counts: its all-clear follows it, or is dropped if the page is never sent. A page with an
    unknown outcome counts too, since it may have woken the user.
    """
    if not ended:
        return []
    by_alert = {entry.alert_id: entry for entry in ended}
    parameters: dict[str, object] = {"alerts": list(by_alert)}
    paged = [PagedRecipient(**row) for row in database.rows(connection, _PAGED, parameters)]
    if not paged:
        return []
    responder_ids = {alert_id: set(entry.responder_ids) for alert_id, entry in by_alert.items()}
    for alert_id, user_id in connection.execute(_RESPONDERS, parameters).fetchall():
        responder_ids[alert_id].add(user_id)
    for entry in ended:
        if entry.merged_into is not None:
            responder_ids[entry.alert_id] |= responder_ids[entry.merged_into]
            responder_ids[entry.alert_id] |= {page.user_id for page in paged if page.alert_id == entry.merged_into}
    last_all_clears = {(row[0], row[1]): row[2] for row in connection.execute(_LAST_ALL_CLEARS, parameters).fetchall()}
    all_clears = planning.all_clears(
        paged, {key: frozenset(users) for key, users in responder_ids.items()}, last_all_clears, quietest_channel
    )
    rows = [
        NotificationRow(
            purpose=Purpose.ALL_CLEAR,
            channel=all_clear.channel,
            address=all_clear.address,
            label=all_clear.label,
            reason=delivery_reasons.WAS_PAGED(),
            due_at=now,
            alert_id=all_clear.alert_id,
            user_id=all_clear.user_id,
            data={"news": reason_as_json(by_alert[all_clear.alert_id].sentence)},
        )
        for all_clear in all_clears
    ]
    write(connection, rows, now)
    return all_clears
