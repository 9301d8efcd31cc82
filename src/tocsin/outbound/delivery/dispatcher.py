"""The outbox of one process: claims due calls, sends them from threads, and records the results.

Holds no database connection while sending. The leases of a killed process expire.
"""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery import job_pool
from tocsin.core.delivery.circuit_breaker import WORKER_LOST, AttemptFailed, FailureKind, failure_of
from tocsin.core.delivery.job_pool import LEASE_SECONDS, JobPool, LeaseKeeper, LeaseLost, LeaseTable
from tocsin.core.delivery.rate_limit import count_allowed
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.outbound import reasons, states
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, RecordedClient
from tocsin.outbound.delivery.queue import TOPIC
from tocsin.outbound.delivery.results import ActiveIntegration, CallResult, IntegrationPool, mark_ended, record

# ---------- claim
# Claims due calls: the first of each order key, as far as rate limit, circuit breaker and blocks allow.
#
# Works in the caller's transaction. A claim is a lease by the database's clock.


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
UPDATE outbound_call SET status = 'sending', leased_by = %(node)s, error = '{}',
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
    max_failures = states.CIRCUIT.max_failures
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


# ---------- job hooks
# Database hooks of connectors, run before calls are sent and after their results arrive; one per kind.


class JobHooks(Protocol):
    """Hooks for one kind's calls, run in the outbox's transactions and in bulk."""

    def prepare(
        self, connection: Connection, integration: ActiveIntegration, jobs: Sequence[CallJob]
    ) -> Sequence[CallJob]:
        """Returns the jobs with their data from the database. May record on their rows what they are about to write."""
        ...

    def conclude(self, connection: Connection, integration: ActiveIntegration, results: Sequence[CallResult]) -> None:
        """Stores what the results contain."""
        ...


_preparers: dict[str, JobHooks] = {}


def register(kind: str, preparer: JobHooks) -> None:
    """Registers the hooks for calls of that kind."""
    _preparers[kind] = preparer


def prepare(connection: Connection, pool: IntegrationPool, jobs: list[CallJob]) -> list[CallJob]:
    """Returns the prepared jobs in their original order."""
    prepared = {job.id: job for job in jobs}
    for integration, preparer in _with_preparer(pool, {job.integration_id for job in jobs}):
        own_jobs = [job for job in jobs if job.integration_id == integration.account.id]
        prepared |= {job.id: replace(job) for job in preparer.prepare(connection, integration, own_jobs)}
    return [prepared[job.id] for job in jobs]


def conclude(connection: Connection, pool: IntegrationPool, results: Sequence[CallResult]) -> None:
    """Passes each kind the results of its calls."""
    for integration, preparer in _with_preparer(pool, {result.job.integration_id for result in results}):
        preparer.conclude(
            connection, integration, [r for r in results if r.job.integration_id == integration.account.id]
        )


def _with_preparer(pool: IntegrationPool, ids: set[int]) -> list[tuple[ActiveIntegration, JobHooks]]:
    pairs = []
    for integration_id in sorted(ids):
        integration = pool.get(integration_id)
        if integration is not None and integration.kind.name in _preparers:
            pairs.append((integration, _preparers[integration.kind.name]))
    return pairs


log = logging.getLogger(__name__)

#: The maximum number of concurrent calls.
MAX_CONCURRENT_CALLS = 8


class CallDispatcher:
    """One per process; `run_once` and `keep_leases` run as periodic tasks."""

    def __init__(
        self,
        *,
        slots: int = MAX_CONCURRENT_CALLS,
        pool: IntegrationPool | None = None,
        now: Callable[[], datetime] = clock.now,
        jitter: Callable[[], float] = random.random,
        elapsed: Callable[[], float] = job_pool.elapsed,
    ) -> None:
        self.node = f"{socket.gethostname()[:60]}/{ids.uuid7()}"
        self.pool = pool or IntegrationPool()
        self._now = now
        self._jitter = jitter
        self.leases = LeaseKeeper(LEASES, self.node, elapsed)
        self.in_flight = JobPool[int, CallJob, CallResult](
            "outbound",
            slots,
            key=lambda job: job.id,
            work=lambda job: make_call(self.pool, job, self._now, lambda: self.leases.check([job.id])),
            write=self._record,
            salvage=_mark_ended,
        )

    def run_once(self) -> bool:
        """Records finished calls, claims due ones up to the free slots, and starts sending them, without waiting.

        Always returns False: the next interval or hint continues.
        """
        self.in_flight.store_results()
        free = self.in_flight.free_slots()
        if free > 0:
            self.in_flight.start(database.retry_once(lambda: self._claim(free)))
        return False

    def keep_leases(self) -> bool:
        """Renews this process's leases, and requeues calls that another process lost. Always returns False."""
        own_call_ids = [job.id for job in self.in_flight.jobs()]
        with database.transaction() as connection:
            self.pool.refresh(connection)
            self.leases.renew(connection, own_call_ids)
        database.retry_once(lambda: self._requeue_lost(own_call_ids))
        return False

    def settle(self) -> None:
        """Waits until no call is in flight and all results are recorded."""
        self.in_flight.settle()

    def close(self, timeout: float = 20.0) -> None:
        """Waits at most `timeout` seconds for calls in flight, and records their results."""
        self.in_flight.close(timeout)
        self.pool.close()

    def _claim(self, free: int) -> list[CallJob]:
        now, claimed_at = self._now(), self.leases.now()
        held = Counter(job.integration_id for job in self.in_flight.jobs())
        with database.transaction() as connection:
            self.pool.refresh(connection)
            jobs = claim(connection, self.pool, held, free, self.node, now)
            jobs = prepare(connection, self.pool, jobs)
        self.leases.granted([job.id for job in jobs], claimed_at)
        return jobs

    def _record(self, results: Sequence[CallResult]) -> None:
        with database.transaction() as connection:
            # This may lock alerts, which come before calls in the lock order.
            conclude(connection, self.pool, results)
            record(connection, self.pool, results, self.node, self._jitter())

    def _requeue_lost(self, own_call_ids: list[int]) -> None:
        """Requeues calls whose sender stopped midway, so that their outcome is unknown.

        Calls queued before a clock rollback no longer wait for the clock to catch up.
        """
        now = self._now()
        with database.transaction() as connection:
            if ids := LEASES.take_over(connection, own_call_ids, self.node, limit=200):
                connection.execute(_LOST, {"ids": ids, "now": now, "error": WORKER_LOST()})
            connection.execute(_QUEUED_IN_FUTURE, {"now": now, "ahead": now + _NOT_YET})


