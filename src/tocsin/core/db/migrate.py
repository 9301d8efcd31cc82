"""Applies Django's migrations, one node at a time, under an advisory lock.

In an empty database, the tables are created directly from the models and the migrations are recorded as applied. Django
rebuilds all model classes for each operation, which takes several times as long as the SQL itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import Error as DjangoError
from django.db import connection, transaction
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from tocsin.core.db import database, start_up
from tocsin.core.db.database import GuardedConnection
from tocsin.core.errors import Permanent
from tocsin.core.reasons import Text, sentence

_FOREIGN = Text("The database {name} holds tables of another application, such as {table}. Nothing was changed.")
_ENCODING = Text("The database {name} has the encoding {encoding}, and Tocsin needs UTF8. Nothing was changed.")
_NEWER = Text("The data directory is a newer Tocsin's: its tables have had {migration}. Nothing was changed.")

log = logging.getLogger(__name__)

type Migration = tuple[str, str]

#: The advisory lock of the migrating node; other nodes wait for it. The letters "tocsin" as a number.
MIGRATION_LOCK = int.from_bytes(b"tocsin")

#: Seconds between checks of whether the lock is free.
LOCK_POLL_SECONDS = 0.2

#: A database with it is Tocsin's.
_OWN: Migration = ("escalation", "0001_initial")

#: Tables of the current schema that no extension brought.
_TABLES = """
SELECT c.relname, (SELECT current_database()) FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'django_migrations'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY c.relname LIMIT 1
"""


def migrate(before_upgrade: Callable[[], None] = lambda: None, *, is_shared: bool = True) -> list[str]:
    """Applies the missing migrations and returns them as `app.name`. Waits for another node that is migrating.

    `before_upgrade` is called before the first change to existing tables; if it raises, nothing is changed. Raises
    Permanent if the tables are another application's, if a new database is not in UTF-8, if a pooler makes locks
    useless, if a migration fails, and if the tables are a newer version's, unless nodes of several versions may share
    the database (`is_shared`).
    """
    if not missing_migrations():
        _check_newer(is_shared=is_shared)
        return []
    with database.connect(name="tocsin migrate") as lock:
        if lock.is_pooled and start_up.shares_sessions():
            raise Permanent(
                sentence(
                    "The tables cannot be migrated by a connection pooler in transaction mode, because locks do not "
                    "hold there. Nothing was changed."
                ),
                start_up.USE_SESSIONS(),
            )
        lock.lift_time_limit()
        # Polled, because a statement that waits for the lock holds a snapshot, and CREATE INDEX CONCURRENTLY waits for
        # all snapshots. The two would deadlock.
        while not (database.row(lock, "SELECT pg_try_advisory_lock(%s) AS won", (MIGRATION_LOCK,)) or {})["won"]:
            time.sleep(LOCK_POLL_SECONDS)
        missing = missing_migrations()
        if missing:
            if _OWN in MigrationRecorder(connection).applied_migrations():
                _check_newer(is_shared=is_shared)
                before_upgrade()
            else:
                _refuse_foreign(lock)
                _refuse_encoding(lock)
            with _no_time_limit():
                _apply()
        return missing


def _refuse_foreign(lock: database.Connection) -> None:
    row = lock.execute(_TABLES).fetchone()
    if row is not None:
        raise Permanent(_FOREIGN(table=row[0], name=row[1]), sentence("Name an empty database in TOCSIN_DATABASE_URL."))


def _refuse_encoding(lock: database.Connection) -> None:
    encoding = lock.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name, owner = lock.info.dbname, lock.info.user
        raise Permanent(
            _ENCODING(name=name, encoding=str(encoding)),
            sentence(
                "Make a new one: CREATE DATABASE {name} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0.",
                name=name,
                owner=owner,
            ),
        )


def _apply() -> None:
    try:
        apply_missing()
    except (DjangoError, InconsistentMigrationHistory) as error:
        if database.is_unavailable(error):
            raise
        remaining = missing_migrations()
        detail = " ".join(str(error).split())
        raise Permanent(
            sentence(
                "The upgrade of the database stopped at {migration}: {error}",
                migration=remaining[0] if remaining else "",
                error=detail,
            ),
            sentence(
                "That step was undone, and earlier ones stay. Mend the cause and start Tocsin again, which goes on "
                "there; or go "
                "back: `tocsin restore --force FILE` with the version and the backup from before the upgrade."
            ),
        ) from error


def missing_migrations() -> list[str]:
    """Returns the migrations not yet applied to the database, in order, as `app.name`.

    Empty too if the database is newer than this version: old code runs on the new schema during an upgrade.
    """
    return [f"{migration.app_label}.{migration.name}" for migration, _ in _plan(MigrationExecutor(connection))]


def newer_migrations() -> list[str]:
    """Returns the applied migrations that this version does not know, as `app.name`."""
    return [
        f"{app}.{name}" for app, name in sorted(unknown_migrations(MigrationRecorder(connection).applied_migrations()))
    ]


def unknown_migrations(migrations: Iterable[Migration]) -> list[Migration]:
    """Returns those of `migrations` that this version does not know, because a newer one created them."""
    known = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return [migration for migration in migrations if migration not in known]


def apply_missing() -> None:
    """Applies all missing migrations, and sends Django's pre_migrate and post_migrate signals."""
    executor = MigrationExecutor(connection)
    executor.loader.check_consistent_history(connection)
    plan = _plan(executor)
    emit_pre_migrate_signal(0, False, connection.alias, plan=plan)
    if executor.loader.applied_migrations:
        executor.migrate(executor.loader.graph.leaf_nodes(), plan)
    else:
        create_tables(executor)
    emit_post_migrate_signal(0, False, connection.alias, plan=plan)


@transaction.atomic
def create_tables(executor: MigrationExecutor) -> None:
    """Creates the tables of an empty database as the latest migrations define them, and records all as applied."""
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
                # SQL that the models cannot express, such as a column's storage parameters.
                if isinstance(operation, RunSQL):
                    operation.database_forwards(migration.app_label, editor, state, state)
            executor.recorder.record_applied(migration.app_label, migration.name)


def _plan(executor: MigrationExecutor) -> list[tuple[Any, bool]]:
    return executor.migration_plan(executor.loader.graph.leaf_nodes())


def _check_newer(*, is_shared: bool) -> None:
    """Warns only, if nodes share the database: during an upgrade an older version runs on newer tables, which looks the
    same as a downgrade."""
    if newer := newer_migrations():
        if not is_shared:
            raise Permanent(
                _NEWER(migration=newer[0]),
                sentence(
                    "Install that version again; or go back for good: `tocsin restore --force FILE` with the backup "
                    "that the upgrade wrote into the data directory's folder backups."
                ),
            )
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
