"""Each test has its own database, for Django and Tocsin's pool alike."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection

from tests.support.postgres import Postgres, in_use
from tocsin.core.db import database as tocsin_database

_SESSION = "SELECT current_setting('search_path'), current_setting('statement_timeout')"


@pytest.mark.parametrize("turn", [1, 2])
def test_rows_of_one_test_are_invisible_to_the_next(database: str, turn: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_behind')")
        assert cursor.fetchone() == (None,)
        cursor.execute("CREATE TABLE left_behind (id int)")


def test_django_and_the_pool_use_the_same_database(database: str) -> None:
    with tocsin_database.transaction() as own:
        mine = own.execute("SELECT current_database()").fetchone()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == mine
    with psycopg.connect(database) as third:
        assert third.execute("SELECT current_database()").fetchone() == mine


def test_all_of_tocsins_tables_are_there(database: str) -> None:
    from django.apps import apps

    tables = {model._meta.db_table for model in apps.get_models() if model._meta.managed}
    assert tables <= set(connection.introspection.table_names())


def test_without_asking_for_a_database_a_test_cannot_reach_one() -> None:
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        connection.ensure_connection()


def test_database_is_dropped_despite_open_connections(postgres: Postgres) -> None:
    url = postgres.make("busy")
    connected = psycopg.connect(url)
    postgres.drop("busy")
    with pytest.raises(psycopg.OperationalError):
        connected.execute("SELECT 1")
    connected.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_session_options_in_url_are_kept_beside_tocsins_limits(database: str) -> None:
    text = "&options=-c%20search_path%3Dpg_catalog%20-c%20statement_timeout%3D1h"
    with in_use(f"{database}{text}"), tocsin_database.connect(name="test") as own, connection.cursor() as djangos:
        djangos.execute(_SESSION)
        assert own.execute(_SESSION).fetchone() == djangos.fetchone() == ("pg_catalog", "30s")


def test_an_address_of_several_servers_is_the_same_for_django() -> None:
    requests = tocsin_database.django_settings("postgresql://u:p%23a@a:5432,b:5433/t?target_session_attrs=read-write")
    assert (requests["HOST"], requests["PORT"], requests["NAME"], requests["PASSWORD"]) == (
        "a,b",
        "5432,5433",
        "t",
        "p#a",
    )
    assert requests["OPTIONS"]["target_session_attrs"] == "read-write"  # type: ignore[index]
