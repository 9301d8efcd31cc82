"""Checks this machine: disk space, open file limit, key file permissions, and variables for tests only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from tocsin.core.config import crypto, environment
from tocsin.core.net import descriptors
from tocsin.core.reasons import ReasonType
from tocsin.operate.disk_space import _folders, check_disk
from tocsin.operate.finding import HealthFinding

_TEST_CLOCK = ReasonType(
    "health.test_clock", "TOCSIN_TEST_CLOCK is set: anyone who can write to the database can change the time."
)
_TEST_CLOCK_REMEDY = ReasonType("health.test_clock_remedy", "Remove the variable; it is for tests.")
_DEBUG = ReasonType("health.debug", "TOCSIN_DEBUG is set: error pages show settings and code to everyone.")
_DEBUG_REMEDY = ReasonType("health.debug_remedy", "Remove the variable; it is for developers.")
_OPEN_FILES = ReasonType(
    "health.open_files",
    "The open file limit is {limit}, but {needed} are needed for all connections that Tocsin accepts: "
    "idle senders are disconnected early.",
)
_OPEN_FILES_REMEDY = ReasonType(
    "health.open_files_remedy",
    "Raise the hard limit: `LimitNOFILE=65536` in the systemd unit, `--ulimit nofile=65536` for a container.",
)
_KEY_FILE = ReasonType(
    "health.key_file", "{path} (mode {mode}), the key to all stored secrets, is readable by users other than its owner."
)
_KEY_FILE_REMEDY = ReasonType(
    "health.key_file_remedy", "Run chmod 600 {path}. If others may have read it, rotate all provider credentials."
)


def check() -> Iterator[HealthFinding]:
    """Checks this machine with this process's configuration."""
    settings = environment.current()
    for folder in _folders(settings):
        yield from check_disk(folder)
    yield from open_files(descriptors.attainable())
    if not settings.secret_keys:
        yield from key_file(settings.data_dir / crypto.KEY_FILE)
    if settings.test_clock:
        yield HealthFinding("configuration.test_clock", _TEST_CLOCK(), _TEST_CLOCK_REMEDY())
    if settings.debug:
        yield HealthFinding("configuration.debug", _DEBUG(), _DEBUG_REMEDY())


def open_files(limit: int) -> Iterator[HealthFinding]:
    """Checks whether a node with `limit` open files can accept the intended number of connections."""
    if limit < descriptors.REQUIRED:
        yield HealthFinding(
            "machine.open_files",
            _OPEN_FILES(limit=limit, needed=descriptors.REQUIRED),
            _OPEN_FILES_REMEDY(),
        )


def key_file(path: Path) -> Iterator[HealthFinding]:
    """Checks that only its owner can read the secret key."""
    try:
        file_status = path.stat()
    except OSError:
        return
    if stat.S_IMODE(file_status.st_mode) & 0o077:
        yield HealthFinding(
            "secrets.key_file",
            _KEY_FILE(path=str(path), mode=f"{file_status.st_mode & 0o777:04o}"),
            _KEY_FILE_REMEDY(path=str(path)),
        )
