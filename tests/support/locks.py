"""Waits until another connection waits for a lock, for tests of concurrent transactions."""

from __future__ import annotations

import time
from collections.abc import Callable

from tocsin.core.db import database

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def wait_for_waiters(number: int = 1, *, unless: Callable[[], bool] = lambda: False) -> None:
    """Returns once so many connections to this database wait for a lock, or `unless` is true."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if unless():
            return
        with database.transaction() as connection:
            results = connection.execute(_WAITING).fetchone()
        if results is not None and results[0] >= number:
            return
    raise AssertionError("too few wait")
