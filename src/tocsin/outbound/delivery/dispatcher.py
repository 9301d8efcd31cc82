"""The outbox of one process: claims due calls, sends them from threads, and records the results.

Holds no database connection while sending. The leases of a killed process expire.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.runtime import clock
from tocsin.core.runtime.job_pool import JobPool
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, NeedsAttention, RecordedClient, Throttled
from tocsin.outbound.delivery import job_hooks
from tocsin.outbound.delivery.claim import LEASE_SECONDS, claim
from tocsin.outbound.delivery.integration_pool import IntegrationPool
from tocsin.outbound.delivery.queue import TOPIC
from tocsin.outbound.delivery.results import CallFailed, CallFailure, CallResult, mark, record

log = logging.getLogger(__name__)

#: The maximum number of concurrent calls.
MAX_CONCURRENT_CALLS = 8


class CallDispatcher:
    """One per process; `turn` and `keep_leases` run as periodic tasks."""

    def __init__(
        self,
        *,
        slots: int = MAX_CONCURRENT_CALLS,
        directory: IntegrationPool | None = None,
        now: Callable[[], datetime] = clock.now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.node = f"{socket.gethostname()[:60]}/{ids.uuid7()}"
        self.directory = directory or IntegrationPool()
        self._now = now
        self._jitter = jitter
        self.in_flight = JobPool[int, CallJob, CallResult](
            "outbound",
            slots,
            key=lambda job: job.id,
            work=lambda job: make(self.directory, job, self._now),
            write=self._record,
            salvage=_mark,
        )

    def turn(self) -> bool:
        """Records finished calls, claims due ones up to the free slots, and starts sending them, without waiting.

        Always returns False: the next interval or hint continues.
        """
        self.in_flight.write_down()
        free = self.in_flight.free()
        if free > 0:
            self.in_flight.begin(database.retry_once(lambda: self._claim(free)))
        return False

    def keep_leases(self) -> bool:
        """Renews this process's leases, and requeues calls that another process lost. Always returns False."""
        ours = [job.id for job in self.in_flight.jobs()]
        with database.transaction() as connection:
            self.directory.refresh(connection)
            connection.execute(
                "UPDATE outbound_call SET lease_until = clock_timestamp() + make_interval(secs => %s) "
                "WHERE id = ANY(%s) AND status = 'sending' AND leased_by = %s",
                (LEASE_SECONDS, ours, self.node),
            )
        database.retry_once(lambda: self._take_up(ours))
        return False

    def settle(self) -> None:
        """Waits until no call is in flight and all results are recorded."""
        self.in_flight.settle()

    def close(self, timeout: float = 20.0) -> None:
        """Waits at most `timeout` seconds for calls in flight, and records their results."""
        self.in_flight.close(timeout)
        self.directory.close()

    def _claim(self, free: int) -> list[CallJob]:
        now = self._now()
        with database.transaction() as connection:
            self.directory.refresh(connection)
            jobs = claim(connection, self.directory, free, self.node, now)
            return job_hooks.prepare(connection, self.directory, jobs)

    def _record(self, results: Sequence[CallResult]) -> None:
        with database.transaction() as connection:
            # This may lock alerts, which come before calls in the lock order.
            job_hooks.conclude(connection, self.directory, results)
            record(connection, self.directory, results, self.node, self._jitter())

    def _take_up(self, ours: list[int]) -> None:
        with database.transaction() as connection:
            _take_up(connection, ours, self._now())


def _mark(result: CallResult) -> None:
    with database.transaction() as connection:
        mark(connection, result)


def make(directory: IntegrationPool, job: CallJob, now: Callable[[], datetime]) -> CallResult:
    """Makes one call. Never raises: every error becomes a result."""
    opened = directory.get(job.integration_id)
    if opened is None:
        return CallResult(job, CallFailed(CallFailure.BARRED, "This integration is not in use."), now())
    line = RecordedClient(directory.client, now, opened.secrets)
    outcome = _outcome(job, lambda: opened.sender.send(job, line, now()))
    return CallResult(job, _storable(outcome, line), now(), tuple(line.said))


def _outcome(job: CallJob, work: Callable[[], CallDone]) -> CallDone | CallFailed:
    try:
        return work()
    except Throttled as error:
        return CallFailed(CallFailure.THROTTLED, error.detail, error.retry_after)
    except OutcomeUnknown as error:
        return CallFailed(CallFailure.UNKNOWN, error.detail, error.retry_after)
    except Temporary as error:
        return CallFailed(CallFailure.TEMPORARY, error.detail, error.retry_after)
    except NeedsAttention as error:
        return CallFailed(CallFailure.BARRED, str(error))
    except Permanent as error:
        return CallFailed(CallFailure.PERMANENT, str(error))
    except Exception as error:  # a call's edge: one failure must not affect others
        log.exception("The outbound call %s broke.", job.id)
        return CallFailed(CallFailure.PERMANENT, f"Tocsin itself failed: {type(error).__name__}.")


def _storable(outcome: CallDone | CallFailed, line: RecordedClient) -> CallDone | CallFailed:
    """The outcome without secrets and without characters the database rejects: the remote text may contain anything."""
    if isinstance(outcome, CallFailed):
        return replace(outcome, error=sanitize(line.masked(outcome.error)))
    captured = {name: sanitize(value) for name, value in outcome.captured.items()}
    return replace(
        outcome,
        result=sanitize(line.masked(outcome.result)),
        captured=captured,
        ticket=sanitize(outcome.ticket),
    )


# A lease with minutes left was granted before a clock rollback: a living holder renews it right away.
_LOST = """
UPDATE outbound_call SET attempts = attempts + 1, is_uncertain = true, lease_until = NULL, due_at = %(now)s,
       error = 'The process that was sending it stopped.',
       status = CASE WHEN attempts >= 4 THEN 'dead' ELSE 'queued' END,
       ended_at = CASE WHEN attempts >= 4 THEN %(now)s END
WHERE id IN (SELECT id FROM outbound_call WHERE status = 'sending'
             AND (lease_until < clock_timestamp() OR lease_until > clock_timestamp() + interval '1 minute')
             AND id <> ALL(%(ours)s::bigint[]) ORDER BY id LIMIT 200 FOR NO KEY UPDATE SKIP LOCKED)
"""


def _take_up(connection: Connection, ours: list[int], now: datetime) -> None:
    """Requeues calls whose sender stopped midway, so that their outcome is unknown.

    Calls queued before a clock rollback no longer wait for the clock to catch up.
    """
    connection.execute(_LOST, {"ours": ours, "now": now})
    connection.execute(_FROM_AHEAD, {"now": now, "ahead": now + _NOT_YET})


_FROM_AHEAD = """
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


def loops() -> tuple[PeriodicTask, ...]:
    """The outbox's periodic tasks in a worker."""
    box = shared_dispatcher()
    return (
        PeriodicTask("outbound", box.turn, timedelta(milliseconds=500), frozenset({TOPIC, "clock", "config"})),
        PeriodicTask("outbound leases", box.keep_leases, timedelta(seconds=2)),
    )
