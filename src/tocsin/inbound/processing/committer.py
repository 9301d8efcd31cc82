"""The committer: accepts messages within limits, and answers each request after its batch has been committed.

One thread decides all messages in arrival order.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.core.runtime import metrics
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing.committer_thread import CommitterThread, IngestRequest, NotStored
from tocsin.inbound.storage.messages import MessageResult

__all__ = ["MAX_WAIT", "MAX_WAITING", "MAX_WAITING_BYTES", "Committer", "IngestRequest", "NotStored", "is_pending"]

#: Limits of the queue: messages, bytes, and seconds of waiting. Beyond them, senders are asked to retry later.
MAX_WAITING = 5_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """The queue: the number of messages, their bytes, and for how many seconds the first has been waiting."""

    messages: int
    size: int
    seconds: float


class Committer:
    """Accepts requests from the event loop and answers each after its transaction has been committed."""

    def __init__(self, registry: IntegrationRegistry, max_wait: float = MAX_WAIT) -> None:
        """`max_wait`: seconds that a message may wait in the queue, and that the database may be unavailable."""
        self._max_wait = max_wait
        self._lock = threading.Lock()
        self._thread = CommitterThread(registry, self._lock, max_wait)
        self._stopping = False
        #: Whether an event loop has scheduled a wake-up of the thread.
        self._is_waking = False

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Accepts nothing more and finishes the queue, for `timeout` seconds at most."""
        with self._lock:
            self._stopping = True
            self._thread.end()
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Returns whether the thread is running."""
        return self._thread.is_alive()

    def waiting(self) -> PendingBatch:
        """Returns the current state of the queue."""
        with self._lock:
            return self._standing(time.monotonic())

    def put(self, ticket: IngestRequest) -> bool:
        """Queues a request; False if the queue is full or too slow.

        A request with a loop must be put on that loop's thread.
        """
        with self._lock:
            now = time.monotonic()
            waiting = self._standing(now)
            is_too_many = waiting.messages + len(ticket.incoming) > MAX_WAITING
            is_too_much = waiting.size + ticket.size > MAX_WAITING_BYTES
            # An empty queue accepts any request, however large.
            is_full = (is_too_many or is_too_much) and bool(waiting.messages or waiting.size)
            if self._stopping or is_full or waiting.seconds > self._max_wait:
                metrics.count_refused(len(ticket.incoming))
                return False
            ticket.put_at = now
            self._thread.add(ticket)
            self._wake_soon(ticket.loop)
            return True

    def _wake_soon(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Wakes the thread once the event loop has read everything that has arrived. This delays nobody, and
        simultaneous requests form one batch. Woken by the first request, the thread would spend a transaction on that
        one alone."""
        if loop is None:
            self._thread.wake()
        elif not self._is_waking:
            self._is_waking = True
            loop.call_soon(self._wake)

    def _wake(self) -> None:
        with self._lock:
            self._is_waking = False
            self._thread.wake()

    def _standing(self, now: float) -> PendingBatch:
        began = self._thread.oldest()
        return PendingBatch(self._thread.count, self._thread.size, 0.0 if began is None else now - began)


def is_pending(stored: Sequence[MessageResult]) -> bool:
    """Returns whether any of a request's messages is pending."""
    return any(one.status is MessageStatus.PENDING for one in stored)
