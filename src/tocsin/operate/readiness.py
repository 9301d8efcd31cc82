"""Whether this node can take messages: the database answers, is durable, has the tables, and agrees on the time."""

from __future__ import annotations

import logging
from functools import cache

import psycopg
from django.db.migrations.loader import MigrationLoader

from tocsin.core import clock, database
from tocsin.core.database import Connection
from tocsin.operate import durability

log = logging.getLogger(__name__)


def problem() -> str | None:
    """Why this node should get no messages now, as a sentence; None when it can take them. Names no host."""
    try:
        # One of its own: it shows that the database takes connections, whatever the pool is at.
        with database.connect(name="tocsin probe") as connection:
            clock.measure_if_due(connection)
            weaknesses = durability.weaknesses(durability.read(connection))
            missing = missing_migrations(connection)
    except psycopg.Error as error:
        log.warning("The database does not answer the probe: %s", " ".join(str(error).split()))
        return "The database cannot be used."
    if weaknesses:
        return weaknesses[0].detail
    if missing:
        return f"The database's tables are too old: {len(missing)} migrations are missing, such as {missing[0]}."
    if not clock.is_sound():
        apart = abs(clock.skew().total_seconds())
        return f"This machine's clock and the database's are {apart:.1f} seconds apart."
    return None


def missing_migrations(connection: Connection) -> list[str]:
    """The migrations that this program knows and the database has not had, as `app.name`.

    What `core.migrating.missing` says, over a connection of the pool, in one small statement.
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
