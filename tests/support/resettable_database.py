"""Resets a used test database when only rows changed: where they did, deletes all and restores those of the template.

What else a test may change (tables, indexes, statistics, settings) is noticed, and such a database is given up.
PostgreSQL's own statistics say which tables changed: a session has added to them by the time it has ended.
"""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

from tests.support import kept_connections

#: Migrations fill these; no test writes to them.
_FILLED = ("auth_permission", "django_content_type", "django_migrations")

#: Beyond this size, in bytes, a table's dead rows would slow the next test, and change what PostgreSQL plans.
_MAX_RELATION_BYTES = 512 * 1024

#: What says of everything but rows how it is; whatever changes it writes here, by a transaction of its own.
_CATALOGS = ("pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_trigger", "pg_proc")

#: Two databases with the same are alike but for their rows.
_SHAPE = f"""
SELECT {", ".join(f"(SELECT (count(*), sum(xmin::text::bigint)) FROM {name})::text" for name in _CATALOGS)},
       (SELECT (count(*), sum(xmin::text::bigint)) FROM pg_class)::text,
       (SELECT count(*) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'),
       (SELECT count(*) FROM pg_db_role_setting),
       {", ".join(f"(SELECT count(*) FROM {name})" for name in _FILLED)}
"""

#: The tables and sequences whose changes are counted. All that are not restored have the number 0.
_WATCH = f"""
CREATE TEMPORARY TABLE watched AS
SELECT CASE WHEN relnamespace = 'public'::regnamespace AND NOT relname ~ '^({"|".join(_FILLED)})(_id_seq)?$'
            THEN row_number() OVER (ORDER BY relnamespace, relname) ELSE 0 END AS number, oid, relname, relkind
FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'pg_catalog'::regnamespace) AND relkind IN ('r', 'S')
"""

#: By number, how many rows of a table ever changed, and how often a sequence was used. Then what ANALYZE finds, which
#: is written without a transaction.
_CHANGES = """
SELECT array_agg(number), array_agg(changes), (SELECT sum(reltuples) FROM pg_class) FROM (
    SELECT number, sum(CASE relkind WHEN 'S' THEN pg_stat_get_blocks_fetched(oid) ELSE pg_stat_get_tuples_inserted(oid)
        + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid) END)::bigint AS changes
    FROM pg_temp.watched GROUP BY number) AS counted
"""

_OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> ALL (%s::int[])"
)

#: Ends the other sessions: a test that ends does not wait for what its threads and processes hold. PostgreSQL looks
#: every 100 ms whether one has ended, so those that are about to end get some milliseconds first.
_ALONE = f"SELECT bool_and(pg_terminate_backend(pid, 5000)) {_OTHERS}"
_GRACE = 20


class ResettableDatabase:
    """A database, and the connection by which it is emptied."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        # One who holds a connection all the time spares PostgreSQL planning anew. Its own changes are not counted.
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._connection.execute("SET track_counts = off")
        self._connection.execute("SET stats_fetch_consistency = none")
        self._connection.execute(_WATCH)
        self._connection.execute(_function(self._connection))
        self._shape = self._read_shape()
        self._changes, self._estimates = self._read_changes()

    def empty(self) -> bool:
        """Whether it is now what it was at first."""
        try:
            self._wait_alone()
            changes, estimates = self._read_changes()
            changed = [number for number, count in changes.items() if count != self._changes[number]]
            if estimates != self._estimates or (0 in changed and self._read_shape() != self._shape):
                return False
            self._changes = changes
            return self._connection.execute("SELECT pg_temp.restored(%s)", (changed,)).fetchone() == (True,)
        except psycopg.Error:
            return False

    def close(self) -> None:
        self._connection.close()

    def _wait_alone(self) -> None:
        kept = (kept_connections.pids(self.name),)
        for _ in range(_GRACE):
            if not self._connection.execute(f"SELECT {_OTHERS} LIMIT 1", kept).fetchall():
                return
            time.sleep(0.001)
        self._connection.execute(_ALONE, kept)

    def _read_shape(self) -> tuple[object, ...] | None:
        return self._connection.execute(_SHAPE).fetchone()

    def _read_changes(self) -> tuple[dict[int, int], float]:
        row = self._connection.execute(_CHANGES).fetchone()
        assert row is not None
        return dict(zip(row[0], row[1], strict=True)), row[2]


def _function(connection: psycopg.Connection) -> sql.Composed:
    """The statement that makes the function which restores tables and sequences, given their numbers; what is in it is
    planned once. It says whether all of them are small."""
    watched = connection.execute(
        "SELECT number, relname, relkind, start_value, last_value FROM pg_temp.watched "
        "LEFT JOIN pg_sequences ON schemaname = 'public' AND sequencename = relname WHERE number > 0 ORDER BY number"
    )
    restored = [
        sql.SQL("IF {} = ANY (changed) THEN {} END IF;").format(
            number,
            _restore(connection, name)
            if kind == "r"
            else sql.SQL("PERFORM setval({}::regclass, {}, {});").format(
                f"public.{name}", last or start, last is not None
            ),
        )
        for number, name, kind, start, last in watched.fetchall()
    ]
    # Without triggers the order of tables does not matter.
    return sql.SQL(
        "CREATE FUNCTION pg_temp.restored(changed bigint[]) RETURNS boolean LANGUAGE plpgsql "
        "SET session_replication_role = replica AS $$ BEGIN {} RETURN NOT EXISTS (SELECT FROM pg_temp.watched "
        "WHERE number > 0 AND number = ANY (changed) AND pg_relation_size(oid) > {}); END $$"
    ).format(sql.SQL("\n").join(restored), _MAX_RELATION_BYTES)


def _restore(connection: psycopg.Connection, table: str) -> sql.Composed:
    """Empties a table, and fills it from a copy if it has rows now."""
    name, copy = sql.Identifier("public", table), sql.Identifier("pg_temp", f"was_{table}")
    empty = sql.SQL("DELETE FROM {};").format(name)
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
