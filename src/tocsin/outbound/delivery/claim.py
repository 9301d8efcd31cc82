"""Claims due calls: the first of each order key, as far as rate limit, circuit breaker and blocks allow.

Works in the caller's transaction. A claim is a lease by the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

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

#: Nothing is sent before these times of an integration's status.
_BLOCKED_UNTIL = ("open_until", "blocked_until", "not_before")

_CHARGE = "UPDATE outbound_integrationstatus SET granted_to = %s WHERE integration_id = %s"

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
    integrations = pool.all()
    if free <= 0 or not integrations:
        return []
    jobs: list[CallJob] = []
    max_failures = retry_policy.CIRCUIT.max_failures
    parameters: dict[str, object] = {"ids": list(integrations), "now": now, "opens": max_failures}
    for status in database.rows(connection, _STATUS_ROWS, parameters):
        integration_id = status["integration_id"]
        if any(until is not None and until > now for until in (status[name] for name in _BLOCKED_UNTIL)):
            continue
        rate = integrations[integration_id].sender.rate.used_until(status["granted_to"])
        # After failures, a single call probes the remote system: the oldest, regardless of its own retry time.
        is_probing = status["failures"] >= max_failures or status["blocked_until"] is not None
        allowed = count_allowed(calls_by_integration.get(integration_id, 0), free - len(jobs))
        limit = min(allowed, rate.count_available(now), 1 if is_probing else allowed)
        parameters = {"integration": integration_id, "now": now, "most": limit, "probes": is_probing}
        if rows := database.rows(connection, _PICK, parameters) if limit else []:
            jobs += [CallJob(**row) for row in rows]
            connection.execute(_CHARGE, (rate.charge(len(rows), now).free_at, integration_id))
    if jobs:
        connection.execute(_LEASE, {"node": node, "seconds": LEASE_SECONDS, "ids": [job.id for job in jobs]})
    return jobs
