"""Restores a backup: verifies it completely, then replaces the database's content in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from django.db import connection as django_connection
from django.db import transaction
from psycopg import errors, sql

from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE
from tocsin.core.config import environment, settings_store
from tocsin.core.db import migrate, partitions
from tocsin.core.db.database import Connection, GuardedConnection
from tocsin.core.db.migrate import MIGRATION_LOCK
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.notify import pause
from tocsin.operate.backup import archive
from tocsin.operate.backup.archive import BackupReader, Manifest, TableInfo
from tocsin.people.models import User
from tocsin.people.sql import end_all_sessions

_UNREADABLE_TABLE = Text("The backup is damaged: {table} cannot be read: {error}.")
_WRONG_ROWS = Text("The backup is damaged: {table} has {rows} rows, not {expected}.")
_RUNNING = Text("Tocsin runs on this database: stop it first, on every machine. Nothing was changed.")

#: Restored rows of this period go into partitions by month, older ones into the default partition.
_PARTITIONED_PERIOD = timedelta(days=400)

#: Tables that may have rows in an "empty" database: from migrations, starts, and views of it.
_IGNORED_PREFIXES = ("django_", "auth_", "core_", "operate_", "access_auditentry")

#: User-facing names for the most important tables.
_TABLE_LABELS = {
    User._meta.db_table: Text("{count} user", "{count} users"),
    "inbound_integration": Text("{count} integration", "{count} integrations"),
    Alert._meta.db_table: Text("{count} alert", "{count} alerts"),
    "inbound_inboundmessage": Text("{count} message", "{count} messages"),
}


#: The reason for the pause of all paging.
PAUSE_REASON = "Restored from a backup"


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The result of a restore."""

    manifest: Manifest
    #: Migrations applied afterwards because the backup is older than this release.
    migrated: list[str]
    #: Whether secret keys were written to the data directory, and whether the backup's keys are available now.
    were_keys_written: bool
    has_keys: bool
    active_alerts: int


def restore(
    reader: BackupReader, new_keys: Sequence[str], *, force: bool, paused_for: timedelta | None = None
) -> RestoreResult:
    """Replaces the database's content with a (verified) backup, then migrates its tables.

    `paused_for`: paging is paused for this long from the moment the data is visible, whatever happens next. `new_keys`
    go first in the data directory, before the existing ones, so both the old and the restored data stay readable,
    whether or not the restore succeeds. Raises Rejected if the backup is from a newer release, Tocsin is running on the
    database, or the database is not empty and `force` is not set; nothing is changed then.
    """
    manifest = reader.manifest
    _refuse_unknown(manifest)
    with transaction.atomic():
        connection = _connection()
        # Nobody else may change tables, and large tables take time.
        connection.lift_time_limit()
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute("SET LOCAL lock_timeout = '30s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        _refuse_running(connection)
        existing_tables = _existing_tables(connection, force=force)
        if not force:
            _refuse_not_empty(connection, existing_tables)
        if existing_tables:
            names = sql.SQL(", ").join(map(sql.Identifier, existing_tables))
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(names))
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        archive.migrate_to(manifest.migrations)
        _restore_rows(connection, reader)
        _end_access(connection)
        if paused_for is not None:
            pause.begin_after_restore(connection, PAUSE_REASON, paused_for)
        # Invalidates every process's cached configuration.
        settings_store.bump()
        if new_keys:
            folder = environment.current().data_dir
            previous_keys = (key for key in archive.load_keys(folder) if key not in new_keys)
            archive.write_keys(folder, [*new_keys, *previous_keys])
    migrated = migrate.migrate()
    session = _connection()
    session.lift_time_limit()
    session.execute("ANALYZE")
    session.restore_time_limit()
    settings = environment.current()
    known_keys = settings.secret_keys or archive.load_keys(settings.data_dir)
    has_keys = not archive.missing(manifest.keys, known_keys)
    active_alerts = Alert.objects.filter(status__in=ACTIVE).count()
    return RestoreResult(manifest, migrated, bool(new_keys), has_keys, active_alerts)


def _refuse_unknown(manifest: Manifest) -> None:
    if newer := migrate.unknown_migrations(manifest.migrations):
        app, name = newer[0]
        raise Rejected(
            "newer",
            sentence(
                "The backup was made by a newer Tocsin ({version}, with {app}.{migration}): upgrade this one.",
                version=manifest.tocsin,
                app=app,
                migration=name,
            ),
        )
    expected_tables = set(archive.tables_at(manifest.migrations))
    backup_tables = {table.name for table in manifest.tables}
    # Backups of older releases include tables of sessions and the sandbox, which are not restored.
    if backup_tables - expected_tables or expected_tables - archive.OMITTED - backup_tables:
        raise Rejected("damaged", sentence("The backup is damaged: its tables are not those of its version."))


