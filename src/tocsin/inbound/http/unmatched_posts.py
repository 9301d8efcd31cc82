"""Counts POST requests that no integration receives: a mistyped path, a deleted integration, a product whose API Tocsin
does not have. A sender that gets 404 rarely tells anybody, so doctor and Home do.

Counted in memory, for at most `MAX_SENDERS` paths and addresses, and written by a periodic task.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.net.asgi import AsgiScope, client_address

#: Paths and addresses counted between two writes, and rows kept. What is more is not counted: it is somebody's scan.
MAX_SENDERS: Final = 200
#: How long a row is kept after the last request.
KEPT_FOR: Final = timedelta(days=7)
#: An address that tried more paths than this within a day is a scanner, not a sender.
MAX_PATHS_PER_ADDRESS: Final = 5

_MAX_PATH_CHARS: Final = 100
#: What may be a token: it may be one of another installation.
_SECRET: Final = re.compile(r"[\w-]{16,}")


class UnmatchedPosts:
    """The counts of one node since they were last written, by path (without secrets) and address."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def count(self, scope: AsgiScope) -> None:
        """Counts a request that nothing received."""
        path = _SECRET.sub(lambda match: f"{match.group()[:4]}…", scope["path"])[:_MAX_PATH_CHARS].replace("\0", "")
        self.add({(path, client_address(scope) or ""): 1})

    def add(self, counts: dict[tuple[str, str], int]) -> None:
        """Adds counts, such as those that could not be written."""
        with self._lock:
            for key, number in counts.items():
                if key in self._counts or len(self._counts) < MAX_SENDERS:
                    self._counts[key] += number

    def take(self) -> dict[tuple[str, str], int]:
        """Returns and resets the counts."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)

    def write(self, now: datetime) -> bool:
        """Adds the counts to the table; if that fails, keeps them."""
        counts = self.take()
        if not counts:
            return False
        try:
            with database.transaction() as connection:
                _store(connection, counts, now)
        except errors.Error:
            self.add(counts)
            raise
        return False


_STORE = """
INSERT INTO inbound_unmatchedpost AS p (path, address, requests, last_at)
SELECT n.path, n.address, n.requests, %(now)s
FROM unnest(%(paths)s::text[], %(addresses)s::text[], %(requests)s::int[]) AS n(path, address, requests)
ORDER BY n.path, n.address
ON CONFLICT (path, address) DO UPDATE SET requests = p.requests + EXCLUDED.requests, last_at = EXCLUDED.last_at
"""
_PRUNE = """
DELETE FROM inbound_unmatchedpost WHERE last_at < %(before)s OR id NOT IN (
  SELECT id FROM inbound_unmatchedpost ORDER BY last_at DESC, id DESC LIMIT %(limit)s)
"""


def _store(connection: Connection, counts: dict[tuple[str, str], int], now: datetime) -> None:
    connection.execute(
        _STORE,
        {
            "now": now,
            "paths": [path for path, _address in counts],
            "addresses": [address for _path, address in counts],
            "requests": list(counts.values()),
        },
    )
    connection.execute(_PRUNE, {"before": now - KEPT_FOR, "limit": MAX_SENDERS})
