"""Writes a backup: a consistent snapshot of every table in one transaction, while Tocsin keeps running."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from psycopg import sql

import tocsin
from tocsin.core.config import crypto, environment
from tocsin.core.db import database, migrate
from tocsin.core.db.database import Connection
from tocsin.core.db.migrate import MIGRATION_LOCK, Migration
from tocsin.core.errors import FILE_UNWRITABLE, Rejected
from tocsin.core.reasons import Text, joined, sentence
from tocsin.core.runtime import clock
from tocsin.operate.backup import archive
from tocsin.operate.backup.archive import (
    FORMAT,
    MAGIC,
    ArchiveKeys,
    BackupReader,
    BackupWriter,
    Manifest,
    SequenceInfo,
    TableInfo,
)

_NOTHING = Text("There is nothing to back up: the database has no tables of Tocsin's.")
_NEWER = Text("The database is a newer Tocsin's (it has had {app}.{migration}): make the backup with that one.")

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
        migrations = archive.applied(connection)
        _refuse(migrations)
        writer = BackupWriter(file, now)
        names = [name for name in archive.tables_at(migrations) if name not in archive.OMITTED]
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
        column_list, sql.Identifier(name), sql.SQL(archive.OMITTED_ROWS.get(name, "false"))
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
            raise Rejected("not_a_file", sentence("{path} is a folder: name the file to write.", path=str(path)))
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


# ---------- before upgrade
# The backup that an upgrade writes before it changes existing tables: the way back to the earlier version.


log = logging.getLogger(__name__)

#: In the data directory.
FOLDER = "backups"

#: Backups kept, each of tables with other migrations.
MAX_KEPT = 3

_PREFIX = "before-upgrade-"
_MEBIBYTE = 1 << 20

#: A partitioned table is as large as its partitions, of which an ordinary table has none.
_SIZE = """
SELECT sum(pg_table_size(coalesce(p.relid, to_regclass(quote_ident(n)))))::bigint FROM unnest(%s::text[]) n
LEFT JOIN LATERAL pg_partition_tree(to_regclass(quote_ident(n))) p ON p.isleaf
"""

_NO_SPACE = Text(
    "The upgrade needs up to {needed} MB in {folder} for its backup, and {free} MB are free. Nothing was changed."
)
_WAY_ON = Text(
    "Free up space; or make a backup elsewhere (with the earlier version `tocsin backup FILE`, or pg_dump) and start "
    "once with TOCSIN_UPGRADE_BACKUP=0."
)


def back_up() -> None:
    """Writes the backup, unless TOCSIN_UPGRADE_BACKUP is off. The caller holds the lock of migrations.

    It has the secret keys only under TOCSIN_BACKUP_PASSPHRASE: it lies beside them, and is meant for this installation.
    Raises Rejected if there is too little space, or the file cannot be written.
    """
    settings = environment.current()
    if not settings.upgrade_backup:
        log.warning("The database is upgraded without a backup: TOCSIN_UPGRADE_BACKUP is off.")
        return
    folder = _make_folder(settings.data_dir)
    with database.connect(name="tocsin backup") as connection:
        clock.measure(connection)
        _refuse_without_space(connection, folder)
    now = clock.now()
    path = folder / f"{_PREFIX}{now:%Y-%m-%dT%H%M%SZ}"
    passphrase = settings.backup_passphrase
    keys = (
        ArchiveKeys(list(crypto.fingerprints()))
        if passphrase is None
        else archive.seal(crypto.secret_keys(), passphrase)
    )
    try:
        manifest = write(path, now, keys=keys, is_locked=True)
    except Rejected as error:
        raise Rejected(error.code, joined(error.reason, _WAY_ON(), separator=" ")) from error
    _give_to_owner(path)
    log.warning(
        "The database is upgraded. %s has its state before: %s rows of %s.", path, manifest.rows, manifest.tocsin
    )
    _remove_older(folder)


def _remove_older(folder: Path) -> None:
    """Keeps the newest backup of each state of the migrations, for the last MAX_KEPT states.

    A service that restarts after each failed attempt at an upgrade writes a backup each time. The one from before the
    first attempt must stay: only that has tables that the earlier version knows.
    """
    kept: list[list[Migration] | Path] = []
    for path in sorted(folder.glob(f"{_PREFIX}*"), reverse=True):
        state = _migrations(path)
        if state in kept or len(kept) == MAX_KEPT:
            path.unlink(missing_ok=True)
        else:
            kept.append(state)


def _migrations(path: Path) -> list[Migration] | Path:
    """Returns the migrations of a backup's tables; the path if it cannot be read."""
    try:
        with BackupReader.open(path) as reader:
            return reader.manifest.migrations
    except Rejected:
        return path


def _make_folder(data_dir: Path) -> Path:
    folder = data_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = FILE_UNWRITABLE(file=str(folder), error=str(error.strerror or error))
        raise Rejected("cannot_write", joined(reason, _WAY_ON(), separator=" ")) from error
    _give_to_owner(folder)
    return folder


def _give_to_owner(path: Path) -> None:
    """Gives what root made to the account of the data directory, which must be able to remove it."""
    if os.geteuid() == 0:
        owner = environment.current().data_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def max_backup_size(connection: Connection) -> int:
    """Returns the bytes of the tables without indexes, of which a backup is mostly a part."""
    names = [name for name in archive.tables_at(archive.applied(connection)) if name not in archive.OMITTED]
    row = connection.execute(_SIZE, (names,)).fetchone()
    return int(row[0] or 0) if row is not None else 0


def _refuse_without_space(connection: Connection, folder: Path) -> None:
    needed, free = max_backup_size(connection), shutil.disk_usage(folder).free
    if free < needed + _MEBIBYTE:
        reason = _NO_SPACE(needed=-(-needed // _MEBIBYTE) + 1, free=free // _MEBIBYTE, folder=str(folder))
        raise Rejected("no_space", joined(reason, _WAY_ON(), separator=" "))