def _connection() -> GuardedConnection:
    """Django's connection, which runs the transaction."""
    django_connection.ensure_connection()
    connection = django_connection.connection
    assert isinstance(connection, GuardedConnection)
    return connection


def _refuse_running(connection: Connection) -> None:
    """Rejects while Tocsin is running, because its processes cache ids and configuration of the previous data."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND application_name = ANY(%s)",
        (["tocsin listener", "tocsin committer"],),
    ).fetchone()
    if row is not None and row[0]:
        raise Rejected("running", _RUNNING())


def _existing_tables(connection: Connection, *, force: bool) -> list[str]:
    """Tocsin's tables that exist now. Those of a newer version, only with `force`."""
    applied = archive.applied(connection)
    newer = migrate.unknown_migrations(applied)
    if newer and not force:
        app, name = newer[0]
        raise Rejected(
            "newer",
            sentence(
                "The database is a newer Tocsin's (it has had {app}.{migration}): with --force it is replaced by "
                "the backup.",
                app=app,
                migration=name,
            ),
        )
    known = archive.tables_at([migration for migration in applied if migration not in newer])
    added = [name for name in archive.of_apps(connection, {app for app, _ in newer}) if name not in known]
    return [*known, *added, *([archive.MIGRATIONS] if applied else [])]


def _refuse_not_empty(connection: Connection, table_names: Sequence[str]) -> None:
    non_empty = [
        name
        for name in table_names
        if not name.startswith(_IGNORED_PREFIXES)
        and connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(name))).fetchone()
    ]
    if non_empty:
        counts = [
            _describe_count(connection, name, label) for name, label in _TABLE_LABELS.items() if name in non_empty
        ]
        raise Rejected(
            "not_empty",
            sentence(
                "This Tocsin is not empty: it holds {objects}. With --force all of it is replaced by the backup.",
                objects=tuple(counts) or non_empty[0],
            ),
        )


def _describe_count(connection: Connection, name: str, label: Text) -> Reason:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
    return label(count=row[0] if row else 0)


def _restore_rows(connection: Connection, reader: BackupReader) -> None:
    """Inserts all rows. Foreign keys are dropped for that and checked at the end."""
    manifest = reader.manifest
    restored = [table for table in manifest.tables if table.name not in archive.OMITTED]
    names = [table.name for table in restored]
    references = _references(connection)
    for name, constraint, _ in references:
        connection.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(name), sql.Identifier(constraint))
        )
    # Rows created by migrations are in the backup, or were deleted since. Triggers refuse that for the audit log.
    connection.execute("SET LOCAL tocsin.audit_change = 'restore'")
    connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, names))))
    connection.execute("SET LOCAL client_encoding = 'UTF8'; SET LOCAL DateStyle = 'ISO, YMD'")
    for partitioned in partitions.partitioned_tables(connection):
        months = list(partitions.months(manifest.made_at - _PARTITIONED_PERIOD, manifest.made_at))
        partitions.create_missing(connection, partitioned, months)
    for table in restored:
        _restore_table(connection, reader, table)
    for sequence in manifest.sequences:
        connection.execute(
            "SELECT setval(pg_get_serial_sequence(quote_ident(%s), %s), %s, %s)",
            (sequence.table, sequence.column, sequence.last, sequence.is_called),
        )
    for name, constraint, definition in references:
        try:
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    sql.Identifier(name), sql.Identifier(constraint), sql.SQL(definition)
                )
            )
        except errors.ForeignKeyViolation as error:
            raise Rejected(
                "damaged", sentence("The backup is damaged: rows of {table} refer to missing rows.", table=name)
            ) from error


def _end_access(connection: Connection) -> None:
    """Invalidates previous access: an invitation or password link used after the backup would work again.

    Alert links stay valid, because people have them in their mailboxes.
    """
    for name, omitted in archive.OMITTED_ROWS.items():
        connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(name), sql.SQL(omitted)))
    end_all_sessions(connection)


def _restore_table(connection: Connection, reader: BackupReader, table: TableInfo) -> None:
    column_list = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), column_list)
    try:
        with psycopg.Cursor(connection) as cursor:
            with cursor.copy(statement) as copy:
                for data in reader.stream(table):
                    copy.write(data)
            rows = cursor.rowcount
    except (errors.DataError, errors.IntegrityError, errors.ProgrammingError) as error:
        message = str(error.diag.message_primary)
        unreadable = _UNREADABLE_TABLE(table=table.name, error=message)
        raise Rejected("damaged", unreadable) from error
    if rows != table.rows:
        raise Rejected("damaged", _WRONG_ROWS(table=table.name, rows=rows, expected=table.rows))


def _references(connection: Connection) -> list[tuple[str, str, str]]:
    """All foreign keys of the new tables: table, name, definition."""
    return connection.execute(
        "SELECT c.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k "
        "JOIN pg_class c ON c.oid = k.conrelid "
        "WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relnamespace = current_schema()::regnamespace ORDER BY 1, 2"
    ).fetchall()