def _mark_ended(result: CallResult) -> None:
    with database.transaction() as connection:
        mark_ended(connection, result)


def make_call(
    pool: IntegrationPool,
    job: CallJob,
    now: Callable[[], datetime],
    before_request: Callable[[], None] | None = None,
) -> CallResult:
    """Makes one call. Every error becomes a result, but for the LeaseLost of `before_request`."""
    integration = pool.get(job.integration_id)
    if integration is None:
        return CallResult(job, AttemptFailed(FailureKind.BLOCKED, reasons.INTEGRATION_DISABLED()), now())
    http_client = RecordedClient(pool.client, now, integration.secrets, before_request)
    outcome = _outcome(job, lambda: integration.sender.send(job, http_client, now()))
    return CallResult(job, _storable(outcome, http_client), now(), tuple(http_client.exchanges))


def _outcome(job: CallJob, send: Callable[[], CallDone]) -> CallDone | AttemptFailed:
    try:
        return send()
    except LeaseLost:
        raise
    except (Temporary, Permanent) as error:
        return failure_of(error)
    except Exception as error:  # a call's edge: one failure must not affect others
        log.exception("The outbound call %s broke.", job.id)
        return AttemptFailed(FailureKind.PERMANENT, reasons.INTERNAL_ERROR(error=type(error).__name__))


def _storable(outcome: CallDone | AttemptFailed, http_client: RecordedClient) -> CallDone | AttemptFailed:
    """The outcome without secrets and without characters the database rejects: the remote text may contain anything."""
    if isinstance(outcome, AttemptFailed):
        return replace(outcome, error=http_client.mask_reason(outcome.error))
    captured = {name: sanitize(value) for name, value in outcome.captured.items()}
    return replace(
        outcome,
        result=http_client.mask_reason(outcome.result),
        captured=captured,
        ticket=sanitize(outcome.ticket),
    )


_LOST = """
UPDATE outbound_call SET attempts = attempts + 1, is_uncertain = true, lease_until = NULL, due_at = %(now)s,
       error = %(error)s,
       status = CASE WHEN attempts >= 4 THEN 'dead' ELSE 'queued' END,
       ended_at = CASE WHEN attempts >= 4 THEN %(now)s END
WHERE id = ANY(%(ids)s)
"""

_QUEUED_IN_FUTURE = """
UPDATE outbound_call SET queued_at = %(now)s, due_at = %(now)s + greatest(due_at - queued_at, interval '0')
WHERE id IN (SELECT id FROM outbound_call WHERE status = 'queued' AND due_at > %(ahead)s AND queued_at > %(ahead)s
             ORDER BY id LIMIT 200 FOR NO KEY UPDATE SKIP LOCKED)
"""

#: Nodes whose clocks differ by more are not ready.
_NOT_YET = timedelta(minutes=1)


_shared: CallDispatcher | None = None


def shared_dispatcher() -> CallDispatcher:
    """The process's outbox, created on first use."""
    global _shared
    if _shared is None:
        _shared = CallDispatcher()
    return _shared


def close(timeout: float = 20.0) -> None:
    """Waits for calls in flight and records their results."""
    global _shared
    if _shared is not None:
        _shared.close(timeout)
        _shared = None


def dispatcher_tasks() -> tuple[PeriodicTask, ...]:
    """The outbox's periodic tasks in a worker."""
    dispatcher = shared_dispatcher()
    return (
        PeriodicTask(
            "outbound", dispatcher.run_once, timedelta(milliseconds=500), frozenset({TOPIC, "clock", "config"})
        ),
        PeriodicTask("outbound leases", dispatcher.keep_leases, timedelta(seconds=2)),
    )
