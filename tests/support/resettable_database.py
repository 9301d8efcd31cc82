"""Resets a used test database when only rows changed: deletes all rows and restores the rows of the template.

What else a test may change (tables, indexes, statistics, settings) is noticed, and such a database is given up.
"""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

#: Migrations fill these; no test writes to them.
_FILLED = ("auth_permission", "django_content_type", "django_migrations")

#: Beyond this size, in bytes, a table's dead rows would slow the next test, and change what PostgreSQL plans.
_MAX_RELATION_BYTES = 512 * 1024

_TABLES = "relnamespace = 'public'::regnamespace AND relkind = 'r'"

#: What says of everything but rows how it is; whatever changes it writes here, by a transaction of its own.
_CATALOGS = ("pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_trigger", "pg_proc")

#: Two databases with the same are alike but for their rows. (What ANALYZE finds is written without a transaction.)
_SHAPE = f"""
SELECT {", ".join(f"(SELECT (count(*), sum(xmin::text::bigint)) FROM {name})::text" for name in _CATALOGS)},
       (SELECT (count(*), sum(xmin::text::bigint), sum(reltuples)) FROM pg_class)::text,
       (SELECT count(*) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'),
       (SELECT count(*) FROM pg_db_role_setting),
       {", ".join(f"(SELECT count(*) FROM {name})" for name in _FILLED)},
       (SELECT max(pg_relation_size(oid)) > {_MAX_RELATION_BYTES} FROM pg_class WHERE {_TABLES})
"""

_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

#: Ends the other sessions: a test that ends does not wait for what its threads and processes hold. PostgreSQL looks
#: every 100 ms whether one has ended, so those that are about to end get some milliseconds first.
_ALONE = f"SELECT bool_and(pg_terminate_backend(pid, 5000)) {_OTHERS}"
_GRACE = 20


class ResettableDatabase:
    """A database, and the connection by which it is emptied."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        # One who holds a connection all the time spares PostgreSQL planning anew.
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._connection.execute(_function(self._connection))
        self._shape = self._read_shape()

    def empty(self) -> bool:
        """Whether it is now what it was at first."""
        try:
            self._wait_alone()
            if self._read_shape() != self._shape:
                return False
            self._connection.execute("SELECT pg_temp.emptied()")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        self._connection.close()

    def _wait_alone(self) -> None:
        for _ in range(_GRACE):
            if not self._connection.execute(f"SELECT {_OTHERS} LIMIT 1").fetchall():
                return
            time.sleep(0.001)
        self._connection.execute(_ALONE)

    def _read_shape(self) -> tuple[object, ...] | None:
        return self._connection.execute(_SHAPE).fetchone()


def _function(connection: psycopg.Connection) -> sql.Composed:
    """The statement that makes the function which restores all tables; what is in it is planned once."""
    tables = connection.execute(f"SELECT relname FROM pg_class WHERE {_TABLES} ORDER BY relname").fetchall()
    numbers = connection.execute(
        "SELECT sequencename, start_value, last_value FROM pg_sequences WHERE schemaname = 'public'"
    )
    restored = [_restore(connection, table) for (table,) in tables if table not in _FILLED]
    begin = [
        sql.SQL("PERFORM setval({}::regclass, {}, {});").format(f"public.{name}", last or start, last is not None)
        for name, start, last in numbers.fetchall()
        if not name.startswith(_FILLED)
    ]
    # Without triggers the order of tables does not matter: all of them are restored.
    return sql.SQL(
        "CREATE FUNCTION pg_temp.emptied() RETURNS void LANGUAGE plpgsql SET session_replication_role = replica "
        "AS $$ BEGIN {} END $$"
    ).format(sql.SQL("\n").join([*restored, *begin]))


def _restore(connection: psycopg.Connection, table: str) -> sql.Composed:
    """Empties a table, and fills it from a copy if it has rows now."""
    name, copy = sql.Identifier("public", table), sql.Identifier("pg_temp", f"was_{table}")
    empty = sql.SQL("IF EXISTS (SELECT FROM {0}) THEN DELETE FROM {0}; END IF;").format(name)
    if connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(name)).fetchone() is None:
        return empty
    written = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' ORDER BY attnum",
        (f'public."{table}"',),
    )
    columns = sql.SQL(", ").join(sql.Identifier(column) for (column,) in written.fetchall())
    connection.execute(sql.SQL("CREATE TABLE {} AS SELECT {} FROM {}").format(copy, columns, name))
    fill = sql.SQL("INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM {2};").format(name, columns, copy)
    return sql.SQL("{} {}").format(empty, fill)
