"""How other rooms read alerts in SQL: fragments about an alert `a`, and lookups on the given connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import LiteralString

from psycopg.rows import DictRow

from tocsin.alerts.states import ACTIVE
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.people.sql import join_user

#: Whether the alert is active. The values are literals, because the partial index of active alerts serves only these.
IS_ACTIVE: LiteralString = database.literal(f"a.status IN ({', '.join(f"'{status}'" for status in sorted(ACTIVE))})")

#: Alerts with their owner, the user `u`.
WITH_OWNER = f"alerts_alert a LEFT {join_user('a.owner_id')}"
#: The owner's name, also that of an owner who is not a user.
OWNER_NAME = "coalesce(u.display_name, a.owner_name)"

#: Alerts with the integration `i` that they came from, if it still exists.
WITH_INTEGRATION = "alerts_alert a LEFT JOIN inbound_integration i ON i.id = a.integration_id"

#: The alerts opened in a period.
OPENED_BETWEEN = "alerts_alert a WHERE a.opened_at >= %(since)s AND a.opened_at < %(until)s"

#: The ids of all active alerts, found by their partial index: ordered by id, all alerts ever created would be read.
ACTIVE_IDS = f"SELECT a.id FROM alerts_alert a WHERE {IS_ACTIVE}"


def join_alert(column: str, alias: str = "a") -> str:
    """Joins the alert whose id is in `column`."""
    return f"JOIN alerts_alert {alias} ON {alias}.id = {column}"


def is_about(column: str, condition: str) -> LiteralString:
    """Whether the alert `a` whose id is in `column` exists and meets the condition."""
    return database.literal(f"EXISTS (SELECT FROM alerts_alert a WHERE a.id = {column} AND {condition})")


def key_holder(column: str) -> LiteralString:
    """The id of the alert that holds the dedup key with this hash."""
    return database.literal(f"(SELECT h.id FROM alerts_alert h WHERE h.key_hash = {column} AND h.holds_key)")


def resolved_id(column: str) -> str:
    """The id of the alert into which the alert was merged whose id is in `column`, else that alert's own."""
    return f"""(SELECT CASE WHEN m.status = 'merged' THEN m.merged_into_id ELSE m.id END
                   FROM alerts_alert m WHERE m.id = {column})"""


def newest_of_integration(column: str, limit: int, *columns: str) -> str:
    """These columns of the newest alerts of the integration whose id is in `column`."""
    return (
        f"SELECT {', '.join(columns)} FROM alerts_alert WHERE integration_id = {column} ORDER BY id DESC LIMIT {limit}"
    )


def load_alerts(connection: Connection, ids: Iterable[int], *columns: str) -> dict[int, DictRow]:
    """Returns `id` and these columns of alerts, by id."""
    return database.rows_by_id(connection, "alerts_alert", ids, columns)


def lock_custom(connection: Connection, ids: Collection[int]) -> list[DictRow]:
    """Locks alerts, and returns `id`, `custom` and `last_message_at` of each."""
    return database.rows(
        connection,
        "SELECT id, custom, last_message_at FROM alerts_alert WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        (sorted(ids),),
    )


def load_responders(connection: Connection, ids: Sequence[int]) -> set[tuple[int, int]]:
    """Returns who has acknowledged or owns the alerts: pairs of alert and user."""
    rows = connection.execute(
        "SELECT alert_id, user_id FROM alerts_acknowledgement WHERE alert_id = ANY(%(alerts)s) "
        "UNION SELECT id, owner_id FROM alerts_alert WHERE id = ANY(%(alerts)s) AND owner_id IS NOT NULL",
        {"alerts": list(ids)},
    )
    return set(rows.fetchall())


def count_active(connection: Connection) -> dict[str, int]:
    """Returns the number of active alerts by status."""
    query = database.literal(f"SELECT a.status, count(*) FROM alerts_alert a WHERE {IS_ACTIVE} GROUP BY a.status")
    return {str(status): 0 for status in sorted(ACTIVE)} | dict(connection.execute(query).fetchall())


def active_source_ids(
    connection: Connection,
    integration_ids: Sequence[int],
    *,
    source_ids: Sequence[str] | None,
    after_id: int,
    limit: int,
) -> dict[str, int]:
    """Returns the oldest active alerts of these integrations by their ids at the source, of all or of `source_ids`,
    without test alerts."""
    query = database.literal(
        f"SELECT a.source_id, a.id FROM alerts_alert a WHERE a.integration_id = ANY(%s) AND {IS_ACTIVE} AND a.id > %s "
        "AND a.source_id <> '' AND NOT a.is_test AND (%s OR a.source_id = ANY(%s)) ORDER BY a.id LIMIT %s"
    )
    parameters = (list(integration_ids), after_id, source_ids is None, list(source_ids or ()), limit)
    return dict(connection.execute(query, parameters).fetchall())
