"""Fixtures of the store tests."""

from __future__ import annotations

import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pytest_django import DjangoDbBlocker

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.escalation_harness import make_desk
from tests.support.halo_pair import HaloPair, halo_pair
from tests.support.ingest import NOW
from tests.support.outbox_harness import OutboxHarness, allow_loopback, configured, outbox_harness
from tests.support.postgres import DatabasePool, Postgres, filled, in_use
from tocsin.core.config import environment
from tocsin.core.db import migrate
from tocsin.core.embedded_layout import separate_location
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.notify.dispatch import send


@pytest.fixture(scope="session")
def desk_database_pool(postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker) -> Iterator[DatabasePool]:
    """Lends databases in which the desk of `EscalationHarness` is."""
    with filled(postgres, template, django_db_blocker, lambda: make_desk(NOW)) as databases:
        yield databases


@pytest.fixture
def database(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of the test's own, with the desk in it where the test asks for that."""
    pool = "desk_database_pool" if "desk" in request.fixturenames else "database_pool"
    with request.getfixturevalue(pool).lent() as url, django_db_blocker.unblock(), in_use(url, is_kept=True):
        yield url


@pytest.fixture
def post(database: str, now: datetime) -> Iterator[OutboxHarness]:
    """An outbox and nothing else."""
    with outbox_harness(now) as harness:
        yield harness


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpDouble]:
    """A mail server, which is Tocsin's only provider."""
    with smtp_double() as double:
        configured(monkeypatch, smtp_url=double.url, email_from="Tocsin <tocsin@example.org>")
        yield double


@pytest.fixture
def sandbox_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a channel without a provider keeps counts as sent, as in the demo: for tests of what follows a page."""
    monkeypatch.setattr(send, "counts_as_sent", True)


@contextmanager
def _short_folder() -> Iterator[Path]:
    """An empty folder at a short path which every user may pass through; pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-embedded-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Such a folder."""
    with _short_folder() as path:
        yield path


@pytest.fixture
def data_dir(folder: Path) -> Path:
    """A data directory that does not exist yet, for the embedded PostgreSQL."""
    return folder / "data"


@pytest.fixture
def own_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables of the environment, read anew, name a data directory of the test's own."""
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path / "data"))
    environment.read_again()
    yield
    environment.read_again()


@pytest.fixture(scope="session")
def made_data_dir() -> Iterator[Path]:
    """A data directory in which the embedded PostgreSQL was made and stopped, to copy."""
    with _short_folder() as path:
        with EmbeddedPostgres(path / "data"):
            pass
        yield path / "data"


@pytest.fixture
def used_data_dir(folder: Path, made_data_dir: Path) -> Path:
    """A data directory in which the embedded PostgreSQL ran before, which is quicker than making one."""
    # `cp` keeps the owner, who is another account than root.
    subprocess.run(["cp", "-a", made_data_dir, folder], check=True)
    return folder / made_data_dir.name


@pytest.fixture(scope="session")
def replicating_server(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A server that can have standbys; the URL of a database with Tocsin's tables, to copy."""
    with _short_folder() as folder, EmbeddedPostgres(folder / "data") as embedded:
        url = embedded.start()
        with django_db_blocker.unblock(), in_use(url):
            migrate.migrate()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture
def primary(replicating_server: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database with Tocsin's tables on a server that can have standbys."""
    template, name = str(conninfo_to_dict(replicating_server)["dbname"]), f"test_{secrets.token_hex(6)}"
    url = replicating_server.replace(f"/{template}?", f"/{name}?")
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(replicating_server, dbname="postgres", autocommit=True) as connection:
        connection.execute(copy)
    with django_db_blocker.unblock(), in_use(url):
        yield url


@pytest.fixture
def without_trace() -> Iterator[Callable[[Path], Path]]:
    """Gives back the data directory it is told of; at the end, removes what Tocsin put elsewhere because of it."""
    paths: list[Path] = []

    def remember(data_dir: Path) -> Path:
        paths.append(data_dir)
        return data_dir

    yield remember
    for place in map(separate_location, paths):
        for path in (place, *Path("/tmp").glob(f"tocsin-*-{place.name}")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@pytest.fixture
def ordinary_uid() -> int:
    """The number of a user without any rights, for processes that root starts as somebody else."""
    return pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def both(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[HaloPair]:
    """Tocsin and a Halo double, connected both ways, at the moment of the tests."""
    allow_loopback(monkeypatch)
    with halo_pair(now) as made:
        made.connect()
        made.hook()
        yield made
