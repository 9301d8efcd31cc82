"""Checks whether this node can accept messages: the database answers, is durable, and has the tables."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg
from django.db.migrations.loader import MigrationLoader

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.runtime import clock, metrics
from tocsin.operate import durability

log = logging.getLogger(__name__)


#: Seconds to wait for a pooled connection before opening a separate one.
_POOL_TIMEOUT = 1.0

#: A message stored this many seconds ago proves that the committer can use the database.
COMMITTED_WITHIN = 5.0

_UNUSABLE = ReasonType("health.database_not_usable", "The database is unavailable.")
_OLD_TABLES = ReasonType(
    "health.database_too_old",
    "The database schema is outdated: {count} migration is missing: {first}.",
    "The database schema is outdated: {count} migrations are missing, such as {first}.",
)


def problem() -> Reason | None:
    """Why this node should not receive messages now, without host names; None if it can accept them.

    A wrong clock is no reason, because every decision uses the database's clock; the doctor reports it.
    """
    try:
        with _connection() as connection:
            clock.measure_if_due(connection)
            weaknesses = durability.weaknesses(durability.read(connection))
            missing = missing_migrations(connection)
    except psycopg.Error as error:
        log.warning("The database does not answer the probe: %s", " ".join(str(error).split()))
        # Other clients may occupy all of the server's connections except the committer's.
        return None if metrics.seconds_since_commit() < COMMITTED_WITHIN else _UNUSABLE()
    if weaknesses:
        return weaknesses[0].detail
    if missing:
        return _OLD_TABLES(count=len(missing), first=missing[0])
    if not clock.is_in_sync():
        offset_seconds = abs(clock.skew().total_seconds())
        log.warning("This machine's clock and the database's are %.1f seconds apart: run NTP on both.", offset_seconds)
    return None


@contextmanager
def _connection() -> Iterator[Connection]:
    """A pooled connection, as the node's work uses; a new one while all of them are busy."""
    try:
        pooled = database.pool().getconn(_POOL_TIMEOUT)
    except psycopg.OperationalError:
        with database.connect(name="tocsin probe") as connection:
            yield connection
        return
    try:
        yield pooled
    finally:
        database.pool().putconn(pooled)


def missing_migrations(connection: Connection) -> list[str]:
    """The migrations of this release not yet applied to the database, as `app.name`.

    The same as `core.db.migrate.missing`, but with one small statement on the given connection.
    """
    try:
        applied = {(row[0], row[1]) for row in connection.execute("SELECT app, name FROM django_migrations")}
    except psycopg.errors.UndefinedTable:
        applied = set()
    return [
        f"{app}.{name}"
        for (app, name), replaced in _migrations_with_replaced().items()
        if (app, name) not in applied and not (replaced and applied.issuperset(replaced))
    ]


@cache
def _migrations_with_replaced() -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """Every migration of this release, with those that it replaces."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return {key: tuple(migration.replaces) for key, migration in sorted(loader.graph.nodes.items())}
