"""What must hold before the embedded PostgreSQL starts on a data directory. Creates and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from tocsin.core.embedded_postgres import layout
from tocsin.core.errors import Permanent
from tocsin.core.reasons import ReasonType

_NO_VERSION = ReasonType(
    "postgres.not_a_data_directory", "{folder} is not a PostgreSQL data directory: it has no PG_VERSION."
)
_START_EMPTY = ReasonType(
    "postgres.start_empty", "Move it away to begin with an empty database, then `tocsin restore FILE` your last backup."
)
_OTHER_VERSION = ReasonType(
    "postgres.other_version",
    "{folder} holds a database of PostgreSQL {theirs}, and this Tocsin brings PostgreSQL {ours}.",
)
_USE_BACKUP = ReasonType(
    "postgres.use_backup",
    "With the Tocsin that made it, run `tocsin backup FILE`. Then move that folder away and, with this one, run "
    "`tocsin restore FILE`.",
)
_NO_SPACE = ReasonType(
    "postgres.no_space",
    "PostgreSQL needs {needed} MB in {folder} to start, and {free} MB are free. Nothing was changed.",
)
_FREE_SPACE = ReasonType(
    "postgres.free_space", "Free up space, or choose a data directory on another disk with --data-dir."
)

_MEBIBYTE = 1 << 20

#: MiB that a new database takes, and what a start writes: shared memory of 16 MiB, and some WAL.
NEEDED_TO_CREATE = 128
NEEDED_TO_START = 24


def check(data_dir: Path, major: int) -> None:
    """Raises Permanent, naming the path, if PostgreSQL of this major version cannot start on the data directory."""
    data_dir = layout.resolve_path(data_dir)
    with layout.path_named(data_dir):
        layout.reject_shared_folder(data_dir)
        location = layout.locate(data_dir, major)
        _check_version(data_dir, location, str(major))
        if not layout.is_locked(location / layout.SERVER_LOCK):
            _check_space(location)


def _check_version(data_dir: Path, location: Path, ours: str) -> None:
    """Raises Permanent if the data belongs to another major version, which this PostgreSQL cannot read."""
    data = folder = location / "data"
    if not data.exists():
        others = layout.other_majors(data_dir, location)
        if not others:
            return
        data, folder = others[-1], others[-1].parent
    try:
        theirs = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise Permanent(_NO_VERSION(folder=str(data)), remedy=_START_EMPTY()) from None
    if theirs != ours:
        raise Permanent(_OTHER_VERSION(folder=str(folder), theirs=theirs, ours=ours), remedy=_USE_BACKUP())


def _check_space(location: Path) -> None:
    needed = NEEDED_TO_START if (location / "data").exists() else NEEDED_TO_CREATE
    folder = next(path for path in (location, *location.parents) if path.exists())
    free = shutil.disk_usage(folder).free // _MEBIBYTE
    if free < needed:
        raise Permanent(_NO_SPACE(needed=needed, folder=str(location), free=free), remedy=_FREE_SPACE())
