"""Logging to stderr, as text or as JSON. Secrets in URLs and headers are masked in both."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO
from uuid import UUID

import msgspec

from tocsin.core.config.environment import LogFormat
from tocsin.core.runtime import metrics, tracing

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
        found["trace_id"] = f"{tracing.trace_of_alert(alert_id).trace_id:032x}"
    elif isinstance(message_id := found.get("message_id"), UUID):
        found["trace_id"] = f"{tracing.trace_of_message(message_id).trace_id:032x}"
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
            metrics.count_error()
        super().emit(record)


def formatter_for(log_format: LogFormat) -> logging.Formatter:
    """Returns the formatter of that format."""
    if log_format is LogFormat.JSON:
        return _JsonFormatter()
    return _TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def set_up(log_format: LogFormat) -> None:
    """Sends every log record of the process to stderr."""
    handler = CountingHandler()
    handler.setFormatter(formatter_for(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # While the database is unavailable, the pool warns for each connection and attempt. Callers report it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
