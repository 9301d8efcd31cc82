"""The databases that tests borrow: what one leaves behind, the next does not meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.support.postgres import DatabasePool, Postgres, in_use
from tocsin.core.db import database as db

type Borrow = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def borrow(postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker) -> Iterator[Borrow]:
    """Borrows a database from a pool of the test's own."""
    with DatabasePool(postgres, template) as pool, django_db_blocker.unblock():

        @contextmanager
        def borrowed() -> Iterator[None]:
            with pool.lent() as url, in_use(url, is_kept=True):
                yield

        yield borrowed


def value(statement: str) -> object:
    """What the statement returns, on Django's connection."""
    with connection.cursor() as cursor:
        row = cursor.execute(statement).fetchone()
    assert row is not None
    return row[0]


def test_rows_and_numbers_begin_anew(borrow: Borrow) -> None:
    with borrow():
        name, rows, first = value("SELECT current_database()"), Group.objects.count(), Group.objects.create(name="A").pk
    with borrow():
        assert (value("SELECT current_database()"), Group.objects.count()) == (name, rows)
        value("SELECT nextval('auth_group_id_seq')")
    with borrow():
        assert Group.objects.create(name="A").pk == first


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE auth_group ADD COLUMN more int", "DELETE FROM django_content_type", "ANALYZE django_session"],
)
def test_database_that_differs_in_more_is_given_up(borrow: Borrow, change: str) -> None:
    with borrow():
        name = value("SELECT current_database()")
        with db.transaction() as changing:
            changing.execute("SET LOCAL session_replication_role = replica")
            changing.execute(change.encode())
    with borrow():
        assert value("SELECT current_database()") != name


def test_kept_session_has_no_state_of_the_test_before(borrow: Borrow) -> None:
    with borrow():
        pid = value("SELECT pg_backend_pid()")
        for statement in (
            "SET work_mem = '1234kB'", "SELECT pg_advisory_lock(7)", "LISTEN somebody", "SET ROLE pg_monitor",
            "CREATE TEMPORARY TABLE auth_group AS SELECT 1 AS id",
        ):  # fmt: skip
            connection.cursor().execute(statement)
    with borrow():
        assert value("SELECT pg_backend_pid()") == pid
        assert value("SHOW work_mem") != "1234kB"
        assert value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()") == 0
        assert value("SELECT count(*) FROM pg_listening_channels()") == 0
        assert value("SELECT current_user = session_user") is True
        assert value("SELECT relpersistence FROM pg_class WHERE oid = 'auth_group'::regclass") == "p"


@pytest.mark.parametrize("end", ["BEGIN", "SELECT pg_terminate_backend({pid}, 10000)"])
def test_unusable_session_is_replaced(borrow: Borrow, end: str) -> None:
    with borrow():
        pid = value("SELECT pg_backend_pid()")
        if end == "BEGIN":
            connection.cursor().execute(end)
        else:
            with db.connection() as other:
                other.execute(end.format(pid=pid).encode())
    with borrow():
        assert value("SELECT pg_backend_pid()") != pid
