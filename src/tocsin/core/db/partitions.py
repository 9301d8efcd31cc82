"""Tables in monthly partitions (PostgreSQL's declarative partitioning), so that old rows are dropped, not deleted.

The partition key is the primary key, a UUIDv7, which begins with the time. Rows for which there is no month, such as
those written while the clock was wrong, are in the default partition; so are the old rows that outlive their month.
A month has the name of its table with `_y2026m11` at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import errors, sql

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.ids import first_uuid7

#: Months made ahead of the current one. The worker may be down for as long.
MONTHS_AHEAD = 2

#: From this retention period on, rows stay until their whole month has expired.
MIN_WHOLE_MONTHS = timedelta(days=60)

#: The first part of an advisory lock; the second is the table.
_LOCK = 0x746F6370

#: A change of partitions locks the table against everything for a moment, so it does not wait for others for long.
LOCK_TIMEOUT = "500ms"

#: More rows that outlive their month than this are not moved; the month stays until fewer are left.
MAX_MOVED_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table, and the UUIDv7 column that is its primary key."""

    name: LiteralString
    key: LiteralString


@dataclass(frozen=True, slots=True, order=True)
class Month:
    year: int
    number: int

    @classmethod
    def of(cls, at: datetime) -> Month:
        utc = at.astimezone(UTC)
        return cls(utc.year, utc.month)

    @property
    def next(self) -> Month:
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def suffix(self) -> str:
        return f"_y{self.year:04}m{self.number:02}"


def months(first: datetime, last: datetime) -> Iterator[Month]:
    """Yields the months from that of `first` to MONTHS_AHEAD after that of `last`."""
    month, end = Month.of(first), Month.of(last)
    for _ in range(MONTHS_AHEAD):
        end = end.next
    while month <= end:
        yield month
        month = month.next


def partition_statement(table: PartitionedTable) -> str:
    """Returns SQL for a migration that partitions a plain table; the table becomes the default partition.

    Django creates the plain table, and its later migrations find indexes and constraints by their names on the
    partitioned one.
    """
    return _PARTITION.replace("{table}", table.name).replace("{key}", table.key)


# CREATE INDEX on the partitioned table takes over an equal index of the partition; nothing is built again.
_PARTITION = """
DO $partition$
DECLARE
  indexes text[] := ARRAY(SELECT pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid = '{table}'::regclass AND NOT indisprimary);
  references_ text[] := ARRAY(SELECT format('ALTER TABLE {table} ADD CONSTRAINT %I %s', conname,
    pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'f');
  name text;
  statement text;
BEGIN
  FOR name IN SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '{table}'::regclass LOOP
    EXECUTE format('ALTER INDEX %s RENAME TO %I', name, left(trim('"' from name), 55) || '_default');
  END LOOP;
  ALTER TABLE {table} RENAME TO {table}_default;
  CREATE TABLE {table} (LIKE {table}_default INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE,
    CONSTRAINT {table}_pkey PRIMARY KEY ({key})) PARTITION BY RANGE ({key});
  FOREACH statement IN ARRAY references_ LOOP EXECUTE statement; END LOOP;
  ALTER TABLE {table} ATTACH PARTITION {table}_default DEFAULT;
  FOREACH statement IN ARRAY indexes LOOP EXECUTE statement; END LOOP;
END $partition$
"""


def partitioned_tables(connection: Connection) -> list[PartitionedTable]:
    rows = connection.execute(
        "SELECT c.relname, a.attname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] "
        "WHERE c.relnamespace = current_schema()::regnamespace ORDER BY 1"
    ).fetchall()
    return [PartitionedTable(database.literal(name), database.literal(key)) for name, key in rows]


def existing_months(connection: Connection, table: PartitionedTable) -> list[Month]:
    """Returns the months that have a partition, oldest first."""
    rows = connection.execute(
        "SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        r"WHERE i.inhparent = %s::regclass AND c.relname ~ '_y\d{4}m\d{2}$' ORDER BY 1",
        (table.name,),
    ).fetchall()
    return [Month(int(suffix[1:5]), int(suffix[6:])) for (suffix,) in rows]


def create_missing(connection: Connection, table: PartitionedTable, wanted: Sequence[Month]) -> None:
    """Creates partitions, and moves what the default partition has of their months. In a transaction."""
    existing = existing_months(connection, table)
    for month in wanted:
        if month not in existing:
            _execute(connection, _CREATE, table, month)


