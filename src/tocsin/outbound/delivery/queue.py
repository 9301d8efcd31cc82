"""Queues calls to other systems in the transaction of the change that causes them. Reads and sends nothing.

Example::

    with database.transaction() as connection:
        queue(connection, [NewCall(integration_id, "alert:42", "call", CALL_FOR_ALERT(…), alert_id=42)], now)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_storable_json
from tocsin.core.reasons import Reason
from tocsin.core.stored_reason import named_columns
from tocsin.outbound.redaction import mask_reason

#: The hint that wakes the outbox.
TOPIC = "outbound"

#: Characters per text in a description.
MAX_DESCRIPTION_CHARS = 500


@dataclass(frozen=True, slots=True)
class NewCall:
    """One action at a remote system."""

    integration_id: int
    #: Calls with the same key are sent one after another, in queue order: `ticket:20817`, `alert:42`.
    order_key: str
    #: The action, for the connector.
    action: str
    #: A description of the action, for people.
    description: Reason
    alert_id: int | None = None
    #: The remote ticket, if known.
    ticket: str = ""
    #: The connector's parameters as plain JSON.
    content: Mapping[str, object] = field(default_factory=dict)
    #: The values it writes, for recognizing their echo.
    wrote: Mapping[str, object] = field(default_factory=dict)


_INSERT = """
INSERT INTO outbound_call (integration_id, alert_id, order_key, action, description_code, description_data, ticket,
                           content, wrote, queued_at, due_at)
SELECT n.integration_id, n.alert_id, n.order_key, n.action, n.description_code, n.description_data, n.ticket,
       n.content, n.wrote, %(now)s, %(now)s
FROM ROWS FROM (jsonb_to_recordset(%(calls)s) AS (integration_id bigint, alert_id bigint, order_key text, action text,
                description_code text, description_data jsonb, ticket text, content jsonb, wrote jsonb))
     WITH ORDINALITY AS n(integration_id, alert_id, order_key, action, description_code, description_data, ticket,
                          content, wrote, place)
ORDER BY n.place RETURNING id
"""


def queue(connection: Connection, calls: Sequence[NewCall], now: datetime) -> list[int]:
    """Queues calls in order, with one statement, and wakes the outbox on commit. Returns their ids.

    Call this while the alert's row is locked, as in a change handler: this preserves the order of an alert's calls.
    """
    if not calls:
        return []
    rows = [
        {
            "integration_id": call.integration_id,
            "alert_id": call.alert_id,
            "order_key": call.order_key,
            "action": call.action,
            **named_columns("description", mask_reason(call.description, lambda text: text[:MAX_DESCRIPTION_CHARS])),
            "ticket": call.ticket,
            "content": call.content,
            "wrote": call.wrote,
        }
        for call in calls
    ]
    inserted = connection.execute(_INSERT, {"calls": as_storable_json(rows), "now": now}).fetchall()
    database.notify(connection, TOPIC)
    return [row[0] for row in inserted]
