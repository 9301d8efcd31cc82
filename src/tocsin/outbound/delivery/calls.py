"""Queues calls for alerts and writes to their tickets, for workflows, manual workflows and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tocsin.catalogue.kinds import family
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, ReasonType, as_reason
from tocsin.outbound import alert_values, reasons
from tocsin.outbound.delivery.queue import NewCall, queue

_NO_SUCH_CALL = ReasonType("outbound.no_such_call", "Unknown outbound HTTP integration.")
_NOT_CONNECTED = ReasonType("outbound.not_connected", "The alert's integration is not connected to HaloITSM.")
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
    values = alert_values.load_alert_values(connection, alert_ids)
    test_alert_ids = _test_alert_ids(connection, alert_ids)
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
        if alert_id in values and alert_id not in test_alert_ids
    ]
    return queue(connection, calls, now)


_TICKET = """
SELECT a.source_id, a.is_test, i.kind AS inbound_kind, o.id AS outbound_id, o.name, l.ticket AS linked
FROM alerts_alert a
LEFT JOIN inbound_integration i ON i.id = a.integration_id
LEFT JOIN outbound_outboundintegration o ON o.id = i.outbound_id AND o.is_enabled AND o.kind = 'haloitsm'
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
    """Queues a note, a status or both for the alert's Halo ticket, after earlier writes to it. Returns the call's id.

    Runs in the caller's transaction. Raises Rejected("not_possible") for an alert without a ticket.
    """
    row = database.row(connection, _TICKET, (alert_id,))
    if row is None or row["outbound_id"] is None or row["is_test"]:
        raise Rejected("not_possible", _NOT_CONNECTED())
    is_halo_alert = row["inbound_kind"] in family("haloitsm")
    if not (row["source_id"] if is_halo_alert else row["linked"] is not None):
        raise Rejected("not_possible", _NO_TICKET(integration=row["name"]))
    ticket = row["source_id"] if is_halo_alert else row["linked"]
    content: dict[str, object] = {"event": "workflow", "who_user": user_id}
    if note:
        content |= {"note": note, "public": is_public}
    if status:
        content["status"] = status
    call = NewCall(
        row["outbound_id"],
        f"ticket:{ticket}" if is_halo_alert else f"alert:{alert_id}",
        "write",
        as_reason(note) or reasons.SET_STATUS(status=status),
        alert_id=alert_id,
        ticket=ticket,
        content=content,
    )
    return queue(connection, [call], now)[0]


def _test_alert_ids(connection: Connection, ids: Sequence[int]) -> set[int]:
    rows = connection.execute("SELECT id FROM alerts_alert WHERE id = ANY(%s) AND is_test", (list(ids),)).fetchall()
    return {row[0] for row in rows}
