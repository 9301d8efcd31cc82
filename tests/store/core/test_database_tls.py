"""The connection to PostgreSQL is encrypted and its certificate verified, against an authority of one's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection as django_connection

from tests.doubles.certificates import make_certificate
from tests.support.postgres import in_use
from tests.support.tls_server import tls_server
from tocsin.core.db import database as db
from tocsin.core.db.start_up import wait_for_database

_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    make_certificate(folder)
    with tls_server(folder / "certificate.pem", folder / "key.pem") as port:
        yield port


def address(port: int, authority: Path, host: str = "localhost") -> str:
    return f"postgresql://tocsin@{host}:{port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={authority}"


def connect() -> None:
    with db.connect(name="test") as connection:
        assert connection.execute(_ENCRYPTED).fetchone() == (True,)


@pytest.mark.usefixtures("database")
def test_tocsin_and_django_verify_an_own_authority(port: int, folder: Path) -> None:
    with in_use(address(port, folder / "certificate.pem")):
        wait_for_database(connect)
        with django_connection.cursor() as cursor:
            cursor.execute(_ENCRYPTED)
            assert cursor.fetchone() == (True,)


@pytest.mark.usefixtures("database")
def test_server_probes_a_silent_session_for_15_seconds(port: int, folder: Path) -> None:
    query = "SELECT name, setting::int FROM pg_settings WHERE name LIKE 'tcp_%'"
    with in_use(address(port, folder / "certificate.pem")), db.connect(name="test") as connection:
        seconds: dict[str, int] = dict(connection.execute(query).fetchall())
    probes = seconds["tcp_keepalives_interval"] * seconds["tcp_keepalives_count"]
    assert 0 < seconds["tcp_keepalives_idle"] + probes <= 15
    assert seconds["tcp_user_timeout"] == 15_000


@pytest.mark.usefixtures("database")
def test_untrusted_certificate_ends_the_start_at_once(port: int, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    began = time.monotonic()
    for name, sentence in (("certificate.pem", "name the file of the right authority"), ("missing.pem", "missing")):
        with in_use(address(port, tmp_path / name)), pytest.raises(psycopg.OperationalError, match=sentence):
            wait_for_database(connect)
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("database")
def test_certificate_of_another_host_is_refused(port: int, folder: Path) -> None:
    url = address(port, folder / "certificate.pem", host="db.example.org")
    with in_use(url), pytest.raises(psycopg.OperationalError, match="does not match host name"):
        wait_for_database(connect)
