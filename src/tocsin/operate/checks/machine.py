"""Checks this machine: disk space, open file limit, key file permissions, and variables for tests only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from tocsin.core.config import crypto, environment
from tocsin.core.net import descriptors
from tocsin.operate.disk_space import _folders, check_disk
from tocsin.operate.finding import HealthFinding


def check() -> Iterator[HealthFinding]:
    """Checks this machine with this process's configuration."""
    settings = environment.current()
    for folder in _folders(settings):
        yield from check_disk(folder)
    yield from open_files(descriptors.attainable())
    if not settings.secret_keys:
        yield from key_file(settings.data_dir / crypto.KEY_FILE)
    if settings.test_clock:
        yield HealthFinding(
            "configuration.test_clock",
            "TOCSIN_TEST_CLOCK is set: whoever can write to the database can move the time.",
            "Take the variable away; it is for tests.",
        )
    if settings.debug:
        yield HealthFinding(
            "configuration.debug",
            "TOCSIN_DEBUG is set: error pages show settings and code to whoever meets one.",
            "Take the variable away; it is for developers.",
        )


def open_files(limit: int) -> Iterator[HealthFinding]:
    """Checks whether a node with `limit` open files can accept the intended number of connections."""
    if limit < descriptors.REQUIRED:
        yield HealthFinding(
            "machine.open_files",
            f"A process may have {limit} files open at once, and {descriptors.REQUIRED} are needed for all connections "
            "that Tocsin takes: idle senders are disconnected early.",
            "Raise the hard limit: `LimitNOFILE=65536` in the systemd unit, `--ulimit nofile=65536` for a container.",
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
            f"Others than its owner may read {path} (mode {file_status.st_mode & 0o777:04o}), the key to "
            "all stored secrets.",
            f"chmod 600 {path}. If others may have read it, give every provider new secrets.",
        )
