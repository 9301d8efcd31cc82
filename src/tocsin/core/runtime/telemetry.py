"""What this process reports about itself: counters for `/metrics`, traces, and the log. All rooms use them."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import time
from collections import Counter as Count
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Protocol, TextIO
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from tocsin.core.config import crypto
from tocsin.core.config.environment import LogFormat

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


# ---------- tracing
# Traces: one trace for each alert, from the message that opened it to the deliveries about it.
#
# The ids of a trace follow from the alert's id, so that each process finds its part without asking another one. Off
# unless OTEL_EXPORTER_OTLP_ENDPOINT is set: then `exporter` is None, which is all that callers check.


log = logging.getLogger(__name__)

#: OpenTelemetry's own variables. The first one that is set names the receiver.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_MISSING = (
    "%s is set, and the packages for it are missing: install tocsin[otel]. Tocsin works without traces until then."
)


class SpanKind(StrEnum):
    """As OpenTelemetry names them."""

    CONSUMER = "CONSUMER"
    INTERNAL = "INTERNAL"
    CLIENT = "CLIENT"


@dataclass(frozen=True, slots=True)
class TraceIds:
    """The ids of a trace and of its first span."""

    trace_id: int
    root_id: int


@dataclass(frozen=True, slots=True)
class Span:
    """One finished step. `is_root`: it is the first of its trace, and the parent of all others."""

    name: str
    kind: SpanKind
    trace: TraceIds
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    is_root: bool = False
    #: The code of what went wrong; empty: nothing did.
    error: str = ""


class SpanExporter(Protocol):
    """Sends spans in the background. Neither method raises or waits for the receiver for long."""

    def export(self, span: Span) -> None: ...

    def close(self) -> None: ...


#: The exporter of this process; None while traces are off.
exporter: SpanExporter | None = None


def set_up_traces(node: str) -> None:
    """Starts the export of this process's spans, if the environment names a receiver. Call it after the last fork."""
    global exporter
    variable = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if variable is None or exporter is not None:
        return
    try:
        exporter = import_module("tocsin.core.runtime.otlp").make_exporter(node)
    except ImportError:
        log.warning(_MISSING, variable)
    except Exception:  # a wrong variable of OpenTelemetry's must not stop the pager
        log.exception("Traces cannot be exported.")


def shut_down_traces() -> None:
    """Sends what is left, within seconds, and ends the export."""
    global exporter
    closing, exporter = exporter, None
    if closing is not None:
        closing.close()


def trace_of_alert(alert_id: int) -> TraceIds:
    """Returns the trace of an alert, the same in each process with the same secret key."""
    digest = hashlib.sha256(f"trace {_installation()} {alert_id}".encode()).digest()
    return TraceIds(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1)


def trace_of_message(message_id: UUID) -> TraceIds:
    """Returns the trace of a message that belongs to no alert."""
    return TraceIds(message_id.int or 1, message_id.int & (2**64 - 1) or 1)


@cache
def _installation() -> str:
    """Distinguishes the alerts of two installations with the same receiver."""
    return crypto.fingerprints()[0]


# ---------- logs
# Logging to stderr, as text or as JSON. Secrets in URLs and headers are masked in both.


#: Addresses of which the rest is a secret. The examples of a reverse proxy keep them out of its log too.
SECRET_PATHS = (
    "/in/", "/a/", "/swap/", "/calendar/", "/status/", "/setup/", "/welcome/", "/account/password/reset/key/",
)  # fmt: skip

#: Secrets that must never appear in a log: tokens in webhook URLs and sign-in links, bearer tokens, and passwords in
#: URLs.
_SECRETS = re.compile(
    rf"(?P<before>{'|'.join(SECRET_PATHS)}|Bearer |GenieKey |://[^\s:/@]+:)"
    r"(?P<secret>[^\s/?#@\"']{6,}(?:/test/[^\s/?#@\"']+)?)",
    re.IGNORECASE,
)

#: The keys of a record's `extra` that a JSON log has as fields.
ID_FIELDS = ("alert_id", "message_id", "delivery_id")


def mask_tokens(text: str) -> str:
    """Returns `text` with the secrets in URLs and headers masked."""
    return _SECRETS.sub(lambda match: f"{match['before']}***", text)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask_tokens(super().format(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask_tokens(record.getMessage()),
        }
        entry |= _ids(record)
        if record.exc_info:
            entry["error"] = mask_tokens(self.formatException(record.exc_info))
        return msgspec.json.encode(entry).decode()


def _ids(record: logging.LogRecord) -> dict[str, object]:
    """The ids in the record's `extra`, and that of the alert's trace."""
    found = {name: value for name in ID_FIELDS if (value := getattr(record, name, None)) is not None}
    if isinstance(alert_id := found.get("alert_id"), int):
        found["trace_id"] = f"{trace_of_alert(alert_id).trace_id:032x}"
    elif isinstance(message_id := found.get("message_id"), UUID):
        found["trace_id"] = f"{trace_of_message(message_id).trace_id:032x}"
    return {name: str(value) if isinstance(value, UUID) else value for name, value in found.items()}


class CountingHandler(logging.StreamHandler[TextIO]):
    """Writes records, and counts errors for `/metrics`.

    Without a stream it writes to the stderr of the moment: whoever has replaced it for a while may have closed theirs.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._is_stderr = stream is None

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_stderr:
            self.stream = sys.stderr
        # A receiver of traces that does not answer is not Tocsin's error.
        if record.levelno >= logging.ERROR and not record.name.startswith("opentelemetry"):
            count_error()
        super().emit(record)


def formatter_for(log_format: LogFormat) -> logging.Formatter:
    if log_format is LogFormat.JSON:
        return _JsonFormatter()
    return _TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def set_up_logs(log_format: LogFormat) -> None:
    """Sends every log record of the process to stderr."""
    handler = CountingHandler()
    handler.setFormatter(formatter_for(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # While the database is unavailable, the pool warns for each connection and attempt. Callers report it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
