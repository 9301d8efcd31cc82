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

__all__ = [
    "MAX_QUEUED_BYTES",
    "MAX_QUEUED_MESSAGES",
    "MAX_WAIT_SECONDS",
    "Committer",
    "IngestRequest",
    "NotStored",
    "is_pending",
]

#: Limits of the queue: messages, bytes, and seconds of waiting. Beyond them, senders are asked to retry later.
MAX_QUEUED_MESSAGES = 5_000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The queue: the number of messages, their bytes, and for how many seconds the first has been waiting."""

    message_count: int
    size_bytes: int
    oldest_age_seconds: float


class Committer:
    """Accepts requests from the event loop and answers each after its transaction has been committed."""

    def __init__(self, registry: IntegrationRegistry, max_wait: float = MAX_WAIT_SECONDS) -> None:
        """`max_wait`: seconds that a message may wait in the queue, and that the database may be unavailable."""
        self._max_wait = max_wait
        self._lock = threading.Lock()
        self._thread = CommitterThread(registry, self._lock, max_wait)
        self._is_stopping = False
        #: Whether an event loop has scheduled a wake-up of the thread.
        self._is_waking = False

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Accepts nothing more and finishes the queue, for `timeout` seconds at most."""
        with self._lock:
            self._is_stopping = True
            self._thread.request_stop()
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Returns whether the thread is running."""
        return self._thread.is_alive()

    def queue_status(self) -> QueueStatus:
        """Returns the current state of the queue."""
        with self._lock:
            return self._queue_status_at(time.monotonic())

    def put(self, request: IngestRequest) -> bool:
        """Queues a request; False if the queue is full or too slow.

        A request with a loop must be put on that loop's thread.
        """
        with self._lock:
            now = time.monotonic()
            queue = self._queue_status_at(now)
            has_too_many_messages = queue.message_count + len(request.incoming) > MAX_QUEUED_MESSAGES
            has_too_many_bytes = queue.size_bytes + request.size_bytes > MAX_QUEUED_BYTES
            # An empty queue accepts any request, however large.
            is_full = (has_too_many_messages or has_too_many_bytes) and bool(queue.message_count or queue.size_bytes)
            if self._is_stopping or is_full or queue.oldest_age_seconds > self._max_wait:
                metrics.count_rejected(len(request.incoming))
                return False
            request.queued_at = now
            self._thread.add(request)
            self._wake_soon(request.loop)
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

    def _queue_status_at(self, now: float) -> QueueStatus:
        oldest_queued_at = self._thread.oldest_queued_at()
        return QueueStatus(
            self._thread.message_count,
            self._thread.size_bytes,
            0.0 if oldest_queued_at is None else now - oldest_queued_at,
        )


def is_pending(results: Sequence[MessageResult]) -> bool:
    """Returns whether any of a request's messages is pending."""
    return any(result.status is MessageStatus.PENDING for result in results)
