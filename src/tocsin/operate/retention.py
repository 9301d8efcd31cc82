"""Deletes expired data: the rows that each room names in `core.hooks.EXPIRIES`, and old entries of the audit log.

Works in small transactions, oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tocsin.access import audit_log
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.hooks import Expiry
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock

INTERVAL = timedelta(minutes=5)

#: Rows of one kind deleted per transaction.
CHUNK = 5_000


def run_once(now: datetime, *, chunk: int = CHUNK) -> bool:
    """Deletes one chunk of each kind, unless the clock may be far ahead. Returns whether there may be more."""
    with database.transaction() as connection:
        if clock.is_clock_suspect(connection, now):
            return False
        settings = settings_store.load(connection)
    removed = [_remove(expiry, _cutoff(expiry, settings, now), chunk) for expiry in hooks.EXPIRIES.of()]
    changed_before = now - timedelta(days=settings[settings_store.AUDIT_RETENTION_DAYS.name])
    return max([*removed, audit_log.delete_before(changed_before, chunk)]) >= chunk


def _cutoff(expiry: Expiry, settings: Mapping[str, Any], now: datetime) -> datetime:
    return now - (expiry.kept if isinstance(expiry.kept, timedelta) else timedelta(days=settings[expiry.kept]))


def _remove(expiry: Expiry, before: datetime, chunk: int) -> int:
    with database.transaction() as connection:
        parameters = {"before": before, "first": first_uuid7(before), "chunk": chunk}
        return connection.execute(database.literal(expiry.statement), parameters).rowcount
