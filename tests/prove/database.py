"""PostgreSQL is stopped, frozen, restarted, locked, full, read-only, or has no connection left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from tests.prove.bench import Bench, Fault, short_folder
from tests.prove.scenario import Scenario
from tests.prove.worlds import OwnPostgres, embedded, external
from tests.support.installation import Installation

#: Seconds for which the database is away, and in the short version.
_AWAY, _AWAY_SHORT = 60.0, 15.0
_RESTARTS = 20
_TABLES = ("alerts_alert", "inbound_inboundmessage", "escalation_run", "notify_delivery")
#: Megabytes: the database fits, with little room for more.
_DISK = 400


def _away(bench: Bench) -> None:
    bench.sleep(0, 1)
    time.sleep(_AWAY_SHORT if bench.is_short else _AWAY)


def _postgres(bench: Bench) -> OwnPostgres:
    bench.sleep(0.5, 2.0)
    postgres: OwnPostgres = bench.parts["postgres"]
    return postgres


def _stop(bench: Bench) -> Fault:
    postgres = _postgres(bench)
    postgres.stop()
    _away(bench)
    postgres.start()
    postgres.wait_until_ready()
    return Fault("PostgreSQL stopped", time.monotonic(), is_over=True)


def _freeze(bench: Bench) -> Fault:
    """Like a machine that is paused: its kernel acknowledges packets, and nothing answers."""
    postgres = _postgres(bench)
    children = Path(f"/proc/{postgres.pid}/task/{postgres.pid}/children").read_text().split()
    pids = [postgres.pid, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    _away(bench)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return Fault("PostgreSQL frozen", time.monotonic(), is_over=True)


def _restart(bench: Bench) -> Fault:
    postgres = _postgres(bench)
    for _ in range(_RESTARTS):
        postgres.stop(bench.rng.choice((signal.SIGINT, signal.SIGQUIT)))
        postgres.start()
        postgres.wait_until_ready()
        bench.sleep(0, 2)
    return Fault(f"PostgreSQL restarted {_RESTARTS} times", time.monotonic(), is_over=True)


def _terminate(bench: Bench) -> Fault:
    postgres = _postgres(bench)
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        for _ in range(20):
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tocsin'")
            bench.sleep(0, 1)
    return Fault("connections terminated 20 times", time.monotonic(), is_over=True)


def _lock(bench: Bench) -> Fault:
    """As a migration, an index or a dump does."""
    postgres = _postgres(bench)
    table, mode = bench.rng.choice(_TABLES), bench.rng.choice(("ACCESS EXCLUSIVE", "SHARE"))
    with psycopg.connect(postgres.url) as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.Identifier(table), sql.SQL(mode)))
        _away(bench)
    return Fault("a table locked", time.monotonic(), f"{table} in {mode} mode", is_over=True)


def _use_up(bench: Bench) -> Fault:
    """Others hold every connection, and Tocsin loses some of its own."""
    postgres = _postgres(bench)
    held: list[psycopg.Connection] = []
    try:
        with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
            _connect_until_full(postgres, held)
            count = bench.rng.randint(0, 5)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = 'tocsin' "
                "ORDER BY random() LIMIT %s) AS victims", (count,),
            )  # fmt: skip
            _connect_until_full(postgres, held)
            _away(bench)
    finally:
        for one in held:
            one.close()
    return Fault("connections used up", time.monotonic(), f"{count} of Tocsin's own terminated", is_over=True)


def _connect_until_full(postgres: OwnPostgres, held: list[psycopg.Connection]) -> None:
    with suppress(psycopg.OperationalError):
        while True:
            held.append(psycopg.connect(postgres.url_of("postgres")))


def _read_only(bench: Bench) -> Fault:
    postgres = _postgres(bench)
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        _away(bench)
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")
    return Fault("PostgreSQL read-only", time.monotonic(), is_over=True)


@contextmanager
def _small_disk(configured: Installation) -> Iterator[Bench]:
    """One node whose data directory, with the built-in PostgreSQL, is on a small file system of its own."""
    with short_folder() as folder:
        place = folder / "disk"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}m,mode=755", "none", place], check=True)
        try:
            with embedded(configured, place) as bench:
                bench.parts["disk"] = place
                yield bench
        finally:
            subprocess.run(["umount", "-l", place], check=False)


def _fill_disk(bench: Bench) -> Fault:
    bench.sleep(0.5, 2.0)
    ballast = bench.parts["disk"] / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 65_536):
            pass
    # What PostgreSQL frees is taken too.
    end = time.monotonic() + (_AWAY_SHORT if bench.is_short else _AWAY)
    with ballast.open("ab", buffering=0) as file:
        while time.monotonic() < end:
            with suppress(OSError):
                file.write(b"\0" * 4096)
            time.sleep(0.05)
    ballast.unlink()
    return Fault("disk full", time.monotonic(), is_over=True)


def _scenario(name: str, act: Callable[[Bench], Fault], *, short_runs: int = 1) -> Scenario:
    return Scenario(name, external, act, short_runs=short_runs)


SCENARIOS = [
    _scenario("database-stopped", _stop),
    _scenario("database-frozen", _freeze, short_runs=0),
    _scenario("database-restarted", _restart),
    _scenario("connections-terminated", _terminate),
    _scenario("table-locked", _lock),
    _scenario("connections-used-up", _use_up),
    _scenario("database-read-only", _read_only),
    Scenario("disk-full", _small_disk, _fill_disk, programs=("mount",), needs_root=True),
]
