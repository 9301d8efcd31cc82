"""The committer: accepts messages within limits, and answers each request after its batch has been committed.

One thread decides all messages in arrival order.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import PipelinedConnection
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock, telemetry
from tocsin.core.runtime.periodic_tasks import SharedCpu
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

#: Limits of the queue: messages, bytes, and seconds of waiting. Beyond them, senders are asked to retry later.
MAX_QUEUED_MESSAGES = 5_000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_WAIT_SECONDS = 5.0

#: The maximum size of a batch in messages and bytes: advisory locks use PostgreSQL's shared lock table.
MAX_BATCH_MESSAGES = 1_000
MAX_BATCH_BYTES = 8 * 1024 * 1024

#: From this many requests per batch on, both the thread that reads requests and this one are busy.
BUSY_BATCH_REQUESTS = 8

_RETRY_AFTER = 0.2

#: Seconds of conflicts after which a lock is taken for one of a whole table, such as of CREATE INDEX; and seconds for
#: which later batches then do not wait for it.
_POSTPONE_AFTER, _LOCKED_FOR = 2.0, 5.0

#: All lookups are by key. A cached plan from when a table was empty would scan it completely, and so would hash and
#: merge joins: nested loops over an index are right at any size. The statements never change: planning them each time
#: took longer than running them.
_SETTINGS = {
    "lock_timeout": messages.LOCK_TIMEOUT,
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}


class NotStored(Exception):
    """The messages may not be stored: the sender must retry."""


@dataclass(slots=True)
class IngestRequest:
    """One request's messages, and its callback: `on_result` is called once, on the thread of `loop` if given."""

    incoming: Sequence[IncomingMessage]
    size_bytes: int
    on_result: Callable[[list[MessageResult] | Exception], None]
    loop: asyncio.AbstractEventLoop | None = None
    queued_at: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The queue: the number of messages, their bytes, and for how many seconds the first has been waiting."""

    message_count: int
    size_bytes: int
    oldest_age_seconds: float


type _Answer = tuple[IngestRequest, list[MessageResult] | Exception]


class Committer:
    """Accepts requests from the event loop and answers each after its transaction has been committed.

    Its thread takes the queued requests and decides them in one transaction on its own connection. There is no
    deliberate delay: the next batch accumulates while one commits.
    """

    def __init__(self, registry: IntegrationRegistry, max_wait: float = MAX_WAIT_SECONDS) -> None:
        """`max_wait`: seconds that a message may wait in the queue, and that the database may be unavailable."""
        self._registry = registry
        self._max_wait = max_wait
        self._alert_ids = AlertIdAllocator()
        #: Guards the queue, its sizes and the flags below.
        self._ready = threading.Condition(threading.Lock())
        self._queue: deque[IngestRequest] = deque()
        self._message_count = 0
        self._size_bytes = 0
        self._is_stopping = False
        #: Whether an event loop has scheduled a wake-up of the thread.
        self._is_waking = False
        self._connection: PipelinedConnection | None = None
        #: When a table was last found to be locked, by the monotonic clock.
        self._locked_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Accepts nothing more and finishes the queue, for `timeout` seconds at most."""
        with self._ready:
            self._is_stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def queue_status(self) -> QueueStatus:
        with self._ready:
            return QueueStatus(self._message_count, self._size_bytes, self._oldest_age(time.monotonic()))

    def put(self, request: IngestRequest) -> bool:
        """Queues a request; False if the queue is full or too slow.

        A request with a loop must be put on that loop's thread.
        """
        with self._ready:
            now = time.monotonic()
            has_too_many_messages = self._message_count + len(request.incoming) > MAX_QUEUED_MESSAGES
            has_too_many_bytes = self._size_bytes + request.size_bytes > MAX_QUEUED_BYTES
            # An empty queue accepts any request, however large.
            is_full = (has_too_many_messages or has_too_many_bytes) and bool(self._message_count or self._size_bytes)
            if self._is_stopping or is_full or self._oldest_age(now) > self._max_wait:
                telemetry.count_rejected(len(request.incoming))
                return False
            request.queued_at = now
            self._queue.append(request)
            self._message_count += len(request.incoming)
            self._size_bytes += request.size_bytes
            if request.loop is None:
                self._ready.notify()
            elif not self._is_waking:
                # The thread is woken once the event loop has read everything that has arrived. This delays nobody, and
                # simultaneous requests form one batch. Woken by the first request, the thread would spend a
                # transaction on that one alone.
                self._is_waking = True
                request.loop.call_soon(self._wake)
            return True

    def _wake(self) -> None:
        with self._ready:
            self._is_waking = False
            if self._queue:
                self._ready.notify()

    def _oldest_age(self, now: float) -> float:
        return now - self._queue[0].queued_at if self._queue else 0.0

    def _run(self) -> None:
        shared_cpu = SharedCpu(threading.main_thread().native_id or 0)
        while (requests := self._next_batch()) is not None:
            if len(requests) >= BUSY_BATCH_REQUESTS:
                shared_cpu.share()
            elif not requests:
                shared_cpu.release()
            try:
                if requests:
                    self._process(requests)
            except Exception as error:
                # Boundary of the thread: after any error, all waiting senders are answered, and the next batch is
                # processed.
                log.exception("A batch of inbound messages failed.")
                _deliver_results([(request, NotStored(str(error))) for request in requests])
        shared_cpu.release()
        self._disconnect()

    def _next_batch(self) -> list[IngestRequest] | None:
        """Returns the queued requests up to a batch's size; None at the end."""
        with self._ready:
            while not self._queue and not self._is_stopping:
                self._ready.wait(1.0)
            if not self._queue:
                return None if self._is_stopping else []
            requests = [self._queue.popleft()]
            count, size = len(requests[0].incoming), requests[0].size_bytes
            while self._queue:
                request = self._queue[0]
                if count + len(request.incoming) > MAX_BATCH_MESSAGES or size + request.size_bytes > MAX_BATCH_BYTES:
                    break
                requests.append(self._queue.popleft())
                count, size = count + len(request.incoming), size + request.size_bytes
            self._message_count -= count
            self._size_bytes -= size
            return requests

    def _process(self, requests: list[IngestRequest]) -> None:
        incoming = [item for request in requests for item in request.incoming]
        started_at = time.monotonic()
        results = self._decide(incoming)
        telemetry.count_rejected(sum(isinstance(item, NotStored) for item in results))
        statuses = (item.status for item in results if isinstance(item, MessageResult))
        telemetry.count_batch(statuses, time.monotonic() - started_at)
        start = 0
        answers: list[_Answer] = []
        for request in requests:
            end = start + len(request.incoming)
            request_results = results[start:end]
            error = next((item for item in request_results if isinstance(item, Exception)), None)
            answers.append((request, error or [item for item in request_results if isinstance(item, MessageResult)]))
            start = end
        _deliver_results(answers)

    def _decide(self, incoming: list[IncomingMessage]) -> list[MessageResult | Exception]:
        """Returns each message's result: UnknownIntegration if its integration was deleted, NotStored if the database
        does not answer in time."""
        integrations = self._registry.get_all()
        known_messages = [message for message in incoming if message.integration_id in integrations]
        results = self._decide_known(known_messages) if known_messages else []
        results_by_id = dict(zip((message.id for message in known_messages), results, strict=True))
        return [results_by_id.get(message.id) or UnknownIntegration(message.integration_id) for message in incoming]

    def _decide_known(
        self, incoming: list[IncomingMessage], *, is_retry: bool = False
    ) -> Sequence[MessageResult | Exception]:
        try:
            return self._process_with_retries(incoming)
        except UnknownIntegration:
            # The batch loaded a newer configuration that lacks an integration.
            return self._decide(incoming)
        except NotStored as error:
            return [error] * len(incoming)
        except Exception as error:
            # Boundary of one message: a poison message must not affect the others.
            log.exception("A batch of %s messages cannot be decided.", len(incoming))
            self._alert_ids.discard()
            if isinstance(error, psycopg.Error):
                self._disconnect()
            if len(incoming) > 1:
                # Bisect until the poison message is alone.
                half = len(incoming) // 2
                return self._decide(incoming[:half]) + self._decide(incoming[half:])
            if is_retry:
                return self._store_undecidable(incoming[0], error)
            # The error may come from the connection's state rather than the message: retry on a new connection.
            self._disconnect()
            return self._decide_known(incoming, is_retry=True)

    def _store_undecidable(self, poison: IncomingMessage, error: Exception) -> list[MessageResult | Exception]:
        """Stores an undecidable message as Mapping Failed."""
        if isinstance(poison.element, Rejected) and poison.element.code == messages.UNDECIDABLE:
            return [NotStored(f"message {poison.id} can be neither decided nor kept: {error}")]
        ids = {"message_id": poison.id}
        log.error("Message %s cannot be decided and is kept as Mapping Failed.", poison.id, exc_info=error, extra=ids)
        return self._decide([messages.mark_undecidable(poison, error)])

    def _process_with_retries(self, incoming: list[IncomingMessage]) -> list[MessageResult]:
        """Runs one transaction, retried after connection errors and conflicts, for `max_wait` seconds at most."""
        started_at = time.monotonic()
        give_up_at = started_at + self._max_wait
        wait, is_outcome_unknown, has_conflicted, is_table_locked = True, False, False, False
        while True:
            try:
                connection = self._connect()
                if is_outcome_unknown:
                    # A previous attempt may have been committed: then its results are in the database.
                    stored_results = messages.find_stored(connection, [message.id for message in incoming])
                    # A batch is stored completely or not at all.
                    if all(message.id in stored_results for message in incoming):
                        connection.confirm_commits(is_known=False)
                        return [stored_results[message.id] for message in incoming]
                if is_table_locked:
                    results = batch.postpone(connection, self._registry, incoming)
                else:
                    results = batch.process(
                        connection, self._registry, self._alert_ids, incoming, clock.now(), wait=wait
                    )
                if connection.has_unconfirmed_commit:
                    raise psycopg.OperationalError("the wait for synchronous replication was cancelled")
                return results
            except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure) as error:
                # Another transaction interfered: retry, without waiting for locks. A table's lock is always waited for.
                now = time.monotonic()
                is_known = now < self._locked_at + _LOCKED_FOR
                if isinstance(error, errors.LockNotAvailable) and (is_known or now > started_at + _POSTPONE_AFTER):
                    is_table_locked, self._locked_at = True, now
                if now > give_up_at:
                    raise NotStored(f"somebody else is always in between: {error}") from error
                wait = False
            except (errors.UniqueViolation, errors.ForeignKeyViolation):
                if has_conflicted:
                    raise
                # Another node decided the same delivery first, the database completed a commit of a lost connection, or
                # a user to be notified was deleted just now.
                wait, is_outcome_unknown, has_conflicted = False, True, True
            except errors.ProgramLimitExceeded:
                # This very batch exceeds a limit: retrying cannot help.
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction) as error:
                if isinstance(error, errors.OutOfMemory | errors.IdleInTransactionSessionTimeout) and len(incoming) > 1:
                    # The lock table is full, or the processor too busy: half as many messages need half as much.
                    raise
                self._disconnect()
                # It is unknown whether this attempt's ids were used.
                self._alert_ids.discard()
                is_outcome_unknown = True
                if time.monotonic() > give_up_at or self._is_stopping:
                    raise NotStored(f"the database cannot be used: {error}") from error
                time.sleep(_RETRY_AFTER)

    def _connect(self) -> PipelinedConnection:
        if self._connection is not None and self._connection.is_outdated:
            self._disconnect()
        if self._connection is None or self._connection.closed:
            connection = database.connect(name="tocsin committer", autocommit=True)
            connection.set_settings(**_SETTINGS)
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _deliver_results(answers: Sequence[_Answer]) -> None:
    """Answers each request. An event loop is woken once for all of its requests: with one wake-up each, its thread and
    this one would compete for the interpreter."""
    answers_by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Answer]] = defaultdict(list)
    for request, result in answers:
        if request.loop is None:
            request.on_result(result)
        else:
            answers_by_loop[request.loop].append((request, result))
    for loop, loop_answers in answers_by_loop.items():
        loop.call_soon_threadsafe(_deliver_each, loop_answers)


def _deliver_each(answers: Sequence[_Answer]) -> None:
    for request, result in answers:
        try:
            request.on_result(result)
        except Exception:  # boundary of one request: the others are still answered
            log.exception("A sender cannot be answered.")


def is_pending(results: Sequence[MessageResult]) -> bool:
    """Returns whether any of a request's messages is pending."""
    return any(result.status is MessageStatus.PENDING for result in results)
