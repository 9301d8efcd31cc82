"""Tocsin's recent and pending writes to tickets, so that their echoes are never taken for somebody's action.

Works in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.inbound.deciding.echo_suppression import RecentWrites

#: After this time, a write's echo is no longer expected.
REMEMBER_FOR = timedelta(minutes=15)

_WRITES = """
SELECT c.integration_id, c.ticket, c.id, c.status, c.queued_at, c.wrote, c.is_echoed, c.content ? 'agent' AS has_agent,
       c.content ? 'status' AS has_status, c.progress ? 'fields' AS has_fields, c.is_uncertain,
       c.progress ? 'status' AS was_status_set,
       coalesce(s.poll_state ->> 'me', '') AS me
FROM unnest(%(integrations)s::bigint[], %(tickets)s::text[]) AS w(integration_id, ticket)
JOIN outbound_call c ON c.integration_id = w.integration_id AND c.ticket = w.ticket AND c.ticket <> ''
LEFT JOIN outbound_integrationstatus s ON s.integration_id = c.integration_id
WHERE c.status IN ('queued', 'sending') OR (c.ended_at > %(since)s AND (c.status = 'sent'
      OR (c.status IN ('dead', 'dropped') AND c.progress ?| ARRAY['note', 'fields', 'status'])))
ORDER BY c.id
"""


@dataclass(slots=True)
class _WriteCollector:
    own_agent_id: str = ""
    agents: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    priorities: dict[str, int] = field(default_factory=dict)
    teams: dict[str, int] = field(default_factory=dict)
    recent_statuses: set[str] = field(default_factory=set)
    pending_ids: set[int] = field(default_factory=set)
    is_agent_pending: bool = False
    is_status_pending: bool = False
    agent_at: datetime | None = None
    status_at: datetime | None = None


def load_recent_writes(
    connection: Connection, tickets: Sequence[tuple[int, str]], now: datetime
) -> Mapping[tuple[int, str], RecentWrites]:
    """The writes by (integration id, ticket); a ticket without writes has no entry."""
    parameters = {
        "integrations": [integration_id for integration_id, _ in tickets],
        "tickets": [ticket for _, ticket in tickets],
        "since": now - REMEMBER_FOR,
    }
    collectors: dict[tuple[int, str], _WriteCollector] = {}
    for row in database.rows(connection, _WRITES, parameters):
        _collect(collectors.setdefault((row["integration_id"], row["ticket"]), _WriteCollector()), row)
    return {
        key: RecentWrites(
            collector.agents,
            collector.statuses,
            collector.is_agent_pending,
            collector.is_status_pending,
            collector.agent_at,
            collector.status_at,
            collector.priorities,
            collector.teams,
            frozenset(collector.pending_ids),
            frozenset(collector.recent_statuses),
            collector.own_agent_id,
        )
        for key, collector in collectors.items()
    }


def _collect(collector: _WriteCollector, row: Mapping[str, Any]) -> None:
    collector.own_agent_id = row["me"]
    has_failed = row["status"] in ("dead", "dropped")
    # A failed call has set only the fields of its completed steps.
    no_fields, no_status = has_failed and not row["has_fields"], has_failed and not row["was_status_set"]
    written = {
        name: value for name, value in row["wrote"].items() if not (no_status if name == "status" else no_fields)
    }
    if row["has_agent"] and not no_fields:
        collector.agent_at = row["queued_at"]
    if row["has_status"] and not no_status:
        collector.status_at = row["queued_at"]
    if row["status"] in ("queued", "sending"):
        if not row["has_fields"]:
            collector.pending_ids.add(row["id"])
        collector.is_agent_pending |= row["has_agent"]
        collector.is_status_pending |= row["has_status"]
    if "status" in written:
        collector.recent_statuses.add(written["status"].casefold())
    if row["is_echoed"]:
        return
    # If the same value was written twice, the later write is matched.
    if "agent" in written:
        collector.agents[written["agent"]] = row["id"]
    if "status" in written:
        collector.statuses[written["status"].casefold()] = row["id"]
    if row["status"] == "queued" and not row["has_fields"] and not row["is_uncertain"]:
        # It was attempted, and its fields were not set.
        return
    # A message contains a priority's name, or only its number.
    collector.priorities |= {text.casefold(): row["id"] for text in written.get("priority", ())}
    if "team" in written:
        collector.teams[written["team"].casefold()] = row["id"]


def mark_echoed(connection: Connection, call_ids: Sequence[int]) -> None:
    """Marks these writes as echoed, and all earlier ones to the same tickets."""
    connection.execute(
        "UPDATE outbound_call c SET is_echoed = true FROM outbound_call w WHERE w.id = ANY(%s) "
        "AND c.integration_id = w.integration_id AND c.ticket = w.ticket AND c.ticket <> '' AND c.id <= w.id "
        "AND c.status IN ('sending', 'sent', 'dead', 'dropped') AND NOT c.is_echoed",
        (list(call_ids),),
    )
