"""Shared by tests of the embedded PostgreSQL: inspects its processes and runs programs as its user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.installation import until
from tocsin.core.embedded_server import EmbeddedPostgres


def value(url: str, query: str) -> Any:
    """The first column of the query's first row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def postmaster_pid(data_dir: Path) -> int:
    return int((EmbeddedPostgres(data_dir).location / "data" / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_ended(pid: int) -> None:
    """Returns when the process has ended; the server's lock is free a moment before that."""
    until(f"process {pid} ends", lambda: not is_alive(pid))


def owner_of(path: Path) -> int:
    return path.stat().st_uid


@contextmanager
def run_as_owner(data: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program run as the user that `data` belongs to, ended at the block's end."""
    status = data.stat()
    as_root = os.geteuid() == 0
    process = subprocess.Popen(
        command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        user=status.st_uid if as_root else None, group=status.st_gid if as_root else None,
        extra_groups=[] if as_root else None,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
