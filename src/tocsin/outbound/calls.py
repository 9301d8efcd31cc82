"""Queues an outbound integration's call for alerts: what workflows, buttons and tests ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.core.errors import Rejected
from tocsin.outbound import values
from tocsin.outbound.queue import NewCall, queue


def call_for_alerts(
    connection: Connection,
    integration_id: int,
    alert_ids: Sequence[int],
    now: datetime,
    *,
    reason: str = "",
    more: Mapping[str, Any] | None = None,
) -> list[int]:
    """Queues the templated call of an `http` integration once for each alert, with the alert's values as they are now
    and `more` beside them. Set-based; for the transaction of what it is made for. Returns the calls' numbers.

    Test alerts make no calls. Raises Rejected `not_found` for an integration that is gone or is no HTTP call.
    """
    found = database.row(
        connection, "SELECT name, kind FROM outbound_outboundintegration WHERE id = %s", (integration_id,)
    )
    if found is None or found["kind"] != "http":
        raise Rejected("not_found", "There is no such HTTP call among the outbound integrations.")
    known = values.of_alerts(connection, alert_ids)
    tests = _tests(connection, alert_ids)
    calls = [
        NewCall(
            integration_id,
            f"alert:{number}",
            "call",
            reason or f"{found['name']} for alert {number}",
            alert_id=number,
            content={"values": {**known[number], **(more or {})}},
        )
        for number in alert_ids
        if number in known and number not in tests
    ]
    return queue(connection, calls, now)


def _tests(connection: Connection, ids: Sequence[int]) -> set[int]:
    found = connection.execute("SELECT id FROM alerts_alert WHERE id = ANY(%s) AND test", (list(ids),)).fetchall()
    return {row[0] for row in found}
