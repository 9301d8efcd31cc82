"""A primary and a streaming standby on Unix sockets, for tests of a failover: three seconds to start. Or a primary that
waits for a missing standby."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support.postgres import server_in
from tocsin.core import embedded_server
from tocsin.core.embedded_layout import RunAs
from tocsin.core.embedded_server import SUPERUSER, PostgresServer

_REPLICATES = {"wal_level": "replica", "max_wal_senders": "5", "synchronous_commit": "on"}


@dataclass(frozen=True, slots=True)
class Replicated:
    """Two servers, of which the first is the primary until `fail_over`."""

    primary: PostgresServer
    standby: PostgresServer
    pid: int

    def fail_over(self) -> None:
        """Kills the primary, all of its processes at once, and promotes the standby."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in (self.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        with psycopg.connect(self.standby.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote(true)")


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Both servers, running until the end. Commits on the primary wait for the standby."""
    home = Path(tempfile.mkdtemp(prefix="tocsin-standby-"))
    home.chmod(0o711)
    primary, standby = (_server(home / name) for name in ("primary", "standby"))
    try:
        embedded_server.create(primary, sync=False)
        pid = embedded_server.start(primary)
        embedded_server.wait_until_ready(primary, pid)
        with (primary.data / "pg_hba.conf").open("a") as file:
            file.write("\nlocal replication all trust\n")
        with psycopg.connect(primary.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            _copy(primary, standby)
            embedded_server.start(standby)
            _wait_until_streaming(connection)
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        yield Replicated(primary, standby, pid)
    finally:
        for server in (primary, standby):
            embedded_server.stop(server)
        shutil.rmtree(home, ignore_errors=True)


def _server(home: Path) -> PostgresServer:
    home.mkdir(mode=0o711)
    made = server_in(home)
    if made.account is not None:
        os.chown(home, made.account.uid, made.account.gid)
    return replace(made, settings={**made.settings, **_REPLICATES})


def _wait_until_streaming(connection: psycopg.Connection) -> None:
    end = time.monotonic() + 30
    while not connection.execute("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'").fetchone():
        assert time.monotonic() < end, "the standby does not follow"
        time.sleep(0.05)


def _copy(primary: PostgresServer, standby: PostgresServer) -> None:
    program = primary.binaries.postgres.with_name("pg_basebackup")
    arguments = ["-D", standby.data, "-h", primary.run, "-U", SUPERUSER, "-R", "-X", "stream", "-c", "fast"]
    run_as: RunAs = primary.account.run_as() if primary.account is not None else {}
    subprocess.run([program, *arguments, "--no-sync"], check=True, capture_output=True, cwd="/", **run_as)


def set_standbys(connection: psycopg.Connection, names: str) -> None:
    """Names the standbys that commits wait for; an empty text ends all waits."""
    setting = sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}")
    # Without waiting for the standby itself.
    connection.execute("SET synchronous_commit = local")
    connection.execute(setting.format(sql.Literal(names)))
    connection.execute("SELECT pg_reload_conf()")
    wait_until(connection, "SELECT current_setting('synchronous_standby_names') = %s", names)
    # It is the checkpointer that tells the others whether to wait: it reads its settings before a checkpoint.
    connection.execute("CHECKPOINT")


def wait_until(connection: psycopg.Connection, query: str, *parameters: object) -> None:
    for _ in range(500):
        row = connection.execute(query.encode(), parameters).fetchone()
        if row is not None and row[0]:
            return
        connection.execute("SELECT pg_sleep(0.02)")
    pytest.fail(query)
