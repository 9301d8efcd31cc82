"""The pool lends working connections without a query each time."""

from __future__ import annotations

import psycopg

from tocsin.core.db import database as tocsin_database


def lent() -> int:
    """The backend of the connection that the pool lends next."""
    with tocsin_database.pool().connection() as connection:
        return connection.info.backend_pid


def test_a_connection_that_the_server_closed_meanwhile_is_not_lent(database: str) -> None:
    first = lent()
    with psycopg.connect(database, autocommit=True) as other:
        # Waits until it is gone, for ten seconds at most.
        assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (first,)).fetchone() == (True,)
    with tocsin_database.transaction() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.info.backend_pid != first


def test_reused_connection_is_not_probed_first(database: str) -> None:
    with tocsin_database.pool().connection() as connection:
        connection.execute("SELECT 42 AS answer")
    with tocsin_database.pool().connection() as again, psycopg.connect(database) as other:
        lines = other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (again.info.backend_pid,)).fetchone()
    assert lines == ("SELECT 42 AS answer",)
