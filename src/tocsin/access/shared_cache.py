"""Django's default cache, stored in PostgreSQL and shared by all nodes.

django-allauth counts sign-in attempts and stores used codes in it. Its size is bounded. Values are JSON, so that no
database row is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection

from tocsin.core.runtime import clock

#: Above this number, the entries that expire first are deleted.
MAX_ENTRIES = 50_000

_GET = "SELECT value FROM access_sharedcacheentry WHERE key = %s AND expires_at > %s"

_SET = """
INSERT INTO access_sharedcacheentry AS known (key, value, expires_at) VALUES (%(key)s, %(value)s, %(expires_at)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""

# If several processes add the same key at once, exactly one inserts or replaces the row.
_ADD = f"{_SET} WHERE known.expires_at <= %(now)s"

_INCREASE = """
UPDATE access_sharedcacheentry SET value = to_jsonb(value::int + %s) WHERE key = %s AND expires_at > %s RETURNING value
"""

_DELETE = "DELETE FROM access_sharedcacheentry WHERE key = %s"

# Skips locked rows, so that two processes that prune at once do not wait for each other.
_PRUNE = """
DELETE FROM access_sharedcacheentry WHERE key IN (
  SELECT key FROM access_sharedcacheentry WHERE expires_at <= %(now)s OR expires_at <= (
    SELECT expires_at FROM access_sharedcacheentry ORDER BY expires_at DESC OFFSET %(most)s LIMIT 1)
  ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""


class SharedCache(BaseCache):
    """The part of Django's cache interface that counters need."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(_GET, (self._hash_key(key, version), clock.now()))
            row = cursor.fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._write(_SET, key, value, timeout, version)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Sets the value if the key is free, and returns whether it was."""
        return self._write(_ADD, key, value, timeout, version)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Adds `delta` to the key's number and returns the result. Raises ValueError if the key is not set."""
        with connection.cursor() as cursor:
            cursor.execute(_INCREASE, (delta, self._hash_key(key, version), clock.now()))
            row = cursor.fetchone()
        if row is None:
            raise ValueError(f"The key {key!r} has no number.")
        return int(row[0])

    def delete(self, key: str, version: int | None = None) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, (self._hash_key(key, version),))
            return bool(cursor.rowcount)

    def clear(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM access_sharedcacheentry")

    def _write(self, statement: str, key: str, value: Any, timeout: Any, version: int | None) -> bool:
        now = clock.now()
        values: dict[str, Any] = {
            "key": self._hash_key(key, version),
            "value": json.dumps(value),
            "expires_at": now + self._lifetime(timeout),
            "now": now,
        }
        with connection.cursor() as cursor:
            cursor.execute(_PRUNE, {"now": now, "most": MAX_ENTRIES - 1})
            cursor.execute(statement, values)
            return bool(cursor.rowcount)

    def _lifetime(self, timeout: Any) -> timedelta:
        """Returns the lifetime, at most a day. Django's None means forever, which is not allowed here."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return timedelta(days=1) if seconds is None else min(timedelta(seconds=seconds), timedelta(days=1))

    def _hash_key(self, key: str, version: int | None) -> str:
        """Hashes the key, because keys contain addresses and user names that need not be stored."""
        return hashlib.sha256(self.make_key(key, version).encode()).hexdigest()
