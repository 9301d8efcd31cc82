"""Re-encrypts what is stored under the newest secret key, in short transactions beside a server that works.

Each value says by itself under which key it is, so a run that was killed goes on where it was. Chooses no key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from psycopg import errors, sql

from tocsin.core.config import crypto
from tocsin.core.config.reencryption import reencrypt
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.operate import node_heartbeat
from tocsin.operate.encryption.columns import COLUMNS, Column

#: So many pages of a table, of 8 KiB each, are looked through in one transaction.
PAGES = 128

#: Rows that somebody else holds are left to the next pass; so many passes are made.
MAX_PASSES = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """One transaction is done: how far its column is, and how many values it re-encrypted."""

    column: Column
    page: int
    pages: int
    values: int


@dataclass(frozen=True, slots=True)
class Remaining:
    """How many values are under an older key, and how many no known key opens, by what they belong to."""

    old: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """The values under an older key in words, such as "3 of contact methods, 1 of providers"."""
        return ", ".join(f"{number:,} of {label}" for label, number in self.old.items())


def nodes_without_newest_key(connection: Connection) -> list[str]:
    """The names of the running nodes that could not read what is encrypted under the newest key."""
    newest = crypto.fingerprints()[0]
    return [node.name for node in node_heartbeat.nodes(connection) if node.is_there and newest not in node.keys]


def rotate() -> Iterator[Progress]:
    """Re-encrypts everything, one transaction for each item that is asked for."""
    for _ in range(MAX_PASSES):
        for column in COLUMNS:
            yield from _rotate_column(column)
        with database.transaction() as connection:
            if not count(connection).old:
                return


def count(connection: Connection) -> Remaining:
    """What is not under the newest key. Reads every encrypted value."""
    old: Counter[str] = Counter()
    unreadable: Counter[str] = Counter()
    connection.execute("SET LOCAL statement_timeout = '10min'")
    for column in COLUMNS:
        query = sql.SQL("SELECT {0}::text, count(*) FROM {1} WHERE {2} GROUP BY 1").format(*_names(column))
        for text, number in connection.execute(query):
            found = reencrypt(text)
            old[column.label] += number * found.old
            unreadable[column.label] += number * found.unreadable
    return Remaining(dict(+old), dict(+unreadable))


def _rotate_column(column: Column) -> Iterator[Progress]:
    with database.transaction() as connection:
        row = connection.execute("SELECT pg_relation_size(%s::regclass) / 8192", (column.table,)).fetchone()
    pages = int(row[0]) if row else 0
    for first in range(0, pages, PAGES):
        with database.transaction() as connection:
            values = _rotate_pages(connection, column, first, first + PAGES)
        yield Progress(column, min(first + PAGES, pages), pages, values)


def _rotate_pages(connection: Connection, column: Column, first: int, end: int) -> int:
    name, table, holds = _names(column)
    # A row that is locked is being changed by whoever works: waiting for it could end in a deadlock.
    query = sql.SQL(
        "SELECT ctid::text, {0}::text FROM {1} WHERE ctid >= %s::tid AND ctid < %s::tid AND {2} FOR UPDATE SKIP LOCKED"
    ).format(name, table, holds)
    change = sql.SQL("UPDATE {1} SET {0} = %s::{2} WHERE ctid = %s::tid").format(
        name, table, sql.SQL("jsonb" if column.is_json else "text")
    )
    values = 0
    for place, text in connection.execute(query, (f"({first},0)", f"({end},0)")).fetchall():
        found = reencrypt(text)
        if not found.old:
            continue
        values += found.old
        try:
            with connection.transaction():
                connection.execute(change, (found.text, place))
        except errors.UniqueViolation:
            # The same address was written under the new key meanwhile: one row is enough.
            connection.execute(sql.SQL("DELETE FROM {} WHERE ctid = %s::tid").format(table), (place,))
    return values


def _names(column: Column) -> tuple[sql.Identifier, sql.Identifier, sql.Composed]:
    name, table = sql.Identifier(column.column), sql.Identifier(column.table)
    return name, table, sql.SQL("({0}::text LIKE '%%gAAAAA%%' OR {0}::text LIKE '%%sealed:%%')").format(name)
