"""Logging to stderr, as lines for people or as JSON for machines. Tokens in addresses are masked in both."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

from tocsin.core.config.environment import LogFormat

#: What must never stand in a log: the secrets of inbound addresses and of links that let people in, bearer tokens,
#: passwords in addresses.
_SECRETS = re.compile(
    r"(?P<before>/in/|/a/|/calendar/|/setup/|/welcome/|/reset/key/|Bearer |GenieKey |://[^\s:/@]+:)"
    r"(?P<secret>[^\s/?#@\"']{6,}(?:/test/[^\s/?#@\"']+)?)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """`text` without the secrets that addresses and headers carry."""
    return _SECRETS.sub(lambda found: f"{found['before']}***", text)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            entry["error"] = masked(self.formatException(record.exc_info))
        return msgspec.json.encode(entry).decode()


def set_up(how: LogFormat) -> None:
    """Sends every log record of the process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if how is LogFormat.JSON:
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # While the database is away the pool warns for each connection and try; whoever wanted one says so once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
