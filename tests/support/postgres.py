"""A real PostgreSQL for the tests: one server per test process, one migrated template, one database per test.

The server's data directory is a copy of one that contains the template (see `tests.support.postgres_template`).

The server is the bundled one, or the one in the folder that TOCSIN_TEST_POSTGRES_BIN names. A database is reused by the
next test if it can be reset (see `tests.support.resettable_database`), which is four times faster than a new one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests.support import kept_connections
from tests.support.postgres_template import copy_data
from tests.support.resettable_database import ResettableDatabase
from tocsin.core import embedded_layout, embedded_server
from tocsin.core.db import database as tocsin_database
from tocsin.core.embedded_layout import Binaries, SystemAccount, bundled, reachable_by
from tocsin.core.embedded_server import PostgresServer, settings

if "FAKETIME" in os.environ:
    # Under libfaketime, the server has the tests' time. Give it as an offset (`faketime -f +63d`): a moment would begin
    # anew in each process.
    embedded_server._ENVIRONMENT.update({name: os.environ[name] for name in ("LD_PRELOAD", "FAKETIME")})

TEMPLATE = "template_tocsin"
_PREFIX = "tocsin-tests-"

#: Free memory, in bytes, that a server in memory wants: a few databases of about 15 MB, and its log of writes.
_ROOM = 4 * 1024**3

#: Behind a database's URL: its sessions may only read, as those on a standby or after a failover.
TAKES_NO_WRITES = "&options=-c%20default_transaction_read_only%3Don"

#: Nothing here outlives the tests, so durability is traded for speed.
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum_naptime": "1h",
    "shared_buffers": "128MB",
    "max_connections": "200",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server, and the making and dropping of databases on it."""

    server: PostgresServer

    def url(self, name: str) -> str:
        return self.server.url(name)

    def make(self, name: str, template: str = "template0", encoding: str = "UTF8") -> str:
        """Makes a database as a copy of `template` and returns its URL."""
        # Copying files needs two checkpoints, which cost nothing without fsync; the default logs every page.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        if encoding != "UTF8":
            statement += sql.SQL(" ENCODING {} LOCALE_PROVIDER libc LOCALE 'C'").format(encoding)
        self._run(statement)
        return self.url(name)

    def drop(self, name: str) -> None:
        self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


class DatabasePool:
    """Lends databases that are as the template is: one that could be emptied again and again, and new ones."""

    def __init__(self, postgres: Postgres, template: str) -> None:
        self._postgres = postgres
        self._template = template
        self._kept: ResettableDatabase | None = None
        self._times = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    @contextmanager
    def lent(self) -> Iterator[str]:
        """A database for whoever asks, until the end; its URL."""
        name, pooled_database = self._take()
        self._times += 1
        try:
            # What Tocsin keeps in memory of a database it keeps by its address: nobody meets what was here before.
            yield f"{self._postgres.url(name)}&application_name=test{self._times}"
        finally:
            if pooled_database.empty() and self._kept is None:
                self._kept = pooled_database
            else:
                pooled_database.close()
                kept_connections.close(name)
                self._postgres.drop(name)

    def _take(self) -> tuple[str, ResettableDatabase]:
        if self._kept is None:
            name = f"test_{secrets.token_hex(6)}"
            return name, ResettableDatabase(self._postgres.make(name, self._template), name)
        pooled_database, self._kept = self._kept, None
        return pooled_database.name, pooled_database


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of its own until the end. One of its databases is TEMPLATE: Tocsin's tables, and no rows but those of
    the migrations."""
    _sweep()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))
    home.chmod(0o711)
    with _locked(home / "owner.lock"):
        server = server_in(home)
        try:
            copy_data(server, _make_data)
            with _started(server) as postgres:
                yield postgres
        finally:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _started(server: PostgresServer) -> Iterator[Postgres]:
    pid = embedded_server.start(server)
    try:
        embedded_server.wait_until_ready(server, pid)
        yield Postgres(server)
    finally:
        embedded_server.stop(server)


def _make_data(server: PostgresServer) -> None:
    """Makes a data directory with the migrated template, for every test process to copy."""
    from tocsin.core.db import migrate

    embedded_server.create(server, sync=False)
    with _started(server) as postgres, in_use(postgres.make(TEMPLATE)):
        migrate.migrate()


@pytest.fixture(scope="session")
def postgres(django_db_blocker: DjangoDbBlocker) -> Iterator[Postgres]:
    """The session's server."""
    with ExitStack() as stack:
        with django_db_blocker.unblock():
            server = stack.enter_context(running())
        yield server


