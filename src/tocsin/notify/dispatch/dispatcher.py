"""The delivery dispatcher of one process: claims due deliveries, sends them in threads, records results and renews
leases.

Sends without holding a database connection. Results are recorded at once, in batches if many arrive together. The
leases of a killed process expire, and another process takes over its rows.
"""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Batch, BatchRunner, Connection
from tocsin.core.delivery import job_pool
from tocsin.core.delivery.circuit_breaker import WORKER_LOST, AttemptFailed, FailureKind, Latencies, LocalFailures
from tocsin.core.delivery.job_pool import Deadline, JobPool, LeaseKeeper
from tocsin.core.runtime import clock
from tocsin.notify import pause
from tocsin.notify.dispatch import claim, results, send
from tocsin.notify.dispatch.claim import LEASES, ClaimedBatch, DeliveryJob, Lane, lane_of
from tocsin.notify.dispatch.results import DeliveryFailure, mark_sent, record, record_failures
from tocsin.notify.dispatch.send import SendResult, SentDelivery, SentJournal, sent_deliveries
from tocsin.notify.providers import health, pool
from tocsin.notify.providers.pool import CHANNELS, ProviderPool
from tocsin.notify.rules.page_planner import (
    ADDRESS_STUCK,
    DEFERRED_FROM,
    ON_HOLD,
    PROVIDER_STUCK,
    TIMED_OUT,
)

# ---------- stuck senders
# Handles sends that are stuck past their deadline: their result, and which new sends are refused so that one provider
# cannot occupy every thread. Pure.


#: In seconds. A longer send counts as failed with an unknown outcome. Each provider has shorter timeouts of its own;
#: this one applies even if a provider, a library or the resolver hangs. A mail server may take a minute after the last
#: line of a mail.
SEND_DEADLINE = 90.0

#: In seconds: the same, if another provider can take over. It does so within ten seconds.
FAILOVER_DEADLINE = 8.0

#: A provider with this many stuck senders is not used until one of them ends.
MAX_STUCK = 4


def deadline(job: DeliveryJob) -> float:
    """Returns how many seconds a send may take."""
    return FAILOVER_DEADLINE if job.has_substitute else SEND_DEADLINE


def stuck_refusal(job: DeliveryJob, stuck: Sequence[DeliveryJob]) -> AttemptFailed | None:
    """Returns why `job` must not start while the jobs in `stuck` hang; None if it may.

    A provider that was saved again has a new sender without stuck sends.
    """
    if (provider := job.active_provider) is None:
        return None
    others = [one for one in stuck if one.active_provider is not None and one.active_provider.sender is provider.sender]
    max_stuck = MAX_STUCK
    if provider.kind.has_many_servers:
        # Each address has its own server, which says nothing about the others.
        if any(other.bundle.lead.address == job.bundle.lead.address for other in others):
            return AttemptFailed(FailureKind.TEMPORARY, ADDRESS_STUCK())
        max_stuck = provider.kind.max_concurrent_sends
    if len(others) < max_stuck:
        return None
    return AttemptFailed(FailureKind.TEMPORARY, PROVIDER_STUCK(count=len(others)))


log = logging.getLogger(__name__)

#: The maximum number of concurrent sends. Threads wait for servers, not for the CPU.
MAX_CONCURRENT_SENDS = 96
#: Under load, a run waits for this many free slots, or this many seconds, before it claims again.
GATHER_JOBS = 8
GATHER_SECONDS = 0.02
#: Failures that another node need not have.
RETRIED_ELSEWHERE = frozenset({FailureKind.TEMPORARY, FailureKind.OUTCOME_UNKNOWN})
#: How often pages are looked for that were kept in the sandbox although their channel has a provider.
REQUEUE_INTERVAL = timedelta(seconds=10)
#: The maximum number of expired leases in one run.
MAX_LEASES_PER_RUN = 500


