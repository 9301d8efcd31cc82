"""Checks free space and free inodes on the disks that Tocsin writes to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tocsin.core.config import environment
from tocsin.core.config.environment import Config
from tocsin.core.embedded_postgres.lifecycle import EmbeddedPostgres
from tocsin.core.reasons import ReasonType
from tocsin.operate.finding import HealthFinding

GIB = 1024**3


#: Less free space than this is always too little; less than a twentieth of the disk also is, up to `AMPLE_FREE_BYTES`.
MIN_FREE_BYTES = 1 * GIB


AMPLE_FREE_BYTES = 10 * GIB

SPACE = ReasonType("health.disk_space", "{free} of {size} are free on the disk of {folder}.")
_SPACE_REMEDY = ReasonType(
    "health.disk_space_remedy",
    "Free up space, or lower the settings `message_size_cap_mb` and `message_retention_days`.",
)
_ENTRIES = ReasonType("health.disk_entries", "{free} of {size} inodes are free on the disk of {folder}.")
_ENTRIES_REMEDY = ReasonType("health.disk_entries_remedy", "Remove directories with many small files.")


def check_database_disks() -> Iterator[HealthFinding]:
    """Checks the disks of the built-in database; yields nothing for an external server, which may be on another
    machine."""
    settings = environment.current()
    if settings.database_url is None:
        for folder in _folders(settings):
            yield from check_disk(folder)


def check_disk(folder: Path) -> Iterator[HealthFinding]:
    """Checks the disk of `folder` for free space and inodes."""
    usage = shutil.disk_usage(folder)
    if usage.free < MIN_FREE_BYTES or (usage.free < usage.total / 20 and usage.free < AMPLE_FREE_BYTES):
        yield HealthFinding(
            "disk.space",
            SPACE(free=_size(usage.free), size=_size(usage.total), folder=str(folder)),
            _SPACE_REMEDY(),
            about=str(folder),
        )
    entries = os.statvfs(folder)
    if entries.f_files and entries.f_favail < entries.f_files / 50:
        yield HealthFinding(
            "disk.entries",
            _ENTRIES(free=entries.f_favail, size=entries.f_files, folder=str(folder)),
            _ENTRIES_REMEDY(),
            about=str(folder),
        )


def _folders(settings: Config) -> list[Path]:
    """One folder per disk that Tocsin writes to."""
    paths = [settings.data_dir]
    if settings.database_url is None:
        paths.append(EmbeddedPostgres(settings.data_dir).location)
    disks: dict[int, Path] = {}
    for folder in map(_nearest_existing, paths):
        disks.setdefault(folder.stat().st_dev, folder)
    return list(disks.values())


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GB" if size >= GIB else f"{size / 1024**2:.0f} MB"
