"""The tables that exist after given migrations, and migrating an empty database to exactly that state."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from django.db import connection as django_connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tocsin.core.db import migrate
from tocsin.core.db.database import Connection
from tocsin.core.db.migrate import Migration
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_MIGRATION_MISSING = ReasonType(
    "backup.migration_missing", "The backup is damaged: migrations before {migration} are missing."
)

#: Django's migration records. Recreated by applying migrations, never copied.
MIGRATIONS = "django_migrations"

#: Tables a backup does not need: running processes, recent sign-in attempts, this machine's clock, and data that a
#: periodic task derives from other tables.
TRANSIENT = frozenset(
    {"operate_node", "core_clockseen", "alerts_alerttext", "inbound_messagetext", "access_sharedcacheentry"}
)

#: Tables that grant access: sessions, sandbox messages with their links, one-time codes and links. Backups are stored
#: in more places than a database, and none of them may let anybody sign in.
ACCESS = frozenset(
    {
        "account_emailconfirmation",
        "django_session",
        "identity_browsersession",
        "notify_sandboxmessage",
        "notify_verificationcode",
    }
)

#: Tables that are in no backup.
OMITTED = TRANSIENT | ACCESS

#: Rows that are in no backup, by table: hashes of the first administrator's setup links.
OMITTED_ROWS = {"core_setting": "name = 'setup_link'"}


def applied(connection: Connection) -> list[Migration]:
    """The migrations applied to the database, in order; empty without Tocsin's tables."""
    table_row = connection.execute("SELECT to_regclass(%s)::text", (MIGRATIONS,)).fetchone()
    if table_row is None or table_row[0] is None:
        return []
    return [
        (row[0], row[1]) for row in connection.execute(f"SELECT app, name FROM {MIGRATIONS} ORDER BY id").fetchall()
    ]


def tables_at(migrations: Collection[Migration]) -> list[str]:
    """The tables after exactly these migrations, sorted, without Django's own migration table."""
    return list(_tables_at(frozenset(migrations)))


@lru_cache(maxsize=8)
def _tables_at(migrations: frozenset[Migration]) -> tuple[str, ...]:
    """Cached, because a restore asks for the same state several times."""
    if not migrations:
        return ()
    loader = MigrationLoader(None, ignore_no_migrations=True)
    state = loader.project_state(list(migrations))
    models = state.apps.get_models(include_auto_created=True)
    return tuple(sorted({model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy}))


def of_apps(connection: Connection, apps: Collection[str]) -> list[str]:
    """The existing tables whose names begin with these apps' labels, as Django names them."""
    query = (
        "SELECT c.relname FROM pg_class c JOIN unnest(%s::text[]) a ON starts_with(c.relname, a || '_') "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')"
    )
    return sorted({row[0] for row in connection.execute(query, (list(apps),)).fetchall()})


def migrate_to(migrations: Collection[Migration]) -> None:
    """Applies exactly these migrations to an empty database, in the transaction of Django's connection.

    Raises Rejected if they do not form a valid state.
    """
    executor = MigrationExecutor(django_connection)
    requested = set(migrations)
    full_plan = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    plan = [(migration, False) for migration, _ in full_plan if (migration.app_label, migration.name) in requested]
    completed: set[Migration] = set()
    for migration, _ in plan:
        parents = executor.loader.graph.node_map[migration.app_label, migration.name].parents
        if not {parent.key for parent in parents} <= completed:
            raise Rejected("damaged", _MIGRATION_MISSING(migration=str(migration)))
        completed.add((migration.app_label, migration.name))
    if len(plan) == len(full_plan):
        migrate.create_tables(executor)
    else:
        executor.migrate(None, plan=plan)