_CREATE: tuple[LiteralString, ...] = (
    # Before the rows are moved: one that is inserted after that would prevent the attachment.
    "LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
    "CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)",
    "WITH moved AS (DELETE FROM {default} WHERE {key} >= {first} AND {key} < {end} RETURNING *) "
    "INSERT INTO {partition} SELECT * FROM moved",
    "ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})",
)


def drop(connection: Connection, table: PartitionedTable, month: Month, kept: LiteralString) -> bool:
    """Drops one month, except the rows `t` for which the SQL condition `kept` is true: they move to the default
    partition. Returns False, without a change, if these are more than MAX_MOVED_ROWS. In a transaction."""
    partition = sql.Identifier(table.name + month.suffix)
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM (SELECT FROM {} t WHERE {} LIMIT {}) AS kept").format(
            partition, sql.SQL(kept), MAX_MOVED_ROWS + 1
        )
    ).fetchone()
    if row is None or row[0] > MAX_MOVED_ROWS:
        return False
    _execute(connection, _DROP, table, month, kept)
    return True


_DROP: tuple[LiteralString, ...] = (
    "ALTER TABLE {table} DETACH PARTITION {partition}",
    "INSERT INTO {table} SELECT * FROM {partition} t WHERE {kept}",
    "DROP TABLE {partition}",
)


def _execute(
    connection: Connection,
    statements: Sequence[LiteralString],
    table: PartitionedTable,
    month: Month,
    kept: LiteralString = "",
) -> None:
    for statement in statements:
        connection.execute(
            sql.SQL(statement).format(
                table=sql.Identifier(table.name),
                default=sql.Identifier(f"{table.name}_default"),
                partition=sql.Identifier(table.name + month.suffix),
                key=sql.Identifier(table.key),
                first=sql.Literal(str(first_uuid7(month.start))),
                end=sql.Literal(str(first_uuid7(month.next.start))),
                kept=sql.SQL(kept),
            )
        )


@dataclass(frozen=True, slots=True)
class TableSize:
    """Sizes in bytes. `total` includes indexes and long values; `rows` does not."""

    total: int
    rows: int


def size(connection: Connection, table: PartitionedTable, month: Month | None = None) -> TableSize:
    """Returns the size of one month, or of the whole table."""
    row = connection.execute(
        "SELECT coalesce(sum(pg_total_relation_size(relid)), 0), coalesce(sum(pg_relation_size(relid)), 0) "
        "FROM pg_partition_tree(%s)",
        (table.name + (month.suffix if month is not None else ""),),
    ).fetchone()
    assert row is not None
    return TableSize(int(row[0]), int(row[1]))


def create_current(now: datetime) -> None:
    """Creates the months of all partitioned tables from now on: before the first row is written, which a month that is
    made later would lock out for a moment."""
    with database.transaction() as connection:
        tables = partitioned_tables(connection)
    for table in tables:
        _create_months(table, now)


def _create_months(table: PartitionedTable, now: datetime) -> None:
    with suppress(errors.LockNotAvailable), database.transaction() as connection:
        if claim(connection, table):
            create_missing(connection, table, list(months(now, now)))


def maintain(table: PartitionedTable, now: datetime, cutoff: datetime, kept: LiteralString) -> datetime:
    """Creates the months from now on, and drops those that ended before `cutoff`; see `drop` for `kept`.

    Returns the moment before which the caller deletes what is left, row by row: old rows in the default partition,
    and, if the retention period is shorter than MIN_WHOLE_MONTHS, the expired part of a month. What another transaction
    prevents is done in the next run.
    """
    _create_months(table, now)
    with database.transaction() as connection:
        expired = [month for month in existing_months(connection, table) if month.next.start <= cutoff]
    for month in expired:
        with suppress(errors.LockNotAvailable), database.transaction() as connection:
            if claim(connection, table) and month in existing_months(connection, table):
                drop(connection, table, month, kept)
    return Month.of(cutoff).start if now - cutoff >= MIN_WHOLE_MONTHS else cutoff


def claim(connection: Connection, table: PartitionedTable) -> bool:
    """Returns whether this transaction may change the partitions, one at a time; limits its waits to LOCK_TIMEOUT."""
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, table.name)).fetchone()
    return row is not None and bool(row[0])
