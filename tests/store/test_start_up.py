"""Startup waits for an unavailable database and fails where waiting is useless."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.doubles.postgres_relay import Relay, socket_of
from tests.support.postgres import in_use
from tocsin.core.db import database as db
from tocsin.core.db.start_up import wait_for_database


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


def test_start_does_not_wait_for_a_nonexistent_database(database: str) -> None:
    tries = []

    def try_it() -> tuple[int]:
        tries.append(1)
        return select_one()

    with in_use(make_conninfo(database, dbname="no_such_database")), pytest.raises(psycopg.OperationalError):
        wait_for_database(try_it, timedelta(seconds=60))
    assert len(tries) == 2
