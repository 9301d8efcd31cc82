"""The pipelined connection behaves like psycopg's own, at any size."""

from __future__ import annotations

from typing import LiteralString

import pytest
from psycopg import errors

from tocsin.core.db import database
from tocsin.core.db.database import Connection

pytestmark = pytest.mark.usefixtures("database")

LARGE = 4 * 1024 * 1024


def _ask(connection: Connection, *queries: LiteralString) -> None:
    with connection.pipeline():
        for query in queries:
            connection.execute(query)


def test_more_than_a_socket_takes_is_written_all_the_same() -> None:
    with database.connect(name="test") as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT length(%b::bytea)", (bytes(LARGE + number),)) for number in range(8)]
        assert [one.fetchone() for one in cursors] == [(LARGE + number,) for number in range(8)]


def test_full_response_buffer_during_sending_never_deadlocks() -> None:
    with database.connect(name="test") as connection:
        with connection.pipeline():
            cursors = [
                connection.execute("SELECT repeat('x', %s), length(%b::bytea)", (LARGE, bytes(LARGE))) for _ in range(6)
            ]
        assert [len(row[0]) for one in cursors for row in one] == [LARGE] * 6


def test_small_statements_keep_their_order() -> None:
    with database.connect(name="test") as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(200)]
        assert [one.fetchone() for one in cursors] == [(number,) for number in range(200)]


def test_what_fails_is_raised_and_the_connection_goes_on() -> None:
    with database.connect(name="test") as connection:
        with pytest.raises(errors.DivisionByZero):
            _ask(connection, "SELECT 1", "SELECT 1 / 0", "SELECT 2")
        assert connection.execute("SELECT 3").fetchone() == (3,)


def test_cancelled_statement_is_reported() -> None:
    with database.connect(name="test") as connection:
        connection.execute("SET statement_timeout = '50ms'")
        with pytest.raises(errors.QueryCanceled):
            _ask(connection, "SELECT pg_sleep(10)")
        assert connection.execute("SELECT 1").fetchone() == (1,)
