"""Inserts notifications with their first deliveries in bulk, inside the caller's transaction. Sends nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from typing import Any
from uuid import UUID

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.models import Provider
from tocsin.notify.states import DeliveryStatus, Purpose

#: Rows per statement: the server ends a transaction in which nothing happens while a busy machine prepares more.
MAX_ROWS = 1000


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One notification with its first delivery."""

    purpose: Purpose
    channel: str
    address: str
    due_at: datetime
    label: str = ""
    reason: Reason = NO_REASON
    alert_id: int | None = None
    run_id: int | None = None
    user_id: int | None = None
    group_contact_id: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    is_first: bool = False
    problem: Reason = NO_REASON
    #: The only provider that may send it; None: any.
    provider: Provider | None = None
    id: UUID = field(default_factory=ids.uuid7)


_NOTIFICATIONS = """
INSERT INTO notify_notification (id, alert_id, run_id, user_id, group_contact_id, purpose, channel, label, address,
       reason_code, reason_data, data, created_at)
SELECT n.*, %s FROM json_to_recordset(%s) AS n(id uuid, alert_id bigint, run_id bigint, user_id bigint,
     group_contact_id bigint, purpose text, channel text, label text, address text, reason_code text, reason_data jsonb,
     data jsonb)
"""
_DELIVERIES = """
INSERT INTO notify_delivery (id, notification_id, alert_id, user_id, integration_id, channel, address, purpose,
       is_first, status, reason_code, reason_data, is_permanent, due_at, ended_at, provider_id, provider_name,
       queued_at)
SELECT n.*, %s FROM json_to_recordset(%s) AS n(id uuid, notification_id uuid, alert_id bigint, user_id bigint,
     integration_id bigint, channel text, address text, purpose text, is_first boolean, status text, reason_code text,
     reason_data jsonb, is_permanent boolean, due_at timestamptz, ended_at timestamptz, provider_id bigint,
     provider_name text)
"""


def write(connection: Connection, rows: Sequence[NotificationRow], now: datetime) -> None:
    """Inserts notifications and deliveries, and notifies the outbox if any is due at once."""
    if not rows:
        return
    integrations = _integrations(connection, {row.alert_id for row in rows if row.alert_id is not None})
    for part in batched(rows, MAX_ROWS):
        connection.execute(_NOTIFICATIONS, (now, as_json([_notification(row) for row in part])))
        connection.execute(_DELIVERIES, (now, as_json([_delivery(row, integrations, now) for row in part])))
    if any(row.due_at <= now + timedelta(seconds=1) for row in rows):
        database.notify(connection, "outbox")


def _notification(row: NotificationRow) -> dict[str, object]:
    """In the column order of `_NOTIFICATIONS`."""
    code, data = reason_columns(row.reason)
    return {
        "id": row.id,
        "alert_id": row.alert_id,
        "run_id": row.run_id,
        "user_id": row.user_id,
        "group_contact_id": row.group_contact_id,
        "purpose": row.purpose,
        "channel": row.channel,
        "label": row.label,
        "address": row.address,
        "reason_code": code,
        "reason_data": data,
        "data": row.data,
    }


def _delivery(row: NotificationRow, integrations: Mapping[int, int | None], now: datetime) -> dict[str, object]:
    """In the column order of `_DELIVERIES`."""
    code, data = reason_columns(row.problem)
    return {
        "id": ids.uuid7(),
        "notification_id": row.id,
        "alert_id": row.alert_id,
        "user_id": row.user_id,
        "integration_id": integrations.get(row.alert_id) if row.alert_id is not None else None,
        "channel": row.channel,
        "address": row.address,
        "purpose": row.purpose,
        "is_first": row.is_first,
        "status": DeliveryStatus.FAILED if row.problem else DeliveryStatus.QUEUED,
        "reason_code": code,
        "reason_data": data,
        "is_permanent": bool(row.problem),
        "due_at": row.due_at,
        "ended_at": now if row.problem else None,
        "provider_id": row.provider.pk if row.provider else None,
        "provider_name": row.provider.name if row.provider else "",
    }


def _integrations(connection: Connection, alert_ids: Collection[int]) -> dict[int, int | None]:
    if not alert_ids:
        return {}
    rows = connection.execute("SELECT id, integration_id FROM alerts_alert WHERE id = ANY(%s)", (list(alert_ids),))
    return {row[0]: row[1] for row in rows.fetchall()}
