"""Claims due calls: the first of each order key, as far as rate limit, circuit breaker and blocks allow.

Works in the caller's transaction. A claim is a lease by the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.concurrency import count_allowed
from tocsin.core.delivery.lease import LEASE_SECONDS, LeaseTable
from tocsin.outbound import retry_policy
from tocsin.outbound.connectors.interfaces import CallJob
from tocsin.outbound.delivery.integration_pool import IntegrationPool

LEASES = LeaseTable[int]("outbound_call", "bigint")

_STATUS_ROWS = """
SELECT s.integration_id, s.failures, s.open_until, s.blocked_until, s.granted_to, s.not_before
FROM outbound_integrationstatus s
WHERE s.integration_id = ANY(%(ids)s) AND EXISTS (
  SELECT FROM outbound_call c WHERE c.integration_id = s.integration_id AND c.status = 'queued'
  AND (c.due_at <= %(now)s OR s.failures >= %(opens)s))
ORDER BY s.integration_id FOR NO KEY UPDATE SKIP LOCKED
"""

_PICK = """
SELECT c.id, c.integration_id, c.alert_id, c.order_key, c.action, c.ticket, c.content, c.progress, c.attempts,
       c.is_uncertain, c.queued_at
FROM outbound_call c
WHERE c.integration_id = %(integration)s AND c.status = 'queued' AND (c.due_at <= %(now)s OR %(probes)s)
  AND NOT EXISTS (
    SELECT FROM outbound_call e WHERE e.integration_id = c.integration_id AND e.order_key = c.order_key
    AND e.status IN ('queued', 'sending') AND e.id < c.id)
ORDER BY c.due_at, c.id LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
"""

_LEASE = """
UPDATE outbound_call SET status = 'sending', leased_by = %(node)s, error_code = '', error_data = '{}',
       lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = ANY(%(ids)s)
"""


def claim(
    connection: Connection,
    pool: IntegrationPool,
    calls_by_integration: Mapping[int, int],
    free: int,
    node: str,
    now: datetime,
) -> list[CallJob]:
    """Leases at most `free` calls to `node`. `calls_by_integration` counts the calls in progress, so that a slow
    integration leaves slots for the others.
    """
    ids = list(pool.all())
    if free <= 0 or not ids:
        return []
    jobs: list[CallJob] = []
    for status in database.rows(
        connection, _STATUS_ROWS, {"ids": ids, "now": now, "opens": retry_policy.CIRCUIT.max_failures}
    ):
        held = calls_by_integration.get(status["integration_id"], 0)
        limit = min(count_allowed(held, free - len(jobs)), _allowance(pool, status, now))
        if limit <= 0:
            continue
        rows = database.rows(
            connection,
            _PICK,
            {"integration": status["integration_id"], "now": now, "most": limit, "probes": _is_probing(status)},
        )
        if rows:
            jobs += [_job(row) for row in rows]
            _charge_rate(connection, pool, status, len(rows), now)
    if jobs:
        parameters = {"node": node, "seconds": LEASE_SECONDS, "ids": [job.id for job in jobs]}
        connection.execute(_LEASE, parameters)
    return jobs


def _allowance(pool: IntegrationPool, status: Mapping[str, Any], now: datetime) -> int:
    """How many calls of one integration may be sent now."""
    integration = pool.get(status["integration_id"])
    if integration is None:
        return 0
    for blocked_until in (status["open_until"], status["blocked_until"], status["not_before"]):
        if blocked_until is not None and blocked_until > now:
            return 0
    limit = integration.sender.rate.used_until(status["granted_to"]).count_available(now)
    return min(limit, 1) if _is_probing(status) else limit


def _is_probing(status: Mapping[str, Any]) -> bool:
    """Whether to probe after failures with a single call: the oldest, regardless of its own retry time."""
    return bool(status["failures"] >= retry_policy.CIRCUIT.max_failures or status["blocked_until"] is not None)


def _charge_rate(
    connection: Connection, pool: IntegrationPool, status: Mapping[str, Any], calls: int, now: datetime
) -> None:
    integration = pool.get(status["integration_id"])
    assert integration is not None
    rate = integration.sender.rate.used_until(status["granted_to"]).charge(calls, now)
    connection.execute(
        "UPDATE outbound_integrationstatus SET granted_to = %s WHERE integration_id = %s",
        (rate.free_at, status["integration_id"]),
    )


def _job(row: Mapping[str, Any]) -> CallJob:
    return CallJob(
        id=row["id"],
        integration_id=row["integration_id"],
        alert_id=row["alert_id"],
        order_key=row["order_key"],
        action=row["action"],
        ticket=row["ticket"],
        content=row["content"],
        attempts=row["attempts"],
        is_uncertain=row["is_uncertain"],
        queued_at=row["queued_at"],
        progress=dict(row["progress"]),
    )
