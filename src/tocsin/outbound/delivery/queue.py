"""Queues calls to other systems in the transaction of the change that causes them. Reads and sends nothing.

Example::

    with database.transaction() as connection:
        queue(connection, [NewCall(integration_id, "alert:42", "call", CALL_FOR_ALERT(…), alert_id=42)], now)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from tocsin.alerts.states import ACTIVE
from tocsin.alerts.store import IS_ACTIVE, OWNER_NAME, WITH_INTEGRATION, WITH_OWNER, is_about, join_alert, load_alerts
from tocsin.catalogue.desks import ticket_kinds
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_storable_json
from tocsin.core.errors import Rejected
from tocsin.core.hooks import Expiry
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, ReasonType, as_reason, reason_as_json
from tocsin.core.runtime.clock import Timers
from tocsin.outbound import reasons
from tocsin.outbound.connectors import tickets
from tocsin.outbound.redaction import mask_reason

# ---------- alert values
# The alert values that templates can use, loaded in bulk.


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
INSERT INTO outbound_call (integration_id, alert_id, order_key, action, description, ticket,
                           content, wrote, queued_at, due_at)
SELECT n.integration_id, n.alert_id, n.order_key, n.action, n.description, n.ticket,
       n.content, n.wrote, %(now)s, %(now)s
FROM ROWS FROM (jsonb_to_recordset(%(calls)s) AS (integration_id bigint, alert_id bigint, order_key text, action text,
                description jsonb, ticket text, content jsonb, wrote jsonb))
     WITH ORDINALITY AS n(integration_id, alert_id, order_key, action, description, ticket,
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
        {**_fields_of(call), "description": reason_as_json(mask_reason(call.description, _shorten))} for call in calls
    ]
    inserted = connection.execute(_INSERT, {"calls": as_storable_json(rows), "now": now}).fetchall()
    database.notify(connection, TOPIC)
    return [row[0] for row in inserted]


def _fields_of(call: NewCall) -> dict[str, object]:
    return {item.name: getattr(call, item.name) for item in fields(call)}


def _shorten(text: str) -> str:
    return text[:MAX_DESCRIPTION_CHARS]


# ---------- calls
# Queues calls for alerts and writes to their tickets, for workflows, manual workflows and tests.


_NO_SUCH_CALL = ReasonType("outbound.no_such_call", "Unknown outbound HTTP integration.")
_NOT_CONNECTED = ReasonType("outbound.not_connected", "The alert's integration is not connected to a ticket system.")
_NO_TICKET = ReasonType("outbound.no_ticket", "The alert has no ticket in {integration}.")


def call_for_alerts(
    connection: Connection,
    integration_id: int,
    alert_ids: Sequence[int],
    now: datetime,
    *,
    reason: Reason | str = NO_REASON,
    extra_values: Mapping[str, Any] | None = None,
) -> list[int]:
    """Queues the templated call of an `http` integration once per alert, in bulk. Returns the calls' ids.

    The call contains the alert's current values and `extra_values`. Runs in the caller's transaction. Test alerts make
    no calls. Raises Rejected("not_found") if the integration is deleted or not an HTTP call.
    """
    integration = database.row(
        connection, "SELECT name, kind FROM outbound_outboundintegration WHERE id = %s", (integration_id,)
    )
    if integration is None or integration["kind"] != "http":
        raise Rejected("not_found", _NO_SUCH_CALL())
    values = load_alert_values(connection, alert_ids)
    test_alerts = load_alerts(connection, alert_ids, "is_test")
    calls = [
        NewCall(
            integration_id,
            f"alert:{alert_id}",
            "call",
            as_reason(reason) or reasons.CALL_FOR_ALERT(integration=integration["name"], alert=AlertRef(alert_id)),
            alert_id=alert_id,
            content={"values": {**values[alert_id], **(extra_values or {})}},
        )
        for alert_id in alert_ids
        if alert_id in values and not test_alerts[alert_id]["is_test"]
    ]
    return queue(connection, calls, now)


_TICKET = f"""
SELECT a.source_id, a.is_test, i.kind AS inbound_kind, o.id AS outbound_id, o.kind AS outbound_kind, o.name,
       l.ticket AS linked
FROM {WITH_INTEGRATION}
LEFT JOIN outbound_outboundintegration o ON o.id = i.outbound_id AND o.is_enabled
LEFT JOIN outbound_ticketlink l ON l.integration_id = o.id AND l.alert_id = a.id
WHERE a.id = %s
"""


def write_on_ticket(
    connection: Connection,
    alert_id: int,
    now: datetime,
    *,
    note: str = "",
    status: str = "",
    is_public: bool = False,
    user_id: int | None = None,
) -> int:
    """Queues a note, a status or both for the alert's ticket, after earlier writes to it. Returns the call's id.

    Runs in the caller's transaction. Raises Rejected("not_possible") for an alert without a ticket.
    """
    row = database.row(connection, _TICKET, (alert_id,))
    kinds = ticket_kinds(row["outbound_kind"]) if row is not None and row["outbound_kind"] else ()
    if row is None or not kinds or row["is_test"]:
        raise Rejected("not_possible", _NOT_CONNECTED())
    is_ticket = row["inbound_kind"] in kinds
    if not (row["source_id"] if is_ticket else row["linked"] is not None):
        raise Rejected("not_possible", _NO_TICKET(integration=row["name"]))
    ticket = row["source_id"] if is_ticket else row["linked"]
    content: dict[str, object] = {"event": "workflow", "who_user": user_id}
    if note:
        content |= {"note": note, "public": is_public}
    if status:
        content["status"] = status
    call = NewCall(
        row["outbound_id"],
        f"ticket:{ticket}" if is_ticket else f"alert:{alert_id}",
        "write",
        as_reason(note) or reasons.SET_STATUS(status=status),
        alert_id=alert_id,
        ticket=ticket,
        content=content,
    )
    return queue(connection, [call], now)[0]


# ---------- ticket creation
# Creates tickets for alerts from other sources: at most one per alert, however often it is attempted.
#
# Works in the caller's transaction and sends nothing.


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
_LAST_ATTEMPTS = f"""
SELECT l.alert_id, c.id, c.status FROM outbound_ticketlink l {join_alert("l.alert_id")}
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
       result = '{}', description = n.description, content = n.content,
       progress = c.progress || jsonb_build_object('by_itself',
       CASE WHEN %(is_requested)s THEN 0 ELSE coalesce((c.progress ->> 'by_itself')::int, 0) + 1 END)