class DeliveryDispatcher:
    """One per process. `run_once`, `maintain_leases` and `probe_providers` run as periodic tasks."""

    def __init__(
        self,
        *,
        slots: int = MAX_CONCURRENT_SENDS,
        provider_pool: ProviderPool | None = None,
        journal: SentJournal | None = None,
        now: Callable[[], datetime] = clock.now,
        jitter: Callable[[], float] = random.random,
        elapsed: Callable[[], float] = job_pool.elapsed,
    ) -> None:
        self.node = f"{socket.gethostname()[:60]}/{ids.uuid7()}"
        self.provider_pool = provider_pool or ProviderPool()
        self._slots = slots
        self._journal = journal
        self._now = now
        self.leases = LeaseKeeper(LEASES, self.node, elapsed)
        self._jitter = jitter
        self._elapsed = elapsed
        self.latencies = Latencies()
        self._local_failures = LocalFailures()
        #: The lanes of the last messages, so that they take turns.
        self._recent: deque[Lane] = deque(maxlen=slots)
        self.in_flight = JobPool[UUID, DeliveryJob, SendResult](
            "outbox",
            slots,
            key=lambda job: job.bundle.lead.id,
            work=self._send,
            write=self._record,
            salvage=self._salvage,
            deadline=Deadline(deadline, self._timed_out, elapsed),
        )
        # A claim that takes long is halved: what falls due meanwhile, of any integration, waits for its end.
        self._claims = BatchRunner[int]("A claim of deliveries", slots, claim.MAX_ROWS, caught=())
        self._unresponsive_addresses = results.UnresponsiveAddresses()
        self._requeued_at: datetime | None = None
        #: The recovery time of each provider whose messages this process has released.
        self._released: dict[str, datetime] = {}

    def run_once(self) -> bool:
        """Claims due deliveries and starts sending them. Returns True if there may be more. Never waits for a send."""
        # Results of a failed write come first: a sent message must not stay recorded as unsent.
        self.in_flight.end_overdue()
        self.in_flight.store_results()
        if self.in_flight.free_slots() <= 0:
            self._wait_for_slots()
            return True
        return self._claims.run(self._start_claimed, _raise)

    def maintain_leases(self) -> bool:
        """Records what ended processes on this machine had sent, renews the leases of the sends in progress here, takes
        over rows whose lease expired elsewhere, and handles overdue receipts.
        """
        self._recover_sent()
        in_progress_ids = [row_id for job in self.in_flight.jobs() for row_id in job.ids]
        with database.transaction() as connection:
            self.provider_pool.refresh(connection)
            self.leases.renew(connection, in_progress_ids)
            claim.delete_old_last_sent(connection)
        database.retry_once(lambda: self._reclaim_expired_leases(in_progress_ids))
        database.retry_once(self._check_receipt_timeouts)
        return False

    def probe_providers(self) -> bool:
        """Probes providers with an open circuit breaker, and sends what was kept for want of a provider."""
        self.provider_pool.probe_due(self._now)
        database.retry_once(self._requeue_sandboxed)
        return False

    def settle(self) -> None:
        """Waits until no send is in progress and all results are recorded."""
        self.in_flight.settle()

    def close(self, timeout: float = 20.0) -> None:
        """Waits up to `timeout` seconds for sends in progress, records their results, and closes every connection."""
        self.in_flight.close(timeout)
        self.provider_pool.close()
        if self._journal is not None:
            self._journal.close()

    def stuck_senders(self) -> Mapping[str, int]:
        """Returns how many sends have not returned for `SEND_DEADLINE`, by provider."""
        return Counter(job.provider for job in self.in_flight.stuck(SEND_DEADLINE))

    def _send(self, job: DeliveryJob) -> SendResult:
        refusal = stuck_refusal(job, self.in_flight.stuck())
        if refusal is not None:
            return SendResult(job, refusal, self._now())
        started_at = self._elapsed()
        result = send.send(job, self._now, lambda: self.leases.check(job.ids))
        if self._journal is not None and job.active_provider is not None:
            self._journal.note(sent_deliveries(result))
        self.latencies.record(job.provider, self._elapsed() - started_at)
        self._count_failure(result)
        return result

    def _timed_out(self, job: DeliveryJob) -> SendResult:
        self.latencies.record(job.provider, deadline(job))
        error = TIMED_OUT(duration=timedelta(seconds=deadline(job)))
        result = SendResult(job, AttemptFailed(FailureKind.OUTCOME_UNKNOWN, error), self._now())
        self._count_failure(result)
        return result

    def _count_failure(self, result: SendResult) -> None:
        provider = result.job.active_provider
        if provider is not None and not provider.kind.has_many_servers:
            is_failure = isinstance(result.outcome, AttemptFailed) and result.outcome.kind in RETRIED_ELSEWHERE
            self._local_failures.record(provider.name, result.at, self._elapsed(), is_failure=is_failure)

    def _wait_for_slots(self) -> None:
        """Waits briefly, so that under load one claim takes several rows."""
        target_count = max(0, len(self.in_flight.jobs()) - GATHER_JOBS)
        self.in_flight.wait_until(lambda jobs: len(jobs) <= target_count, GATHER_SECONDS)

    def _start_claimed(self, batch: Batch[int]) -> bool:
        """Claims one batch and starts sending it. Returns True if there may be more."""
        claimed = self._claim(batch.limit)
        batch.keys = range(claimed.checked_count)
        self.in_flight.start(claimed.jobs)
        if claimed.is_full:
            self._wait_for_slots()
        return claimed.is_full or claimed.checked_count > 0

    def _claim(self, most: int = claim.MAX_ROWS) -> ClaimedBatch:
        now, claimed_at = self._now(), self.leases.now()
        sends_by_provider = Counter(job.provider for job in self.in_flight.jobs())
        with database.transaction() as connection:
            self.provider_pool.refresh(connection)
            released = self._release(connection, now)
            suspects = self._local_failures.suspects()
            worked_at = health.worked_at(connection, suspects) if suspects else {}
            claimed = claim.claim(
                connection,
                self.provider_pool,
                sends_by_provider,
                self.latencies.averages(),
                node=self.node,
                slots=self._slots,
                now=now,
                pause=pause.current_pause(connection, now),
                max_sends=self._local_failures.max_sends(worked_at, self._elapsed()),
                recent=self._recent,
                most=most,
            )
        self._released = released
        self._recent.extend(lane_of(job.bundle) for job in claimed.jobs)
        self.leases.granted([row_id for job in claimed.jobs for row_id in job.ids], claimed_at)
        return claimed

    def _release(self, connection: Connection, now: datetime) -> dict[str, datetime]:
        """Releases messages that wait for recovered providers. Returns when those recovered that have none left."""
        released = health.recovered(connection)
        for name, at in list(released.items()):
            provider = self.provider_pool.get(name)
            if provider is None or self._released.get(name) == at:
                continue
            if pool.release(connection, provider, now) >= pool.MAX_RELEASED:
                del released[name]
        return released

    def _record(self, results: Sequence[SendResult]) -> None:
        with database.transaction() as connection:
            record(connection, self.provider_pool, results, self.node, self._jitter)
        self._forget(results)

    def _salvage(self, result: SendResult) -> None:
        """Records at least that a message was sent, since it would be sent again otherwise."""
        if sent := sent_deliveries(result):
            _mark_sent(sent)
            self._forget([result])

    def _forget(self, results: Sequence[SendResult]) -> None:
        if self._journal is not None:
            self._journal.forget(row_id for result in results for row_id in result.job.ids)

    def _recover_sent(self) -> None:
        """Records what ended processes on this machine had sent, before their leases are taken over. A file that cannot
        be used is logged: it must not keep the leases from being renewed.
        """
        if self._journal is None:
            return
        try:
            self._journal.recover(_mark_sent)
        except Exception as error:  # boundary of one folder of files: the leases are still renewed
            if database.is_unavailable(error):
                raise
            log.exception("What ended processes had sent cannot be recorded.")

    def _check_receipt_timeouts(self) -> None:
        now = self._now()
        with database.transaction() as connection:
            overdue = results.overdue(connection, self.provider_pool, now)
            updates = [
                health.HealthUpdate(one.provider, now, one.error)
                for one in self._unresponsive_addresses.select_counted(overdue, now)
            ]
            self.provider_pool.record_outcomes(connection, updates)

    def _requeue_sandboxed(self) -> None:
        """Sends pages of the sandbox on channels that have a provider here: by now, or on this node only."""
        now = self._now()
        if self._requeued_at is not None and now - self._requeued_at < REQUEUE_INTERVAL:
            return
        self._requeued_at = now
        with database.transaction() as connection:
            self.provider_pool.refresh(connection)
            channels = [name for name in CHANNELS if self.provider_pool.has_provider(name)]
            if send.requeue(connection, channels, now):
                database.notify(connection, "outbox")

    def _reclaim_expired_leases(self, in_progress_ids: list[UUID]) -> None:
        """Records deliveries whose lease expired as failed with an unknown outcome. They are sent again, unless someone
        has responded in the meantime or five senders have stopped during the send.
        """
        now, failure = self._now(), AttemptFailed(FailureKind.WORKER_LOST, WORKER_LOST())
        with database.transaction() as connection:
            if ids := LEASES.take_over(connection, in_progress_ids, self.node, limit=MAX_LEASES_PER_RUN):
                lost = claim.facts(connection, ids)
                failures = [DeliveryFailure(due, due.provider_name, failure, now) for due in lost]
                record_failures(connection, self.provider_pool, failures, self.node, self._jitter)


