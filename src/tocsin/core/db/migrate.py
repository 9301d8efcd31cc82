"""Brings the tables up to date, one node at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tocsin.core.db import database, migration_runner
from tocsin.core.db.guarded_connection import GuardedConnection

log = logging.getLogger(__name__)

#: The advisory lock of whoever migrates; other nodes wait for it. The letters "tocsin" as a number.
MIGRATION_LOCK = int.from_bytes(b"tocsin")

#: Seconds until a waiting node looks whether the other one is done.
ASK_AGAIN = 0.2


def migrate() -> list[str]:
    """Applies what is missing and returns it. Waits for another node that is doing the same."""
    if not migration_runner.missing():
        _say_if_newer()
        return []
    with database.connect(name="tocsin migrate") as lock:
        lock.lift_time_limit()
        # Asked for again and again: whoever waits inside the statement has a snapshot open, for which an index that is
        # made without locking waits in turn. Neither would ever end.
        while not (database.row(lock, "SELECT pg_try_advisory_lock(%s) AS won", (MIGRATION_LOCK,)) or {})["won"]:
            time.sleep(ASK_AGAIN)
        to_do = migration_runner.missing()
        if to_do:
            with _no_time_limit():
                migration_runner.apply_missing()
        return to_do


def _say_if_newer() -> None:
    """An older program works on newer tables for as long as an upgrade takes, which it cannot tell from a way back."""
    if newer := migration_runner.of_a_newer_program():
        log.warning(
            "The database's tables are a newer Tocsin's (%s). That is right while its nodes are upgraded one after the "
            "other. To go back to this version for good, restore the backup from before the upgrade.",
            ", ".join(newer),
        )


@contextmanager
def _no_time_limit() -> Iterator[None]:
    connection.ensure_connection()
    session = connection.connection
    assert isinstance(session, GuardedConnection)
    session.lift_time_limit()
    try:
        yield
    finally:
        session.restore_time_limit()
