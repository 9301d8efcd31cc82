"""Logging to stderr, as text or as JSON. Secrets in URLs and headers are masked in both."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

from tocsin.core.config.environment import LogFormat

#: Secrets that must never appear in a log: tokens in webhook URLs and sign-in links, bearer tokens, and passwords in
#: URLs.
_SECRETS = re.compile(
    r"(?P<before>/in/|/a/|/swap/|/calendar/|/status/|/setup/|/welcome/|/reset/key/|Bearer |GenieKey |://[^\s:/@]+:)"
    r"(?P<secret>[^\s/?#@\"']{6,}(?:/test/[^\s/?#@\"']+)?)",
    re.IGNORECASE,
)


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
        if record.exc_info:
            entry["error"] = mask_tokens(self.formatException(record.exc_info))
        return msgspec.json.encode(entry).decode()


def set_up(log_format: LogFormat) -> None:
    """Sends every log record of the process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format is LogFormat.JSON:
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # While the database is unavailable, the pool warns for each connection and attempt. Callers report it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