def _raise(_row: int, error: Exception) -> None:
    raise error


def _mark_sent(sent: Sequence[SentDelivery]) -> None:
    with database.transaction() as connection:
        mark_sent(connection, sent)


# ---------- clock rollback
# Corrects deliveries after a rollback of the database's clock: due times move back by the same amount, so that no
# message waits longer.
#
# A time that a person chose stays: the end of a hold or of a pause. A message that waits for quiet hours, a rate limit
# or a bundle is checked again when it is due, and waits on if necessary.


# A page delayed by quiet hours is checked again at its original time: by the corrected clock, quiet hours may not
# apply.
_DELIVERIES = """
WITH waiting AS (
  SELECT d.id, d.notification_id, CASE WHEN d.attempts = 0 THEN (n.data ->> %(held)s)::timestamptz END AS held_from
  FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
  WHERE d.status = 'queued' AND d.due_at > %(now)s AND d.reason->>'code' IS DISTINCT FROM %(on_hold)s
  ORDER BY d.id FOR NO KEY UPDATE OF d
), held AS (
  UPDATE notify_notification n SET data = n.data || jsonb_build_object(%(held)s::text, w.held_from - %(by)s)
  FROM waiting w WHERE n.id = w.notification_id AND w.held_from > %(now)s
)
UPDATE notify_delivery d SET
  late_since = CASE WHEN d.late_since > %(now)s THEN d.late_since - %(by)s ELSE d.late_since END,
  due_at = CASE
    WHEN w.held_from IS NULL THEN d.due_at - %(by)s
    WHEN w.held_from > %(now)s THEN least(d.due_at, greatest(%(now)s, w.held_from - %(by)s))
    ELSE %(now)s END
FROM waiting w WHERE d.id = w.id
"""


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Moves the due times back by `by`. Returns how many messages were moved."""
    parameters = {"by": by, "now": now, "on_hold": ON_HOLD.code, "held": DEFERRED_FROM}
    return connection.execute(_DELIVERIES, parameters).rowcount
