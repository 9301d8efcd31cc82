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
from tocsin.core.stored_reason import named_columns
from tocsin.outbound import alert_values, reasons
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
_LAST_ATTEMPTS = """
SELECT l.alert_id, c.id, c.status FROM outbound_ticketlink l JOIN alerts_alert a ON a.id = l.alert_id
LEFT JOIN LATERAL (
  SELECT e.id, e.status, e.progress FROM outbound_call e
  WHERE e.alert_id = l.alert_id AND e.integration_id = l.integration_id AND e.action = 'create'
  ORDER BY e.id DESC LIMIT 1) AS c ON true
WHERE l.integration_id = %(integration)s AND l.ticket = ''
  AND (%(alerts)s::bigint[] IS NULL OR l.alert_id = ANY(%(alerts)s))
  AND CASE WHEN %(is_requested)s THEN c.status IS NULL OR c.status IN ('dead', 'dropped')
      ELSE a.status = ANY(%(live)s) AND (c.status IS NULL OR c.status = 'dead')
           AND coalesce((c.progress ->> 'by_itself')::int, 0) < %(most)s END
ORDER BY l.alert_id LIMIT 500
"""

# Keeps the original position, so that writes to the ticket stay behind it. The recorded attempt makes the retry check
# whether an earlier one created the ticket.
_REQUEUE = """
UPDATE outbound_call c SET status = 'queued', attempts = 0, queued_at = %(now)s, due_at = %(now)s, ended_at = NULL,
       result_code = '', result_data = '{}', description_code = n.description_code,
       description_data = n.description_data, content = n.content,
       progress = c.progress || jsonb_build_object('by_itself',
       CASE WHEN %(is_requested)s THEN 0 ELSE coalesce((c.progress ->> 'by_itself')::int, 0) + 1 END)
FROM jsonb_to_recordset(%(calls)s)
     AS n(id bigint, description_code text, description_data jsonb, content jsonb)
WHERE c.id = n.id AND c.status IN ('dead', 'dropped')
"""

# Writes that failed because there was no ticket.
_REQUEUE_WRITES = """
UPDATE outbound_call SET status = 'queued', attempts = 0, queued_at = %(now)s, due_at = %(now)s, ended_at = NULL
WHERE integration_id = %(integration)s AND alert_id = ANY(%(alerts)s) AND action = 'write' AND ticket = ''
  AND status = 'dead'
"""


def first_creation_calls(
    connection: Connection,
    requests: Mapping[int, tuple[int, Mapping[str, Any]]],
    values_by_alert: Mapping[int, Mapping[str, Any]],
) -> dict[int, NewCall]:
    """The calls that create the first ticket of each alert, by alert id.

    `requests` maps alert ids to integration id and settings, `values_by_alert` to alert values. An alert with a link
    row was attempted before and gets no call.
    """
    integration_ids = [integration_id for integration_id, _settings in requests.values()]
    linked_rows = connection.execute(_LINK, (integration_ids, list(requests))).fetchall()
    return {
        alert_id: creation_call(*requests[alert_id], values_by_alert[alert_id])
        for (alert_id,) in linked_rows
        if alert_id in values_by_alert
    }


def retry_creation(
    connection: Connection,
    integration_id: int,
    now: datetime,
    *,
    alert_ids: Sequence[int] | None = None,
    is_requested: bool = False,
) -> list[int]:
    """Queues failed ticket creations again, and the writes that failed without a ticket. Returns the calls' ids.

    Automatic retries cover only active alerts, a few times each, and never calls dropped by a person. With
    `is_requested`, a person requests the retry, and all are included. Current settings apply.
    """
    parameters: dict[str, object] = {
        "integration": integration_id, "alerts": None if alert_ids is None else list(alert_ids),
        "is_requested": is_requested,
        "live": sorted(ACTIVE), "most": MAX_AUTOMATIC_RETRIES,
    }  # fmt: skip
    last_attempts = database.rows(connection, _LAST_ATTEMPTS, parameters)
    settings = connection.execute(
        "SELECT settings FROM outbound_outboundintegration WHERE id = %s AND kind = 'haloitsm'", (integration_id,)
    ).fetchone()
    if not last_attempts or settings is None:
        return []
    values_by_alert = alert_values.load_alert_values(connection, [row["alert_id"] for row in last_attempts])
    rows = [row for row in last_attempts if row["alert_id"] in values_by_alert]
    creations = {
        row["alert_id"]: creation_call(integration_id, settings[0], values_by_alert[row["alert_id"]]) for row in rows
    }
    requeued = [
        {
            "id": row["id"],
            **named_columns("description", creations[row["alert_id"]].description),
            "content": creations[row["alert_id"]].content,
        }
        for row in rows
        if row["id"] is not None
    ]
    if requeued:
        calls = as_storable_json(requeued)
        connection.execute(_REQUEUE, {"calls": calls, "now": now, "is_requested": is_requested})
    # The row of the earlier attempt is gone, so it is unknown whether it created a ticket.
    new_calls = [
        creation_call(integration_id, settings[0], values_by_alert[row["alert_id"]], check_existing=True)
        for row in rows
        if row["id"] is None
    ]
    call_ids = queue(connection, new_calls, now)
    requeued_alert_ids = [row["alert_id"] for row in rows if row["id"] is not None]
    connection.execute(_REQUEUE_WRITES, {"integration": integration_id, "alerts": requeued_alert_ids, "now": now})
    database.notify(connection, TOPIC)
    return [*(row["id"] for row in rows if row["id"] is not None), *call_ids]


def creation_call(
    outbound_id: int, settings: Mapping[str, Any], values: Mapping[str, Any], *, check_existing: bool = False
) -> NewCall:
    """The call that creates a ticket for an alert with these values."""
    ticket_settings = settings.get("create_ticket", {})
    alert_id = int(values["alert"])
    summary = writeback_settings.note_text(ticket_settings.get("summary") or "<subject>", values)
    details = ticket_settings.get("details") or "<long_text>\n\nFrom <source>, alert <alert> in Tocsin: <url>"
    return NewCall(
        outbound_id,
        f"alert:{alert_id}",
        "create",
        reasons.CREATE_TICKET(summary=summary[:500]),
        alert_id=alert_id,
        content={
            "summary": " ".join(summary.split())[:200],
            "details": writeback_settings.note_text(details, values),
            **{key: ticket_settings[key] for key in _FIELDS if key in ticket_settings},
            **({"looks_first": True} if check_existing else {}),
        },
    )
