"""The outbox of one process: claims due calls, sends them from threads, and records the results.

Holds no database connection while sending. The leases of a killed process expire.
"""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.delivery import lease
from tocsin.core.delivery.failure import WORKER_LOST, AttemptFailed, FailureKind, failure_of
from tocsin.core.delivery.job_pool import JobPool
from tocsin.core.delivery.lease import LeaseKeeper, LeaseLost
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.outbound import reasons
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, RecordedClient
from tocsin.outbound.delivery import job_hooks
from tocsin.outbound.delivery.claim import LEASES, claim
from tocsin.outbound.delivery.integration_pool import IntegrationPool
from tocsin.outbound.delivery.queue import TOPIC
from tocsin.outbound.delivery.results import CallResult, mark_ended, record

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
        elapsed: Callable[[], float] = lease.elapsed,
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
            jobs = job_hooks.prepare(connection, self.pool, jobs)
        self.leases.granted([job.id for job in jobs], claimed_at)
        return jobs

    def _record(self, results: Sequence[CallResult]) -> None:
        with database.transaction() as connection:
            # This may lock alerts, which come before calls in the lock order.
            job_hooks.conclude(connection, self.pool, results)
            record(connection, self.pool, results, self.node, self._jitter())

    def _requeue_lost(self, own_call_ids: list[int]) -> None:
        """Requeues calls whose sender stopped midway, so that their outcome is unknown.

        Calls queued before a clock rollback no longer wait for the clock to catch up.
        """
        now = self._now()
        with database.transaction() as connection:
            if ids := LEASES.take_over(connection, own_call_ids, self.node, limit=200):
                connection.execute(_LOST, {"ids": ids, "now": now, "error": WORKER_LOST.code})
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
       error_code = %(error)s, error_data = '{}',
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
