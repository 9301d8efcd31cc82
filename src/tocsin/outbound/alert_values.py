"""The alert values that templates can use, loaded in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tocsin.alerts.sql import OWNER_NAME, WITH_OWNER
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection

_ALERTS = f"""
SELECT a.id, a.status, a.priority, a.subject, a.short_text, a.long_text, a.source, a.source_name, a.source_id,
       a.source_url, a.source_status, a.source_priority, a.source_agent, a.client, a.site, a.team, a.requester,
       a.requester_phone, a.tags, a.custom, a.count, a.opened_at, a.closed_at, a.dry_run, a.is_test, a.integration_id,
       {OWNER_NAME} AS owner, a.owner_id,
       coalesce(i.name, '') AS integration
FROM {WITH_OWNER} LEFT JOIN inbound_integration i ON i.id = a.integration_id
WHERE a.id = ANY(%s)
"""

#: The names a template can use, besides `<tag.NAME>` and `<custom.NAME>`.
NAMES = (
    "alert", "url", "status", "priority", "subject", "short_text", "long_text", "source", "source_name", "source_id",
    "source_url", "source_status", "source_priority", "source_agent", "client", "site", "team", "requester",
    "requester_phone", "count", "opened_at", "closed_at", "owner", "integration",
)  # fmt: skip


def load_alert_values(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The values of each alert by name, keyed by alert id."""
    public_url = environment.current().public_url
    return {row["id"]: _values(row, public_url) for row in database.rows(connection, _ALERTS, (list(ids),))}


def _values(row: Mapping[str, Any], public_url: str) -> dict[str, Any]:
    alert_fields = {name: row[name] for name in NAMES if name in row}
    timestamps = {
        name: row[name].strftime("%Y-%m-%dT%H:%M:%SZ") if row[name] else "" for name in ("opened_at", "closed_at")
    }
    return {
        **alert_fields,
        **timestamps,
        "alert": row["id"],
        "url": f"{public_url}/alerts/{row['id']}",
        **{f"tag.{name}": value for name, value in row["tags"].items()},
        **{f"custom.{name}": value for name, value in row["custom"].items()},
    }
