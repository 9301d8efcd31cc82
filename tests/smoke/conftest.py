"""A mail server, and installations with real processes on a durable or embedded PostgreSQL."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.installation import CONFIGURATION, Installation
from tocsin.core.config import crypto
from tocsin.core.embedded_server import DATABASE, EmbeddedPostgres


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder starts the real thing."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.smoke)


@pytest.fixture
def mails() -> Iterator[SmtpDouble]:
    """A mail server that keeps what it gets."""
    with smtp_double() as double:
        yield double


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder at a short path which PostgreSQL's account may pass through; pytest's own is closed to others."""
    path = _short_folder()
    yield path
    shutil.rmtree(path)


@dataclass(frozen=True)
class Durable:
    """A PostgreSQL that keeps what it says it kept, with a configured database to copy."""

    url_of: Callable[[str], str]
    secret_key: str
    token: str

    def execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def configured() -> Iterator[Installation]:
    """An installation on one machine, set up once by `tocsin apply`, for others to copy. It never runs."""
    home = _short_folder()
    first = Installation(home, is_forked=True)
    # The commands share a server that runs already: they are quicker, and stay far from their time limit.
    with EmbeddedPostgres(first.data_dir):
        first.apply(CONFIGURATION)
        first.make_token()
    yield first
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def durable(configured: Installation) -> Iterator[Durable]:
    """One server for all tests, with a database that is configured."""
    home = _short_folder()
    copied = _copy(configured, home)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        url = stack.enter_context(_used(EmbeddedPostgres(copied)))

        def url_of(name: str) -> str:
            return url.replace(f"postgresql:///{DATABASE}?", f"postgresql:///{name}?")

        yield Durable(url_of, crypto.stored_key(copied), configured.token)


def _short_folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tocsin-smoke-", dir="/tmp"))
    path.chmod(0o755)
    return path


def _copy(installation: Installation, home: Path) -> Path:
    """Copies the data directory, owners included, and returns the copy."""
    subprocess.run(["cp", "-a", installation.data_dir, home], check=True)
    return home / installation.data_dir.name


@pytest.fixture
def tocsin(durable: Durable, mails: SmtpDouble, home: Path) -> Iterator[Installation]:
    """A configured installation on a database of its own, as on several machines; no node runs yet. Its nodes and
    commands are forked: those of `single` start as users start them."""
    name = f"smoke_{secrets.token_hex(6)}"
    durable.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(DATABASE)
        )
    )
    environment = {
        "TOCSIN_DATABASE_URL": durable.url_of(name),
        "TOCSIN_SECRET_KEY": durable.secret_key,
        "TOCSIN_SMTP_URL": mails.url,
        "TOCSIN_EMAIL_FROM": "tocsin@example.org",
    }
    installation = Installation(home, environment, durable.token, is_forked=True)
    try:
        yield installation
    finally:
        installation.end()
        durable.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def single(configured: Installation, mails: SmtpDouble, home: Path) -> Iterator[Installation]:
    """A configured installation on one machine, with the embedded PostgreSQL; no node runs yet."""
    _copy(configured, home)
    environment = {"TOCSIN_SMTP_URL": mails.url, "TOCSIN_EMAIL_FROM": "tocsin@example.org"}
    installation = Installation(home, environment, configured.token)
    try:
        yield installation
    finally:
        installation.end()
        _stop_leftover_postgres(installation)


def _stop_leftover_postgres(installation: Installation) -> None:
    """A node that was killed leaves its PostgreSQL running for whoever comes next: one who ends it."""
    embedded = EmbeddedPostgres(installation.data_dir)
    embedded.start()
    embedded.release()


class _used:
    """An embedded server in use, as a context whose value is its address."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    def __enter__(self) -> str:
        return self._server.start()

    def __exit__(self, *_: object) -> None:
        self._server.release()
