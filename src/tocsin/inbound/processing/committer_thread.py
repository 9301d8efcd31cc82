"""The committer's thread: takes the queued requests, decides them in one transaction on its own connection, and
answers them.

There is no deliberate delay: the next batch accumulates while one commits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.pipelined_connection import PipelinedConnection
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock, metrics
from tocsin.core.runtime.cpu_affinity import SharedCpu
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.processing import batch
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

#: The maximum size of a batch in messages and bytes: advisory locks use PostgreSQL's shared lock table.
MAX_BATCH = 1_000
MAX_BATCH_BYTES = 8 * 1024 * 1024

#: From this many requests per batch on, both the thread that reads requests and this one are busy.
MANY = 8

_RETRY_AFTER = 0.2


class NotStored(Exception):
    """The messages may not be stored: the sender must retry."""


@dataclass(slots=True)
class IngestRequest:
    """One request's messages, and its callback: `answer` is called once, on the thread of `loop` if given."""

    incoming: Sequence[IncomingMessage]
    size: int
    answer: Callable[[list[MessageResult] | Exception], None]
    loop: asyncio.AbstractEventLoop | None = None
    put_at: float = 0.0


class CommitterThread:
    """Decides and answers queued requests in order."""

    def __init__(self, registry: IntegrationRegistry, lock: threading.Lock, max_wait: float) -> None:
        """`lock` guards the queue; `max_wait`: seconds that the database may be unavailable."""
        self._registry = registry
        self._max_wait = max_wait
        self._numbers = batch.AlertIdAllocator()
        self._waiting: deque[IngestRequest] = deque()
        self._ready = threading.Condition(lock)
        self._stopping = False
        self._connection: PipelinedConnection | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        #: The number of queued messages, and their bytes. Accessed under the lock, like the queue.
        self.count = 0
        self.size = 0

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self) -> None:
        """Makes the thread end once the queue is empty. Call it under the lock."""
        self._stopping = True
        self._ready.notify()

    def join(self, timeout: float) -> None:
        """Waits for the thread's end, for `timeout` seconds at most."""
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Returns whether the thread is running."""
        return self._thread.is_alive()

    def add(self, ticket: IngestRequest) -> None:
        """Appends a request to the queue. Call it under the lock, and `wake` afterwards."""
        self._waiting.append(ticket)
        self.count += len(ticket.incoming)
        self.size += ticket.size

    def wake(self) -> None:
        """Wakes the thread if the queue is not empty. Call it under the lock."""
        if self._waiting:
            self._ready.notify()

    def oldest(self) -> float | None:
        """Returns when the first queued request was put, by the monotonic clock. Call it under the lock."""
        return self._waiting[0].put_at if self._waiting else None

    def _run(self) -> None:
        together = SharedCpu(threading.main_thread().native_id or 0)
        while (tickets := self._take()) is not None:
            if len(tickets) >= MANY:
                together.share()
            elif not tickets:
                together.part()
            try:
                self._process(tickets)
            except Exception as error:
                # Boundary of the thread: after any error, all waiting senders are answered, and the next batch is
                # processed.
                log.exception("A batch of inbound messages failed.")
                _tell([(ticket, NotStored(str(error))) for ticket in tickets])
        together.part()
        self._disconnect()

    def _take(self) -> list[IngestRequest] | None:
        """Returns the queued requests up to a batch's size; None at the end."""
        with self._ready:
            while not self._waiting and not self._stopping:
                self._ready.wait(1.0)
            if not self._waiting:
                return None if self._stopping else []
            taken = [self._waiting.popleft()]
            count, size = len(taken[0].incoming), taken[0].size
            while self._waiting:
                ticket = self._waiting[0]
                if count + len(ticket.incoming) > MAX_BATCH or size + ticket.size > MAX_BATCH_BYTES:
                    break
                taken.append(self._waiting.popleft())
                count, size = count + len(ticket.incoming), size + ticket.size
            self.count -= count
            self.size -= size
            return taken

    def _process(self, tickets: list[IngestRequest]) -> None:
        if not tickets:
            return
        incoming = [one for ticket in tickets for one in ticket.incoming]
        began = time.monotonic()
        results = self._decide(incoming)
        metrics.count_refused(sum(isinstance(one, NotStored) for one in results))
        statuses = (one.status for one in results if isinstance(one, MessageResult))
        metrics.count_batch(statuses, time.monotonic() - began)
        start = 0
        answers: list[tuple[IngestRequest, list[MessageResult] | Exception]] = []
        for ticket in tickets:
            end = start + len(ticket.incoming)
            found = results[start:end]
            refused = next((one for one in found if isinstance(one, Exception)), None)
            answers.append((ticket, refused or [one for one in found if isinstance(one, MessageResult)]))
            start = end
        _tell(answers)

    def _decide(self, incoming: list[IncomingMessage]) -> list[MessageResult | Exception]:
        """Returns each message's result: UnknownIntegration if its integration was deleted, NotStored if the database
        does not answer in time."""
        known = self._registry.doors()
        rest = [one for one in incoming if one.integration_id in known]
        decided = dict(zip((one.id for one in rest), self._decide_known(rest), strict=True)) if rest else {}
        return [decided[one.id] if one.id in decided else UnknownIntegration(one.integration_id) for one in incoming]

    def _decide_known(
        self, incoming: list[IncomingMessage], *, again: bool = False
    ) -> Sequence[MessageResult | Exception]:
        try:
            return self._try(incoming)
        except UnknownIntegration:
            # The batch loaded a newer configuration that lacks an integration.
            return self._decide(incoming)
        except NotStored as error:
            return [error] * len(incoming)
        except Exception as error:
            # Boundary of one message: a poison message must not affect the others.
            log.exception("A batch of %s messages cannot be decided.", len(incoming))
            self._numbers.discard()
            if isinstance(error, psycopg.Error):
                self._disconnect()
            if len(incoming) > 1:
                # Bisect until the poison message is alone.
                half = len(incoming) // 2
                return self._decide(incoming[:half]) + self._decide(incoming[half:])
            if again:
                return self._keep(incoming[0], error)
            # The error may come from the connection's state rather than the message: retry on a new connection.
            self._disconnect()
            return self._decide_known(incoming, again=True)

    def _keep(self, poison: IncomingMessage, error: Exception) -> list[MessageResult | Exception]:
        """Stores an undecidable message as Mapping Failed."""
        if isinstance(poison.element, Rejected) and poison.element.code == messages.UNDECIDABLE:
            return [NotStored(f"message {poison.id} can be neither decided nor kept: {error}")]
        log.error("Message %s cannot be decided and is kept as Mapping Failed.", poison.id, exc_info=error)
        return self._decide([messages.undecidable(poison, error)])

    def _try(self, incoming: list[IncomingMessage]) -> list[MessageResult]:
        """Runs one transaction, retried after connection errors and conflicts, for `max_wait` seconds at most."""
        give_up_at = time.monotonic() + self._max_wait
        wait, is_doubtful, has_clashed = True, False, False
        while True:
            try:
                connection = self._connect()
                if is_doubtful:
                    # A previous attempt may have been committed: then its results are in the database.
                    known = messages.find_stored(connection, [one.id for one in incoming])
                    if (found := batch.answer_from(known, incoming)) is not None:
                        return found
                return batch.process(connection, self._registry, self._numbers, incoming, clock.now(), wait=wait)
            except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure) as error:
                # Another transaction interfered: retry, without waiting for locks.
                if time.monotonic() > give_up_at:
                    raise NotStored(f"somebody else is always in between: {error}") from error
                wait = False
            except (errors.UniqueViolation, errors.ForeignKeyViolation):
                if has_clashed:
                    raise
                # Another node decided the same delivery first, the database completed a commit of a lost connection, or
                # a user to be notified was deleted just now.
                wait, is_doubtful, has_clashed = False, True, True
            except errors.ProgramLimitExceeded:
                # This very batch exceeds a limit: retrying cannot help.
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction) as error:
                if isinstance(error, errors.OutOfMemory) and len(incoming) > 1:
                    # The lock table is full: a batch of half as many messages needs half as many locks.
                    raise
                self._disconnect()
                # It is unknown whether this attempt's ids were used.
                self._numbers.discard()
                is_doubtful = True
                if time.monotonic() > give_up_at or self._stopping:
                    raise NotStored(f"the database cannot be used: {error}") from error
                time.sleep(_RETRY_AFTER)

    def _connect(self) -> Connection:
        if self._connection is not None and self._connection.is_outdated:
            self._disconnect()
        if self._connection is None or self._connection.closed:
            connection = database.connect(name="tocsin committer", autocommit=True)
            connection.execute(f"SET lock_timeout = '{messages.LOCK_TIMEOUT}'".encode())
            # All lookups are by key. A cached plan from when a table was empty would scan it completely, and so would
            # hash and merge joins: nested loops over an index are right at any size.
            for way in ("seqscan", "hashjoin", "mergejoin"):
                connection.execute(f"SET enable_{way} = off".encode())
            # The statements never change: planning them each time took longer than running them.
            connection.execute("SET plan_cache_mode = force_generic_plan")
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _tell(answers: Sequence[tuple[IngestRequest, list[MessageResult] | Exception]]) -> None:
    """Answers each request. An event loop is woken once for all of its requests: with one wake-up each, its thread and
    this one would compete for the interpreter."""
    waiting: dict[asyncio.AbstractEventLoop, list[tuple[IngestRequest, list[MessageResult] | Exception]]] = {}
    for ticket, result in answers:
        if ticket.loop is None:
            ticket.answer(result)
        else:
            waiting.setdefault(ticket.loop, []).append((ticket, result))
    for loop, mine in waiting.items():
        loop.call_soon_threadsafe(_answer_each, mine)


def _answer_each(answers: Sequence[tuple[IngestRequest, list[MessageResult] | Exception]]) -> None:
    for ticket, result in answers:
        try:
            ticket.answer(result)
        except Exception:  # boundary of one request: the others are still answered
            log.exception("A sender cannot be answered.")
