"""Whether this node can take messages: the database answers, is durable and has the tables."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg
from django.db.migrations.loader import MigrationLoader

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock, metrics
from tocsin.operate import durability

log = logging.getLogger(__name__)


#: Seconds for which the probe waits for a connection of the pool before it opens one of its own.
_POOL_TIMEOUT = 1.0

#: A message that was stored so many seconds ago shows that the committer can use the database.
COMMITTED_WITHIN = 5.0


def problem() -> str | None:
    """Why this node should get no messages now, as a sentence; None when it can take them. Names no host.

    A clock that is off is no reason: every decision goes by the database's clock. The doctor reports it.
    """
    try:
        with _connection() as connection:
            clock.measure_if_due(connection)
            weaknesses = durability.weaknesses(durability.read(connection))
            missing = missing_migrations(connection)
    except psycopg.Error as error:
        log.warning("The database does not answer the probe: %s", " ".join(str(error).split()))
        # Others may hold all of the server's connections but those that the committer has.
        return None if metrics.seconds_since_commit() < COMMITTED_WITHIN else "The database cannot be used."
    if weaknesses:
        return weaknesses[0].detail
    if missing:
        return f"The database's tables are too old: {len(missing)} migrations are missing, such as {missing[0]}."
    if not clock.is_sound():
        apart = abs(clock.skew().total_seconds())
        log.warning("This machine's clock and the database's are %.1f seconds apart: run NTP on both.", apart)
    return None


@contextmanager
def _connection() -> Iterator[Connection]:
    """A connection that this node has already, as its work uses those; a new one while all of them are busy."""
    try:
        taken = database.pool().getconn(_POOL_TIMEOUT)
    except psycopg.OperationalError:
        with database.connect(name="tocsin probe") as connection:
            yield connection
        return
    try:
        yield taken
    finally:
        database.pool().putconn(taken)


def missing_migrations(connection: Connection) -> list[str]:
    """The migrations that this program knows and the database has not had, as `app.name`.

    What `core.db.migrate.missing` says, over a connection of the pool, in one small statement.
    """
    try:
        applied = {(row[0], row[1]) for row in connection.execute("SELECT app, name FROM django_migrations")}
    except psycopg.errors.UndefinedTable:
        applied = set()
    return [
        f"{app}.{name}"
        for (app, name), replaced in _known().items()
        if (app, name) not in applied and not (replaced and applied.issuperset(replaced))
    ]


@cache
def _known() -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """Every migration of this program, with those that it replaces."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return {key: tuple(migration.replaces) for key, migration in sorted(loader.graph.nodes.items())}
