"""Creates tickets for alerts from other sources: at most one per alert, however often it is attempted.

Works in the caller's transaction and sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tocsin.alerts.states import ACTIVE
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_storable_json
from tocsin.outbound import alert_values
from tocsin.outbound.connectors.haloitsm import writeback_settings
from tocsin.outbound.delivery.queue import TOPIC, NewCall, queue

#: Fields of a new ticket that the integration can set.
_FIELDS = ("ticket_type", "team", "priority", "client", "site", "user")

#: The limit of automatic retries per ticket, once the obstacle may be gone.
MAX_AUTOMATIC_RETRIES = 5

_LINK = """
INSERT INTO outbound_ticketlink (integration_id, alert_id)
SELECT n.integration, n.alert FROM unnest(%s::bigint[], %s::bigint[]) AS n(integration, alert)
ON CONFLICT DO NOTHING RETURNING alert_id
"""

# The last attempt for each alert without a ticket; NULL if its row was pruned.
_ENDED = """
SELECT l.alert_id, c.id, c.status FROM outbound_ticketlink l JOIN alerts_alert a ON a.id = l.alert_id
LEFT JOIN LATERAL (
  SELECT e.id, e.status, e.progress FROM outbound_call e
  WHERE e.alert_id = l.alert_id AND e.integration_id = l.integration_id AND e.action = 'create'
  ORDER BY e.id DESC LIMIT 1) AS c ON true
WHERE l.integration_id = %(integration)s AND l.ticket = ''
  AND (%(alerts)s::bigint[] IS NULL OR l.alert_id = ANY(%(alerts)s))
  AND CASE WHEN %(asked)s THEN c.status IS NULL OR c.status IN ('dead', 'dropped')
      ELSE a.status = ANY(%(live)s) AND (c.status IS NULL OR c.status = 'dead')
           AND coalesce((c.progress ->> 'by_itself')::int, 0) < %(most)s END
ORDER BY l.alert_id LIMIT 500
"""

# Keeps the original position, so that writes to the ticket stay behind it. The recorded attempt makes the retry check
# whether an earlier one created the ticket.
_AGAIN = """
UPDATE outbound_call c SET status = 'queued', attempts = 0, queued_at = %(now)s, due_at = %(now)s, ended_at = NULL,
       result = '', said = n.said, content = n.content, progress = c.progress || jsonb_build_object('by_itself',
       CASE WHEN %(asked)s THEN 0 ELSE coalesce((c.progress ->> 'by_itself')::int, 0) + 1 END)
FROM jsonb_to_recordset(%(calls)s) AS n(id bigint, said text, content jsonb)
WHERE c.id = n.id AND c.status IN ('dead', 'dropped')
"""

# Writes that failed because there was no ticket.
_BEHIND = """
UPDATE outbound_call SET status = 'queued', attempts = 0, queued_at = %(now)s, due_at = %(now)s, ended_at = NULL
WHERE integration_id = %(integration)s AND alert_id = ANY(%(alerts)s) AND action = 'write' AND ticket = ''
  AND status = 'dead'
"""


def make(
    connection: Connection, wanted: Mapping[int, tuple[int, Mapping[str, Any]]], known: Mapping[int, Mapping[str, Any]]
) -> dict[int, NewCall]:
    """The calls that create the first ticket of each alert, by alert id.

    `wanted` maps alert ids to integration id and settings, `known` to alert values. An alert with a link row was
    attempted before and gets no call.
    """
    integrations = [number for number, _settings in wanted.values()]
    linked = connection.execute(_LINK, (integrations, list(wanted))).fetchall()
    return {alert: creation(*wanted[alert], known[alert]) for (alert,) in linked if alert in known}


def retry_creation(
    connection: Connection,
    integration_id: int,
    now: datetime,
    *,
    alert_ids: Sequence[int] | None = None,
    asked: bool = False,
) -> list[int]:
    """Queues failed ticket creations again, and the writes that failed without a ticket. Returns the calls' ids.

    Automatic retries cover only active alerts, a few times each, and never calls dropped by a person. With `asked`, a
    person requests the retry, and all are included. Current settings apply.
    """
    parameters: dict[str, object] = {
        "integration": integration_id, "alerts": None if alert_ids is None else list(alert_ids), "asked": asked,
        "live": sorted(ACTIVE), "most": MAX_AUTOMATIC_RETRIES,
    }  # fmt: skip
    ended = database.rows(connection, _ENDED, parameters)
    settings = connection.execute(
        "SELECT settings FROM outbound_outboundintegration WHERE id = %s AND kind = 'haloitsm'", (integration_id,)
    ).fetchone()
    if not ended or settings is None:
        return []
    known = alert_values.load_alert_values(connection, [row["alert_id"] for row in ended])
    rows = [row for row in ended if row["alert_id"] in known]
    fresh = {row["alert_id"]: creation(integration_id, settings[0], known[row["alert_id"]]) for row in rows}
    there = [
        {"id": row["id"], "said": fresh[row["alert_id"]].said, "content": fresh[row["alert_id"]].content}
        for row in rows
        if row["id"] is not None
    ]
    if there:
        calls = as_storable_json(there)
        connection.execute(_AGAIN, {"calls": calls, "now": now, "asked": asked})
    # The row of the earlier attempt is gone, so it is unknown whether it created a ticket.
    anew = [
        creation(integration_id, settings[0], known[row["alert_id"]], looks_first=True)
        for row in rows
        if row["id"] is None
    ]
    numbers = queue(connection, anew, now)
    alerts = [row["alert_id"] for row in rows if row["id"] is not None]
    connection.execute(_BEHIND, {"integration": integration_id, "alerts": alerts, "now": now})
    database.notify(connection, TOPIC)
    return [*(row["id"] for row in rows if row["id"] is not None), *numbers]


def creation(
    outbound_id: int, settings: Mapping[str, Any], known: Mapping[str, Any], *, looks_first: bool = False
) -> NewCall:
    """The call that creates a ticket for an alert with these values."""
    wanted = settings.get("create_ticket", {})
    number = int(known["alert"])
    summary = writeback_settings.note_text(wanted.get("summary") or "<subject>", known)
    details = wanted.get("details") or "<long_text>\n\nFrom <source>, alert <alert> in Tocsin: <url>"
    return NewCall(
        outbound_id,
        f"alert:{number}",
        "create",
        f"Make a ticket: {summary}"[:500],
        alert_id=number,
        content={
            "summary": " ".join(summary.split())[:200],
            "details": writeback_settings.note_text(details, known),
            **{key: wanted[key] for key in _FIELDS if key in wanted},
            **({"looks_first": True} if looks_first else {}),
        },
    )
