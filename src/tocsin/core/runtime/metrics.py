"""This process's counters for `/metrics`. All rooms increment them; `operate` adds metrics from the database."""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

#: A separate registry, because libraries may count into prometheus_client's global one.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_MESSAGES = Counter(
    "tocsin_messages", "Inbound messages that this node stored, by outcome.", ["status"], registry=REGISTRY
)
_REJECTED = Counter(
    "tocsin_messages_refused", "Inbound messages that this node could not store, answered with 503.", registry=REGISTRY
)
_BATCH_MESSAGES = Histogram(
    "tocsin_batch_messages",
    "Messages that this node stored in one transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    registry=REGISTRY,
)
_BATCH_SECONDS = Histogram(
    "tocsin_batch_seconds",
    "Duration of such a transaction, with retries.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    registry=REGISTRY,
)
_DELIVERIES = Counter(
    "tocsin_deliveries",
    "Attempts of this node to send a message, by channel and result: `sent`, `failed`.",
    ["channel", "status"],
    registry=REGISTRY,
)
_ERRORS = Counter("tocsin_errors", "Errors that this node wrote to its log.", registry=REGISTRY)


_committed_at = float("-inf")
_rejected_at = float("-inf")


def seconds_since_commit() -> float:
    """Returns the seconds since this node's committer last stored a message; infinite if it never has."""
    return time.monotonic() - _committed_at


def seconds_rejecting() -> float | None:
    """Returns the seconds since this node last rejected a message; None if it never has, or has stored one since."""
    return time.monotonic() - _rejected_at if _rejected_at > _committed_at else None


def count_batch(statuses: Iterable[str], seconds: float) -> None:
    """Counts the messages of one committed transaction by outcome, and observes its duration in seconds."""
    global _committed_at
    counts = Count(statuses)
    if counts:
        _committed_at = time.monotonic()
    for status, number in counts.items():
        _MESSAGES.labels(status).inc(number)
    _BATCH_MESSAGES.observe(counts.total())
    _BATCH_SECONDS.observe(seconds)


def count_rejected(count: int) -> None:
    """Counts messages answered with 503, which their senders must retry."""
    global _rejected_at
    if count:
        _rejected_at = time.monotonic()
    _REJECTED.inc(count)


def count_delivery(channel: str, status: str, count: int = 1) -> None:
    """Counts delivery attempts: `sent`, `failed`, which may be retried, or `sandboxed`, without a provider."""
    _DELIVERIES.labels(channel, status).inc(count)


def count_error() -> None:
    """Counts a record of level error or higher in this process's log."""
    _ERRORS.inc()
