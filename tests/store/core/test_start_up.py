"""Startup waits for an unavailable database and fails where waiting is useless."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connections
from django.db.migrations.exceptions import MigrationSchemaMissing
from psycopg.conninfo import make_conninfo

from tests.doubles.postgres_relay import Relay, socket_of
from tests.support.embedded_server import postmaster_pid
from tests.support.postgres import in_use
from tocsin.core.db import database as db
from tocsin.core.db.base import DatabaseWrapper
from tocsin.core.db.start_up import wait_for_database
from tocsin.core.embedded_server import EmbeddedPostgres


def select_one() -> tuple[int]:
    with db.connect(name="test") as connection:
        row = connection.execute("SELECT 1").fetchone()
    assert row is not None
    return (row[0],)


def test_a_start_waits_until_the_server_accepts_connections(database: str) -> None:
    relay = Relay(socket_of(database))
    tried = threading.Event()

    def try_it() -> tuple[int]:
        try:
            return select_one()
        finally:
            tried.set()

    with in_use(relay.url(database)):
        threading.Thread(target=lambda: tried.wait(10) and relay.start(), daemon=True).start()
        try:
            assert wait_for_database(try_it, timedelta(seconds=20)) == (1,)
        finally:
            relay.stop()


def test_a_start_without_patience_fails_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with in_use(f"postgresql://127.0.0.1:{port}/nothing"), pytest.raises(psycopg.OperationalError):
        wait_for_database(select_one, timedelta())


def test_unchanged_problem_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with in_use(f"postgresql://127.0.0.1:{port}/nothing"), pytest.raises(psycopg.OperationalError):
        wait_for_database(select_one, timedelta(seconds=1.2))
    assert len([record for record in caplog.records if record.name == wait_for_database.__module__]) == 1


def test_start_does_not_wait_for_a_nonexistent_database(database: str) -> None:
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        return select_one()

    with in_use(make_conninfo(database, dbname="no_such_database")), pytest.raises(psycopg.OperationalError):
        wait_for_database(try_it, timedelta(seconds=60))
    assert len(tries) == 2


def test_start_waits_while_all_connections_are_used(database: str) -> None:
    """The role's limit gives the error that max_connections gives to all roles."""
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        if len(tries) == 4:
            operator.execute("ALTER ROLE crowded CONNECTION LIMIT -1")
        return select_one()

    with psycopg.connect(database, autocommit=True) as operator:
        operator.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        try:
            with in_use(make_conninfo(database, user="crowded")):
                assert wait_for_database(try_it, timedelta(seconds=60)) == (1,)
        finally:
            operator.execute("DROP ROLE crowded")
    assert len(tries) == 4


def test_a_start_survives_connections_that_the_server_ends(database: str) -> None:
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        if len(tries) < 4:
            with db.connect(name="test") as connection:
                connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return select_one()

    with in_use(database):
        assert wait_for_database(try_it, timedelta(seconds=60)) == (1,)


def test_start_survives_standing_still_in_a_transaction(database: str) -> None:
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        if len(tries) == 1:
            with db.connect(name="test") as connection, connection.transaction():
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = '1ms'")
                assert select.select([connection], [], [], 30)[0], "PostgreSQL has not ended the session"
                connection.execute("SELECT 1")
        return select_one()

    with in_use(database):
        assert wait_for_database(try_it, timedelta(seconds=60)) == (1,)
    assert len(tries) == 2


def test_a_start_survives_a_lost_connection_that_django_reports(database: str) -> None:
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        if len(tries) < 3:
            try:
                raise OperationalError from psycopg.errors.AdminShutdown()
            except OperationalError as error:
                raise MigrationSchemaMissing(str(error))  # noqa: B904 - as Django does
        return select_one()

    with in_use(database):
        assert wait_for_database(try_it, timedelta(seconds=60)) == (1,)


def test_a_start_restarts_the_embedded_server_when_it_is_killed(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    url = embedded.start()
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        if len(tries) < 3:
            os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        return select_one()

    try:
        with in_use(url):
            assert wait_for_database(try_it, timedelta(seconds=60), revive=embedded.start) == (1,)
    finally:
        embedded.release()


def test_pgbouncer_that_rejects_options_is_named_with_remedy() -> None:
    text = b"SFATAL\0C08P01\0Munsupported startup parameter in options: statement_timeout\0\0"
    with socket.create_server(("127.0.0.1", 0)) as pooler:

        def reject() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = pooler.accept()
                    with client:
                        client.recv(1000)
                        client.sendall(b"E" + (len(text) + 4).to_bytes(4) + text)

        threading.Thread(target=reject, daemon=True).start()
        url = f"postgresql://127.0.0.1:{pooler.getsockname()[1]}/tocsin?sslmode=disable&gssencmode=disable"
        with in_use(url), pytest.raises(psycopg.OperationalError, match="ignore_startup_parameters"):
            select_one()
        django_connection = DatabaseWrapper({**connections["default"].settings_dict, **db.django_settings(url)})
        errors = pytest.raises(OperationalError, match="ignore_startup_parameters")
        with errors, django_connection.wrap_database_errors:
            django_connection.connect()
        pooler.shutdown(socket.SHUT_RDWR)
