"""Which tables there are at a given state of the migrations, and bringing a database to exactly that state."""

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

#: What Django keeps of the migrations themselves. It is made by applying them, and never copied.
MIGRATIONS = "django_migrations"

#: What a copy needs not: of processes that run, of sign-ins tried lately, of this machine's clock, and what a loop
#: makes again out of the other tables.
PASSING = frozenset(
    {"operate_node", "core_clockseen", "alerts_alerttext", "inbound_messagetext", "access_sharedcacheentry"}
)

#: Tables of live access: sessions, messages of the sandbox with the links in them, codes and links that work once. A
#: backup is kept in more places than a database, and none of them may sign anybody in.
ACCESS = frozenset({"django_session", "notify_sandboxmessage", "notify_verificationcode", "account_emailconfirmation"})

#: Tables that no backup holds.
OMITTED = PASSING | ACCESS

#: Rows that no backup holds, by table: the hashes of the links for the first administrator.
OMITTED_ROWS = {"core_setting": "name = 'setup_link'"}


def applied(connection: Connection) -> list[Migration]:
    """The migrations that the database has had, in order; none where it has no tables of Tocsin's."""
    found = connection.execute("SELECT to_regclass(%s)::text", (MIGRATIONS,)).fetchone()
    if found is None or found[0] is None:
        return []
    return [
        (row[0], row[1]) for row in connection.execute(f"SELECT app, name FROM {MIGRATIONS} ORDER BY id").fetchall()
    ]


def tables_at(migrations: Collection[Migration]) -> list[str]:
    """The tables that there are after exactly these migrations, in alphabetical order, without Django's own list."""
    return list(_tables_at(frozenset(migrations)))


@lru_cache(maxsize=8)
def _tables_at(migrations: frozenset[Migration]) -> tuple[str, ...]:
    """What was found is kept: a restore asks about the same state several times."""
    if not migrations:
        return ()
    loader = MigrationLoader(None, ignore_no_migrations=True)
    state = loader.project_state(list(migrations))
    models = state.apps.get_models(include_auto_created=True)
    return tuple(sorted({model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy}))


def migrate_to(migrations: Collection[Migration]) -> None:
    """Applies exactly these to an empty database, on Django's connection and inside its transaction.

    Raises Rejected where they are not a state that Tocsin was ever in.
    """
    executor = MigrationExecutor(django_connection)
    wanted = set(migrations)
    whole = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    plan = [(migration, False) for migration, _ in whole if (migration.app_label, migration.name) in wanted]
    done: set[Migration] = set()
    for migration, _ in plan:
        needed = executor.loader.graph.node_map[migration.app_label, migration.name].parents
        if not {parent.key for parent in needed} <= done:
            raise Rejected("damaged", f"The backup is damaged: {migration} lacks what comes before it.")
        done.add((migration.app_label, migration.name))
    if len(plan) == len(whole):
        migrate.create_tables(executor)
    else:
        executor.migrate(None, plan=plan)
