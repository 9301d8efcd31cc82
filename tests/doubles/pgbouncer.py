"""The real PgBouncer, in transaction mode unless told otherwise, in front of a test's database."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tocsin.core import embedded_layout

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

#: One server session for all clients: each statement runs where another client's ran before.
_SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {sessions}
ignore_startup_parameters = extra_float_digits,options
"""


@contextmanager
def pgbouncer(url: str, *, sessions: int = 10, mode: str = "transaction") -> Iterator[str]:
    """Runs PgBouncer until the end; the URL of the same database through it. All its clients share `sessions` server
    sessions. Skips the test without the program."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed")
    parts = conninfo_to_dict(url)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="tocsin-pgbouncer-", dir="/tmp"))
    folder.chmod(0o755)
    file = folder / "pgbouncer.ini"
    file.write_text(
        _SETTINGS.format(
            host=parts["host"],
            port=parts.get("port", 5432),
            user=parts["user"],
            own_port=port,
            sessions=sessions,
            mode=mode,
        )
    )
    account = embedded_layout.find_or_make() if os.geteuid() == 0 else None
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAM, file], stdout=log, stderr=log, cwd="/", **(account.run_as() if account is not None else {})
        )
    try:
        _wait_until_listening(port, folder / "log")
        yield make_conninfo(
            url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable", application_name="test"
        )
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _wait_until_listening(port: int, log: Path) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(log.read_text())
