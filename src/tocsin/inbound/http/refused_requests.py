"""Counts refused requests. A sender that gets 401, 403 or 404 rarely tells anybody, so doctor and Home do.

Those that no integration receives (a mistyped path, a deleted integration, a product whose API Tocsin does not have)
are counted by path and address; those that an integration refuses (a wrong password, an address that may not send) by
integration and address. Counted in memory, for a limited number of senders, and written by a periodic task.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from psycopg import errors
from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.net.asgi import AsgiScope, client_address
from tocsin.core.reasons import Reason
from tocsin.core.stored_reason import reason_columns

#: Senders counted between two writes, and rows kept, of each table. What is more is not counted: it is somebody's scan.
MAX_SENDERS: Final = 200
#: How long a row is kept after the last request.
KEPT_FOR: Final = timedelta(days=7)
#: An address that tried more paths than this within a day is a scanner, not a sender.
MAX_PATHS_PER_ADDRESS: Final = 5

_MAX_PATH_CHARS: Final = 100
#: What may be a token: it may be one of another installation.
_SECRET: Final = re.compile(r"[\w-]{16,}")


@dataclass(frozen=True, slots=True)
class _Refusals:
    """The requests of one sender that an integration refused: how many, and when and why the last one."""

    last_at: datetime
    reason: Reason
    requests: int = 1


@dataclass(slots=True)
class _Counts:
    #: By path (without secrets) and address.
    unmatched: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: By integration and address.
    refused: dict[tuple[int, str], _Refusals] = field(default_factory=dict)


class RefusedRequests:
    """The counts of one node since they were last written."""

    def __init__(self) -> None:
        self._counts = _Counts()
        self._lock = threading.Lock()

    def count_unmatched(self, scope: AsgiScope) -> None:
        """Counts a request that nothing received."""
        path = _SECRET.sub(lambda match: f"{match.group()[:4]}…", scope["path"])[:_MAX_PATH_CHARS].replace("\0", "")
        with self._lock:
            self._add_unmatched((path, client_address(scope) or ""), 1)

    def count_refused(self, integration_id: int, address: str | None, reason: Reason, now: datetime) -> None:
        """Counts a request that the integration refused."""
        with self._lock:
            self._add_refused((integration_id, address or ""), _Refusals(now, reason))

    def write(self, now: datetime) -> bool:
        """Adds the counts to the tables; if that fails, keeps them."""
        with self._lock:
            counts, self._counts = self._counts, _Counts()
        if not counts.unmatched and not counts.refused:
            return False
        try:
            with database.transaction() as connection:
                _store_unmatched(connection, counts.unmatched, now)
                _store_refused(connection, counts.refused, now)
        except errors.Error:
            with self._lock:
                newer, self._counts = self._counts, counts
                for key, number in newer.unmatched.items():
                    self._add_unmatched(key, number)
                for sender, refusals in newer.refused.items():
                    self._add_refused(sender, refusals)
            raise
        return False

    def _add_unmatched(self, key: tuple[str, str], number: int) -> None:
        unmatched = self._counts.unmatched
        if key in unmatched or len(unmatched) < MAX_SENDERS:
            unmatched[key] += number

    def _add_refused(self, key: tuple[int, str], refusals: _Refusals) -> None:
        refused = self._counts.refused
        if (earlier := refused.get(key)) is not None:
            refused[key] = replace(refusals, requests=earlier.requests + refusals.requests)
        elif len(refused) < MAX_SENDERS:
            refused[key] = refusals


_STORE_UNMATCHED = """
INSERT INTO inbound_unmatchedpost AS p (path, address, requests, last_at)
SELECT n.path, n.address, n.requests, %(now)s
FROM unnest(%(paths)s::text[], %(addresses)s::text[], %(requests)s::int[]) AS n(path, address, requests)
ORDER BY n.path, n.address
ON CONFLICT (path, address) DO UPDATE SET requests = p.requests + EXCLUDED.requests, last_at = EXCLUDED.last_at
"""
# An integration that was deleted meanwhile is left out.
_STORE_REFUSED = """
INSERT INTO inbound_refusedsender AS s (integration_id, address, requests, last_at, reason_code, reason_data)
SELECT i.id, %(address)s, %(requests)s, %(last_at)s, %(code)s, %(data)s
FROM inbound_integration i WHERE i.id = %(integration)s
ON CONFLICT (integration_id, address) DO UPDATE SET requests = s.requests + EXCLUDED.requests,
  last_at = EXCLUDED.last_at, reason_code = EXCLUDED.reason_code, reason_data = EXCLUDED.reason_data
"""
_PRUNE = """
DELETE FROM {table} WHERE last_at < %(before)s OR id NOT IN (
  SELECT id FROM {table} ORDER BY last_at DESC, id DESC LIMIT %(limit)s)
"""


def _store_unmatched(connection: Connection, counts: Counter[tuple[str, str]], now: datetime) -> None:
    if not counts:
        return
    connection.execute(
        _STORE_UNMATCHED,
        {
            "now": now,
            "paths": [path for path, _address in counts],
            "addresses": [address for _path, address in counts],
            "requests": list(counts.values()),
        },
    )
    _prune(connection, "inbound_unmatchedpost", now)


def _store_refused(connection: Connection, refused: dict[tuple[int, str], _Refusals], now: datetime) -> None:
    if not refused:
        return
    rows = []
    # In one order, as two nodes write the same senders.
    for (integration_id, address), refusals in sorted(refused.items(), key=lambda item: item[0]):
        code, data = reason_columns(refusals.reason)
        rows.append(
            {
                "integration": integration_id,
                "address": address,
                "requests": refusals.requests,
                "last_at": refusals.last_at,
                "code": code,
                "data": Jsonb(data),
            }
        )
    with connection.cursor() as cursor:
        cursor.executemany(_STORE_REFUSED, rows)
    _prune(connection, "inbound_refusedsender", now)


def _prune(connection: Connection, table: str, now: datetime) -> None:
    query = database.literal(_PRUNE.format(table=table))
    connection.execute(query, {"before": now - KEPT_FOR, "limit": MAX_SENDERS})
