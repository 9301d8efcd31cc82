"""Stores messages on channels without a provider instead of sending them. Nothing leaves the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tocsin.core.db.database import Connection
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.interfaces import Rendered


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


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, Mapping):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
