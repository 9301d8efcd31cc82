"""Loads users and group contacts with the contact methods by which they can be paged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.rules.notification_rules import NotificationMethod, Recipient, apply_rules

_RECIPIENTS = """
SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, u.is_active, u.time_zone, u.notification_rules,
       m.label, m.channel, m.address, m.wait, m.repeat_times, m.repeat_every,
       m.is_enabled AND NOT m.awaits_code AS is_enabled
FROM people_user u LEFT JOIN people_contactmethod m ON m.user_id = u.id
WHERE u.id = ANY(%s) ORDER BY u.id, m.position, m.id
"""


def load_recipients(connection: Connection, user_ids: Collection[int]) -> dict[int, Recipient]:
    """Returns the users with their contact methods and notification rules, by id."""
    if not user_ids:
        return {}
    rows_by_user: dict[int, tuple[dict[str, Any], list[NotificationMethod]]] = {}
    for row in database.rows(connection, _RECIPIENTS, (list(user_ids),)):
        methods = rows_by_user.setdefault(row["id"], (row, []))[1]
        if row["label"] is not None:
            methods.append(
                NotificationMethod(
                    row["label"], row["channel"], row["address"], row["wait"], row["repeat_times"], row["repeat_every"],
                    row["is_enabled"],
                )
            )  # fmt: skip
    return {user_id: _recipient(row, methods) for user_id, (row, methods) in rows_by_user.items()}


def _recipient(row: Mapping[str, Any], methods: Sequence[NotificationMethod]) -> Recipient:
    recipient = Recipient(row["id"], row["name"], tuple(methods), row["is_active"], row["time_zone"])
    return apply_rules(recipient, row["notification_rules"]) if row["notification_rules"] else recipient


def load_group_contacts(connection: Connection, contact_ids: Collection[int]) -> dict[int, NotificationMethod]:
    if not contact_ids:
        return {}
    rows = database.rows(
        connection,
        "SELECT c.id, c.label, c.channel, c.address FROM people_groupcontact c WHERE c.id = ANY(%s)",
        (list(contact_ids),),
    )
    return {row["id"]: NotificationMethod(row["label"], row["channel"], row["address"]) for row in rows}


def load_administrators(connection: Connection) -> list[int]:
    """Returns the ids of the active administrators."""
    rows = connection.execute(
        "SELECT id FROM people_user WHERE role = 'admin' AND is_active AND NOT is_service_account ORDER BY id"
    ).fetchall()
    return [row[0] for row in rows]
