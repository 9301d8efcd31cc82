"""The backup that an upgrade writes before it changes existing tables: the way back to the earlier version."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from tocsin.core.config import crypto, environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.migrate import Migration
from tocsin.core.errors import FILE_UNWRITABLE, Rejected
from tocsin.core.reasons import ReasonType, joined
from tocsin.core.runtime import clock
from tocsin.operate.backup import key_encryption, tables, writing
from tocsin.operate.backup.archive import ArchiveKeys, BackupReader

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

_NO_SPACE = ReasonType(
    "backup.no_space_to_upgrade",
    "The upgrade needs up to {needed} MB in {folder} for its backup, and {free} MB are free. Nothing was changed.",
)
_WAY_ON = ReasonType(
    "backup.upgrade_way_on",
    "Free up space; or make a backup elsewhere (with the earlier version `tocsin backup FILE`, or pg_dump) and start "
    "once with TOCSIN_UPGRADE_BACKUP=0.",
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
        else key_encryption.seal(crypto.keys(), passphrase)
    )
    try:
        manifest = writing.write(path, now, keys=keys, is_locked=True)
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
    names = [name for name in tables.tables_at(tables.applied(connection)) if name not in tables.OMITTED]
    row = connection.execute(_SIZE, (names,)).fetchone()
    return int(row[0] or 0) if row is not None else 0


def _refuse_without_space(connection: Connection, folder: Path) -> None:
    needed, free = max_backup_size(connection), shutil.disk_usage(folder).free
    if free < needed + _MEBIBYTE:
        reason = _NO_SPACE(needed=-(-needed // _MEBIBYTE) + 1, free=free // _MEBIBYTE, folder=str(folder))
        raise Rejected("no_space", joined(reason, _WAY_ON(), separator=" "))
