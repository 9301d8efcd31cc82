"""Stores messages on channels without a provider instead of sending them. Nothing leaves the machine, and nobody is
reached: the self-check says so, and pages leave once the channel has a provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tocsin.alerts.states import ACTIVE
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.interfaces import Rendered
from tocsin.notify.providers.pool import provider_lookup

#: Whether a message in the sandbox counts as sent. Set by `tocsin demo`, which reaches nobody on purpose.
counts_as_sent = False


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """One rendered message to be stored."""

    delivery_id: UUID
    alert_id: int | None
    user_id: int | None
    channel: str
    address: str
    content: Mapping[str, Any]
    at: datetime


def content(rendered: Rendered) -> dict[str, Any]:
    """Returns the stored form of a rendered message, without characters that PostgreSQL cannot store."""
    return dict(_storable(rendered.content()))


def store(connection: Connection, messages: Sequence[SandboxRecord]) -> None:
    """Stores the messages. One that is already stored, because its first write seemed to fail, stays unchanged."""
    if not messages:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO notify_sandboxmessage (delivery, alert_id, user_id, channel, address, content, at) "
            "SELECT %s, %s, %s, %s, %s, %s, %s WHERE EXISTS (SELECT FROM notify_delivery WHERE id = %s) "
            "ON CONFLICT (delivery) DO NOTHING",
            [
                (
                    m.delivery_id,
                    m.alert_id,
                    m.user_id,
                    m.channel,
                    m.address,
                    Jsonb(dict(m.content)),
                    m.at,
                    m.delivery_id,
                )
                for m in messages
            ],
        )


# The newest page of each recipient's address about an active alert. The others stay: one page is enough.
_REQUEUE = """
UPDATE notify_delivery SET status = 'queued', due_at = %(now)s, late_since = coalesce(late_since, due_at),
       provider_name = '', ended_at = NULL, reason_code = '', reason_data = '{}' WHERE id IN (
  SELECT d.id FROM notify_delivery d JOIN alerts_alert a ON a.id = d.alert_id
  WHERE d.status = 'sandboxed' AND d.purpose = 'page' AND d.channel = ANY(%(channels)s) AND a.status = ANY(%(live)s)
    AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page' AND o.id > d.id
                    AND o.user_id IS NOT DISTINCT FROM d.user_id AND o.channel = d.channel AND o.address = d.address
                    AND o.status IN ('queued', 'sending', 'sent', 'delivered', 'sandboxed'))
  ORDER BY d.id FOR NO KEY UPDATE OF d SKIP LOCKED)
"""


def requeue(connection: Connection, channels: Sequence[str], now: datetime) -> int:
    """Makes pages in the sandbox due whose channel has a provider by now, or on this node. Returns their number."""
    parameters = {"now": now, "channels": list(channels), "live": sorted(ACTIVE)}
    return connection.execute(_REQUEUE, parameters).rowcount if channels else 0


_KEPT_FOR = """
SELECT DISTINCT d.channel, coalesce(nullif(u.name, ''), u.username, nullif(n.label, ''), d.address) AS name
FROM notify_delivery d JOIN alerts_alert a ON a.id = d.alert_id JOIN notify_notification n ON n.id = d.notification_id
LEFT JOIN people_user u ON u.id = d.user_id
WHERE d.status = 'sandboxed' AND d.purpose = 'page' AND a.status = 'open' AND NOT a.dry_run AND NOT a.is_test
  AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id)
  AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page'
                  AND o.user_id IS NOT DISTINCT FROM d.user_id AND o.status IN ('sent', 'delivered'))
"""
_MEMBERS = """
SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, m.channel, m.address
FROM people_user u JOIN people_contactmethod m ON m.user_id = u.id AND m.is_enabled AND NOT m.awaits_code
WHERE u.is_active AND EXISTS (SELECT FROM people_membership g WHERE g.user_id = u.id)
"""


def unreachable(connection: Connection) -> dict[str, list[str]]:
    """Returns the names of whom a page reaches nobody for, by the channels that lack a provider: members of groups of
    whom no contact method has one, and recipients of pages about open alerts that only the sandbox has.
    """
    if counts_as_sent:
        return {}
    names: dict[str, set[str]] = {}
    for row in database.rows(connection, _KEPT_FOR):
        names.setdefault(row["channel"], set()).add(row["name"])
    has_provider = provider_lookup(connection)
    methods: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for row in database.rows(connection, _MEMBERS):
        methods.setdefault((row["id"], row["name"]), []).append((row["channel"], row["address"]))
    for (_, name), addresses in methods.items():
        if not any(has_provider(channel, address) for channel, address in addresses):
            for channel, _ in addresses:
                names.setdefault(channel, set()).add(name)
    return {channel: sorted(found) for channel, found in sorted(names.items())}


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, Mapping):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