@pytest.fixture(scope="session")
def template() -> str:
    """The name of a database with Tocsin's tables and no rows but those of the migrations."""
    return TEMPLATE


@pytest.fixture(scope="session")
def database_pool(postgres: Postgres, template: str) -> Iterator[DatabasePool]:
    """Where a test's database comes from, and is left for the next one."""
    with DatabasePool(postgres, template) as databases:
        yield databases


@contextmanager
def filled(
    postgres: Postgres, template: str, blocker: DjangoDbBlocker, fill: Callable[[], None]
) -> Iterator[DatabasePool]:
    """Lends databases in which the rows of `fill` are: it runs once, in a template of its own."""
    name = f"template_{secrets.token_hex(6)}"
    with blocker.unblock(), in_use(postgres.make(name, template)):
        fill()
    with DatabasePool(postgres, name) as databases:
        yield databases


@pytest.fixture
def database(database_pool: DatabasePool, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A migrated database of the test's own, used by Django and by Tocsin's pool. Gives its URL."""
    with database_pool.lent() as url, django_db_blocker.unblock(), in_use(url, is_kept=True):
        yield url


@contextmanager
def new_database(postgres: Postgres, template: str, blocker: DjangoDbBlocker) -> Iterator[str]:
    """A migrated database, in use until the end."""
    name = f"test_{secrets.token_hex(6)}"
    url = postgres.make(name, template)
    try:
        with blocker.unblock(), in_use(url):
            yield url
    finally:
        postgres.drop(name)


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """Takes the place of pytest-django's own database: here a test asks for `database`."""
    raise pytest.UsageError("Ask for the fixture `database`, not for pytest-django's.")


@contextmanager
def in_use(url: str, *, is_kept: bool = False) -> Iterator[None]:
    """Points Django and Tocsin's own pool at the database, with no connection left from before or to afterwards, but
    for those that are kept for whom the database is lent to next."""
    from django.db import connections

    connections.close_all()
    # Every thread's connection shares this very dict.
    connections.settings["default"].update(tocsin_database.django_settings(url))
    tocsin_database.use(url)
    try:
        yield
    finally:
        with kept_connections.kept() if is_kept else nullcontext():
            connections.close_all()
            tocsin_database.close()


def server_in(home: Path) -> PostgresServer:
    """A server of its own in a folder, not made yet."""
    account = embedded_layout.find_or_make() if os.geteuid() == 0 else None
    run = home / "run"
    run.mkdir(mode=0o700)
    if account is not None:
        os.chown(run, account.uid, account.gid)
    return PostgresServer(
        binaries=_binaries(account, home / "bin"),
        data=home / "data",
        run=run,
        lock=home / "server.lock",
        log=home / "start.log",
        account=account,
        settings={**settings(memory_bytes=0), **_FAST},
    )


def _binaries(account: SystemAccount | None, copies: Path) -> Binaries:
    chosen = os.environ.get("TOCSIN_TEST_POSTGRES_BIN")
    if not chosen:
        return reachable_by(account, bundled(), copies)
    folder = Path(chosen)
    text = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    # "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"
    return Binaries(folder=folder, version=text.split()[2])


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parent() -> Path:
    """Where the server's folder is made: in memory where there is room, since every test copies a database."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _ROOM:
        return memory
    return Path(tempfile.gettempdir())


def _sweep() -> None:
    """Ends the servers of test processes that were killed, and removes their folders."""
    for home in _parent().glob(f"{_PREFIX}*"):
        try:
            with (home / "owner.lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                server = PostgresServer(
                    binaries=bundled(), data=home / "data", run=home / "run", lock=home / "server.lock",
                    log=home / "start.log", account=None, settings={},
                )  # fmt: skip
                embedded_server.stop(server)
                shutil.rmtree(home, ignore_errors=True)
        except OSError:
            continue  # Not ours, in use, or gone in this moment.
