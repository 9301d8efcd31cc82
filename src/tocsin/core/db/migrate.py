"""Brings the tables up to date, one node at a time: Django's own migrations, under an advisory lock.

The tables of an empty database are created from the models in one pass, and the migrations recorded as applied: Django
builds all model classes anew for each operation, which takes several times as long as the statements themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from tocsin.core.db import database
from tocsin.core.db.guarded_connection import GuardedConnection

log = logging.getLogger(__name__)

type Migration = tuple[str, str]

#: The advisory lock of the node that migrates; other nodes wait for it. The letters "tocsin" as a number.
MIGRATION_LOCK = int.from_bytes(b"tocsin")

#: Seconds until a waiting node checks again whether the lock is free.
LOCK_POLL_SECONDS = 0.2


def migrate() -> list[str]:
    """Applies the missing migrations and returns them as `app.name`. Waits for another node that is doing the same."""
    if not missing():
        _warn_if_newer()
        return []
    with database.connect(name="tocsin migrate") as lock:
        lock.lift_time_limit()
        # Polled: a statement that waits for the lock holds a snapshot, and an index that is built concurrently waits
        # for all snapshots. Neither would ever end.
        while not (database.row(lock, "SELECT pg_try_advisory_lock(%s) AS won", (MIGRATION_LOCK,)) or {})["won"]:
            time.sleep(LOCK_POLL_SECONDS)
        to_do = missing()
        if to_do:
            with _no_time_limit():
                apply_missing()
        return to_do


def missing() -> list[str]:
    """The migrations that this program knows and the database has not had, in order, as `app.name`.

    Empty too where the database is newer than the program: old code runs on the new schema during an upgrade.
    """
    return [f"{migration.app_label}.{migration.name}" for migration, _ in _plan(MigrationExecutor(connection))]


def of_a_newer_program() -> list[str]:
    """The migrations that the database has had and this program does not know, as `app.name`."""
    return [f"{app}.{name}" for app, name in sorted(unknown(MigrationRecorder(connection).applied_migrations()))]


def unknown(migrations: Iterable[Migration]) -> list[Migration]:
    """Those that this program does not know: a newer one made them."""
    known = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return [migration for migration in migrations if migration not in known]


def apply_missing() -> None:
    """Applies all missing migrations; listeners to Django's signals run before and after."""
    executor = MigrationExecutor(connection)
    executor.loader.check_consistent_history(connection)
    plan = _plan(executor)
    emit_pre_migrate_signal(0, False, connection.alias, plan=plan)
    if executor.loader.applied_migrations:
        executor.migrate(executor.loader.graph.leaf_nodes(), plan)
    else:
        create_tables(executor)
    emit_post_migrate_signal(0, False, connection.alias, plan=plan)


def create_tables(executor: MigrationExecutor) -> None:
    """Creates the tables of an empty database as the newest migrations would, and records all as applied."""
    executor.recorder.ensure_schema()
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    with connection.schema_editor() as editor:
        for model in apps.get_models():
            if model._meta.managed and not model._meta.proxy:
                editor.create_model(model)
    state = ProjectState()
    with connection.schema_editor() as editor:
        for migration, _ in plan:
            for operation in migration.operations:
                # What the models do not say, such as how a column is stored.
                if isinstance(operation, RunSQL):
                    operation.database_forwards(migration.app_label, editor, state, state)
            executor.recorder.record_applied(migration.app_label, migration.name)


def _plan(executor: MigrationExecutor) -> list[tuple[Any, bool]]:
    return executor.migration_plan(executor.loader.graph.leaf_nodes())


def _warn_if_newer() -> None:
    """An older program works on newer tables for the length of an upgrade, which looks the same as a downgrade."""
    if newer := of_a_newer_program():
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
