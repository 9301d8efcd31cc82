"""Writes a backup: a consistent snapshot of every table in one transaction, while Tocsin keeps running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from psycopg import sql

import tocsin
from tocsin.core.db import database, migrate
from tocsin.core.db.database import Connection
from tocsin.core.db.migrate import MIGRATION_LOCK, Migration
from tocsin.core.errors import FILE_UNWRITABLE, Rejected
from tocsin.core.reasons import ReasonType
from tocsin.operate.backup import tables
from tocsin.operate.backup.archive import FORMAT, MAGIC, ArchiveKeys, BackupWriter, Manifest, SequenceInfo, TableInfo

_NOTHING = ReasonType(
    "backup.nothing_to_back_up", "There is nothing to back up: the database has no tables of Tocsin's."
)
_NEWER = ReasonType(
    "backup.database_newer",
    "The database is a newer Tocsin's (it has had {app}.{migration}): make the backup with that one.",
)
_IS_FOLDER = ReasonType("backup.is_folder", "{path} is a folder: name the file to write.")

#: Makes the text output independent of the server's settings, and gives the copy all the time it needs.
_SETTINGS = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
}


_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.part")

#: In seconds: a newer file may not be locked yet.
_ABANDONED_AFTER = 60


def write(path: Path, now: datetime, *, keys: ArchiveKeys, is_locked: bool = False) -> Manifest:
    """Writes the complete state to `path`, which appears only once complete. Returns its manifest.

    `is_locked`: the caller holds the lock of migrations. Raises Rejected if there is nothing to back up, the tables are
    from a newer release, or the file cannot be written.
    """
    # Locked before the snapshot, which then includes the last migration.
    with (
        _atomic_file(path) as file,
        contextlib.nullcontext() if is_locked else _without_migrations(),
        database.connect(name="tocsin backup") as connection,
    ):
        connection.set_settings(**_SETTINGS)
        connection.lift_time_limit()
        connection.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY")
        migrations = tables.applied(connection)
        _refuse(migrations)
        writer = BackupWriter(file, now)
        names = [name for name in tables.tables_at(migrations) if name not in tables.OMITTED]
        written = [_table(connection, writer, name) for name in names]
        manifest = Manifest(
            format=FORMAT,
            tocsin=tocsin.__version__,
            made_at=now,
            postgres=connection.info.server_version // 10_000,
            migrations=migrations,
            tables=written,
            # Last: sequences are not transactional, and must not be behind the rows.
            sequences=list(_sequences(connection, names)),
            keys=keys,
        )
        writer.finish(manifest)
    return manifest


@contextmanager
def _without_migrations() -> Iterator[None]:
    """Prevents migrations meanwhile, by a transaction's lock: a pooler would keep a session's lock for later."""
    with database.connect(name="tocsin backup lock") as connection:
        connection.set_settings(idle_in_transaction_session_timeout="0")
        connection.lift_time_limit()
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (MIGRATION_LOCK,))
            yield


def _refuse(migrations: list[Migration]) -> None:
    if not migrations:
        raise Rejected("empty", _NOTHING())
    if newer := migrate.unknown_migrations(migrations):
        app, name = newer[0]
        raise Rejected("newer", _NEWER(app=app, migration=name))


def _table(connection: Connection, writer: BackupWriter, name: str) -> TableInfo:
    columns = [
        row[0]
        for row in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 "
            "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            (name,),
        ).fetchall()
    ]
    column_list = sql.SQL(", ").join(map(sql.Identifier, columns))
    # A query, because COPY of a table leaves out its partitions' rows or refuses.
    statement = sql.SQL("COPY (SELECT {} FROM {} WHERE NOT ({})) TO STDOUT").format(
        column_list, sql.Identifier(name), sql.SQL(tables.OMITTED_ROWS.get(name, "false"))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return writer.add(name, columns, copy)


def _sequences(connection: Connection, names: Sequence[str]) -> Iterator[SequenceInfo]:
    rows = connection.execute(
        "SELECT c.relname, a.attname, pg_get_serial_sequence(quote_ident(c.relname), a.attname) AS sequence "
        "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.oid = ANY(SELECT to_regclass(quote_ident(n)) FROM unnest(%s::text[]) n) "
        "AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL ORDER BY 1, 2",
        (list(names),),
    ).fetchall()
    for table, column, sequence in rows:
        # `sequence` is already quoted by PostgreSQL.
        row = connection.execute(f"SELECT last_value, is_called FROM {sequence}".encode()).fetchone()
        assert row is not None
        yield SequenceInfo(table, column, row[0], row[1])


@contextmanager
def _atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file, readable by its owner only, that atomically replaces `path` once it is complete and synced."""
    temporary_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        if path.is_dir():
            raise Rejected("not_a_file", _IS_FOLDER(path=str(path)))
        _remove_abandoned(path.parent)
        descriptor = os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(OSError):
                _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary_path.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise Rejected("cannot_write", FILE_UNWRITABLE(file=str(path), error=str(error.strerror or error))) from error
    finally:
        temporary_path.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Removes temporary files of killed backups in that folder. Each is as large as a backup and cannot be restored."""
    for temporary_path in folder.glob(".*.part"):
        if _DRAFT.fullmatch(temporary_path.name) is None or not temporary_path.is_file():
            continue
        # Files of other users, or on a filesystem without locks, stay.
        with contextlib.suppress(OSError), temporary_path.open("rb") as file:
            is_old = time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED_AFTER
            if is_old and file.read(len(MAGIC)) in (MAGIC, b""):
                _lock(file)
                temporary_path.unlink()


def _lock(file: IO[bytes]) -> None:
    """Locks the file while it is written; the kernel unlocks it when the process ends. Raises OSError if locked."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
