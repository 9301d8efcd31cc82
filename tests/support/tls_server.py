"""A PostgreSQL on TCP that requires TLS: Debian's, because the bundled one has no TCP."""

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

import psycopg
import pytest

from tests.support.postgres import server_in
from tocsin.core import embedded_server
from tocsin.core.embedded_layout import Binaries, RunAs

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))


@contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[int]:
    """Runs it with that certificate until the end. Gives its port on 127.0.0.1; the database is `postgres`."""
    if not _FOLDERS:
        pytest.skip("PostgreSQL of Debian is not installed")
    folder = _FOLDERS[-1].parent
    home = Path(tempfile.mkdtemp(prefix="tocsin-tls-", dir="/tmp"))
    home.chmod(0o711)
    server = server_in(home)
    server = type(server)(
        binaries=Binaries(folder=folder, version=f"{folder.parts[-2]}.0"), data=server.data, run=server.run,
        lock=server.lock, log=server.log, account=server.account, settings=server.settings,
    )  # fmt: skip
    if server.account is not None:
        os.chown(home, server.account.uid, server.account.gid)
    embedded_server.create(server, sync=False)
    for name, source in (("server.crt", certificate), ("server.key", key)):
        target = server.data / name
        target.write_bytes(source.read_bytes())
        target.chmod(0o600)
        if server.account is not None:
            os.chown(target, server.account.uid, server.account.gid)
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run_as: RunAs = server.account.run_as() if server.account is not None else {}
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "ssl": "on", "fsync": "off"}
    settings |= {"unix_socket_directories": str(server.run)}
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [folder / "postgres", "-D", server.data, *arguments], stdout=log, stderr=log, cwd="/", **run_as
        )
    try:
        _wait(port, home / "log")
        yield port
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


def _wait(port: int, log: Path) -> None:
    for _ in range(400):
        try:
            psycopg.connect(f"postgresql://tocsin@127.0.0.1:{port}/postgres?sslmode=require").close()
        except psycopg.Error:
            time.sleep(0.05)
        else:
            return
    pytest.fail(log.read_text())
