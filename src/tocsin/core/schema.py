"""The tables' version: what is missing in the database, and bringing it up to date, one node at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tocsin.core import database

#: The advisory lock of whoever migrates; other nodes wait for it. The letters "tocsin" as a number.
MIGRATION_LOCK = int.from_bytes(b"tocsin")

#: Seconds until a waiting node looks whether the other one is done.
ASK_AGAIN = 0.2


def missing() -> list[str]:
    """The migrations that this program knows and the database has not had, in order, as `app.name`.

    Empty too where the database is newer than the program: old code runs on the new schema during an upgrade.
    """
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def migrate() -> list[str]:
    """Applies what is missing and returns it. Waits for another node that is doing the same."""
    if not missing():
        return []
    with database.connect(name="tocsin migrate") as lock:
        lock.execute("SET statement_timeout = 0")
        # Asked for again and again: whoever waits inside the statement has a snapshot open, for which an index that is
        # made without locking waits in turn. Neither would ever end.
        while not (database.row(lock, "SELECT pg_try_advisory_lock(%s) AS won", (MIGRATION_LOCK,)) or {})["won"]:
            time.sleep(ASK_AGAIN)
        to_do = missing()
        if to_do:
            with _no_time_limit():
                call_command("migrate", verbosity=0, interactive=False)
        return to_do


@contextmanager
def _no_time_limit() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")