FROM jsonb_to_recordset(%(calls)s)
     AS n(id bigint, description jsonb, content jsonb)
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


def create_ticket(connection: Connection, integration_id: int, alert_id: int, now: datetime) -> None:
    """Queues the creation of a ticket for an alert that no integration connects to Halo. Once; nothing, if the
    integration is disabled or no service desk."""
    row = database.row(
        connection,
        "SELECT settings FROM outbound_outboundintegration WHERE id = %s AND is_enabled AND kind = 'haloitsm'",
        (integration_id,),
    )
    if row is not None:
        values = load_alert_values(connection, [alert_id])
        calls = first_creation_calls(connection, {alert_id: (integration_id, row["settings"])}, values)
        queue(connection, [*calls.values()], now)


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
        "SELECT settings FROM outbound_outboundintegration WHERE id = %s", (integration_id,)
    ).fetchone()
    if not last_attempts or settings is None:
        return []
    values_by_alert = load_alert_values(connection, [row["alert_id"] for row in last_attempts])
    rows = [row for row in last_attempts if row["alert_id"] in values_by_alert]
    requeued: list[dict[str, Any]] = []
    new_calls: list[NewCall] = []
    for row in rows:
        # Without the row of the earlier attempt it is unknown whether that created a ticket.
        is_gone = row["id"] is None
        values = values_by_alert[row["alert_id"]]
        call = creation_call(integration_id, settings[0], values, check_existing=is_gone)
        if is_gone:
            new_calls.append(call)
        else:
            description = reason_as_json(call.description)
            requeued.append({"id": row["id"], "description": description, "content": call.content})
    if requeued:
        calls = as_storable_json(requeued)
        connection.execute(_REQUEUE, {"calls": calls, "now": now, "is_requested": is_requested})
    call_ids = queue(connection, new_calls, now)
    requeued_alert_ids = [row["alert_id"] for row in rows if row["id"] is not None]
    connection.execute(_REQUEUE_WRITES, {"integration": integration_id, "alerts": requeued_alert_ids, "now": now})
    database.notify(connection, TOPIC)
    return [*(item["id"] for item in requeued), *call_ids]


def creation_call(
    outbound_id: int, settings: Mapping[str, Any], values: Mapping[str, Any], *, check_existing: bool = False
) -> NewCall:
    """The call that creates a ticket for an alert with these values."""
    ticket_settings = settings.get("create_ticket", {})
    alert_id = int(values["alert"])
    summary = tickets.note_text(ticket_settings.get("summary") or "<subject>", values)
    details = ticket_settings.get("details") or "<long_text>\n\nFrom <source>, alert <alert> in Tocsin: <url>"
    return NewCall(
        outbound_id,
        f"alert:{alert_id}",
        "create",
        reasons.CREATE_TICKET(summary=summary[:500]),
        alert_id=alert_id,
        content={
            "summary": " ".join(summary.split())[:200],
            "details": tickets.note_text(details, values),
            **{key: ticket_settings[key] for key in _FIELDS if key in ticket_settings},
            **({"looks_first": True} if check_existing else {}),
        },
    )


# ---------- retention


# First requests and responses, then ended calls, including dead letters.
_OLD_EXCHANGES = f"""
DELETE FROM outbound_exchange WHERE id IN (
  SELECT e.id FROM outbound_exchange e WHERE e.at < %(before)s AND NOT EXISTS (
    SELECT FROM outbound_call c WHERE c.id = e.call_id AND {is_about("c.alert_id", IS_ACTIVE)})
  ORDER BY e.at LIMIT %(chunk)s)
"""

_OLD_CALLS = f"""
WITH old AS (
  SELECT id FROM (SELECT c.id, c.queued_at, c.status FROM outbound_call c
    WHERE NOT {is_about("c.alert_id", IS_ACTIVE)}
    ORDER BY c.id LIMIT %(chunk)s) AS oldest
  WHERE queued_at < %(before)s AND status NOT IN ('queued', 'sending')
), said AS (
  DELETE FROM outbound_exchange e USING old WHERE e.call_id = old.id
)
DELETE FROM outbound_call c USING old WHERE c.id = old.id
"""

EXPIRIES = tuple(Expiry(one, settings_store.DELIVERY_RETENTION_DAYS.name) for one in (_OLD_EXCHANGES, _OLD_CALLS))


TIMERS = (
    Timers("outbound_call", ("due_at",), "status = 'queued'"),
    Timers("outbound_integrationstatus", ("open_until", "blocked_until", "not_before"), key="integration_id"),
)
