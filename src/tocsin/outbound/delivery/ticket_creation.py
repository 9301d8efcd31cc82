"""Tickets that are made on the other side for alerts which came from elsewhere: at most one for each, however often
making it is tried. Works inside the transaction of the connection it is given; sends nothing."""

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

#: What a new ticket is given, where the integration says it.
_FIELDS = ("ticket_type", "team", "priority", "client", "site", "user")

#: So often making a ticket is begun again by itself, once what kept it from being made may have passed.
MAX_AUTOMATIC_RETRIES = 5

_LINK = """
INSERT INTO outbound_ticketlink (integration_id, alert_id)
SELECT n.integration, n.alert FROM unnest(%s::bigint[], %s::bigint[]) AS n(integration, alert)
ON CONFLICT DO NOTHING RETURNING alert_id
"""

# The last try of each alert that has no ticket yet; none where its row was pruned.
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

# In its old place, so that what waits for the ticket stays behind it. What it tried is remembered: before it makes one
# it looks whether an earlier try did.
_AGAIN = """
UPDATE outbound_call c SET status = 'queued', attempts = 0, queued_at = %(now)s, due_at = %(now)s, ended_at = NULL,
       result = '', said = n.said, content = n.content, progress = c.progress || jsonb_build_object('by_itself',
       CASE WHEN %(asked)s THEN 0 ELSE coalesce((c.progress ->> 'by_itself')::int, 0) + 1 END)
FROM jsonb_to_recordset(%(calls)s) AS n(id bigint, said text, content jsonb)
WHERE c.id = n.id AND c.status IN ('dead', 'dropped')
"""

# What could not be written because there was no ticket.
_BEHIND = """
UPDATE outbound_call SET status = 'queued', attempts = 0, queued_at = %(now)s, due_at = %(now)s, ended_at = NULL
WHERE integration_id = %(integration)s AND alert_id = ANY(%(alerts)s) AND action = 'write' AND ticket = ''
  AND status = 'dead'
"""


def make(
    connection: Connection, wanted: Mapping[int, tuple[int, Mapping[str, Any]]], known: Mapping[int, Mapping[str, Any]]
) -> dict[int, NewCall]:
    """By alert, the call that makes its first ticket. `wanted`: by alert the integration and its settings; `known`: the
    alerts' values. An alert that was begun with before has none: the row of the link is the guard."""
    integrations = [number for number, _settings in wanted.values()]
    linked = connection.execute(_LINK, (integrations, list(wanted))).fetchall()
    return {alert: creation(*wanted[alert], known[alert]) for (alert,) in linked if alert in known}


def again(
    connection: Connection,
    integration_id: int,
    now: datetime,
    *,
    alert_ids: Sequence[int] | None = None,
    asked: bool = False,
) -> list[int]:
    """Queues once more the making of tickets that came to nothing, and what could not be written without them. Returns
    the calls' numbers.

    By itself, where what was in the way may have passed, only for live alerts, a few times each, and never what a
    person dropped; `asked` by a person, all of it. As the settings are now.
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
    known = alert_values.of_alerts(connection, [row["alert_id"] for row in ended])
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
    # Whether an earlier try, whose row is gone, made one after all is not known.
    anew = [
        creation(integration_id, settings[0], known[row["alert_id"]], looks_first=True)
        for row in rows
        if row["id"] is None
    ]
    numbers = queue(connection, anew, now)
    alerts = [row["alert_id"] for row in rows if row["id"] is not None]
    connection.execute(_BEHIND, {"integration": integration_id, "alerts": alerts, "now": now})
    database.hint(connection, TOPIC)
    return [*(row["id"] for row in rows if row["id"] is not None), *numbers]


def creation(
    outbound_id: int, settings: Mapping[str, Any], known: Mapping[str, Any], *, looks_first: bool = False
) -> NewCall:
    """The call that makes a ticket for an alert with these values."""
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
