"""Checks PostgreSQL: version, durability, tables, permissions, hints, connections, clock and location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg

from tocsin.core.config import environment, settings_store
from tocsin.core.db import database, migrate, start_up
from tocsin.core.db.base import ROLE_SUFFIX
from tocsin.core.db.database import Connection
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.reasons import NO_REASON, Text, joined, sentence
from tocsin.core.runtime import clock
from tocsin.operate import node_heartbeat, readiness
from tocsin.operate.finding import HealthFinding, note
from tocsin.resources import visibility

MIN_POSTGRES_VERSION = 15

#: Connections of one node: 1 for commits, 1 for LISTEN, 10 for periodic tasks; in its web process 8 of Django, 9 others
#: and 1 for the clock.
CONNECTIONS_PER_NODE = 30

#: The highest accepted libpq values; 0 (no timeout) is never accepted. See `database.TIMEOUTS`.
MAX_TIMEOUTS: Mapping[str, int] = {
    "connect_timeout": 15,
    "tcp_user_timeout": 15_000,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 5,
}

#: The values of `target_session_attrs` that only a primary satisfies.
WRITABLE = ("read-write", "primary")

_TABLES = Text("{count} migration is missing: {first}.", "{count} migrations are missing, such as {first}.")
_NEWER = Text("The database schema is newer than this version of Tocsin: migration {migration} is applied.")
_VERSION = Text("PostgreSQL {version} is too old: Tocsin needs {needed} or later.")
_ENCODING = Text("The database's encoding is {encoding}, which cannot store all texts.")
_RIGHTS = Text("Tocsin's database role lacks permission to create tables, so Tocsin can't be upgraded.")
_CLOCK = Text("The clocks of this server and the database differ by {seconds} seconds.")
_NEEDED = Text(
    "{count} Tocsin node may need up to {needed} connections.",
    "{count} Tocsin nodes may need up to {needed} connections.",
)
_OTHERS = Text("Other clients use {count} connection.", "Other clients use {count} connections.")
_ALLOWED = Text("PostgreSQL allows {count} connection.", "PostgreSQL allows {count} connections.")
_PLACE = Text("The built-in PostgreSQL is in {location}.")


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Checks the database that this process uses, and reports its location."""
    yield from _version(connection)
    server = readiness.read(connection)
    yield from readiness.durability_weaknesses(server)
    if (risk := readiness.risk_at_failover(server)) is not None:
        yield risk
    if missing := readiness.missing_migrations(connection):
        yield HealthFinding(
            "database.tables",
            _TABLES(count=len(missing), first=missing[0]),
            sentence("Start `tocsin serve` to apply the migrations."),
        )
    if newer := migrate.newer_migrations():
        yield HealthFinding(
            "database.newer",
            _NEWER(migration=newer[0]),
            sentence("Upgrade this node too. To roll back, restore the backup from before the upgrade."),
        )
    yield from check_timeouts(connection)
    yield from check_row_security(connection)
    yield from _clock(connection)
    yield from _check_notifications()
    yield from _report_location()


def check_timeouts(connection: Connection) -> Iterator[HealthFinding]:
    """Checks whether a connection notices a lost server in time, and whether it finds the writable one."""
    settings = connection.info.get_parameters()
    is_tcp = not connection.info.host.startswith("/")
    if slow := [
        name for name, limit in MAX_TIMEOUTS.items() if is_tcp and not 0 < int(settings.get(name) or 0) <= limit
    ]:
        yield HealthFinding(
            "database.timeouts",
            sentence(
                "TOCSIN_DATABASE_URL sets {parameters}, which delays detection of a lost database host.",
                parameters=tuple(slow),
            ),
            sentence("Remove them from TOCSIN_DATABASE_URL: Tocsin has shorter defaults."),
        )
    if database.has_several_servers(database.url()) and settings.get("target_session_attrs") not in WRITABLE:
        yield HealthFinding(
            "database.any_server",
            sentence("TOCSIN_DATABASE_URL lists several servers, and its target_session_attrs allows a read-only one."),
            sentence("Set target_session_attrs to read-write, or remove it."),
        )
    # Behind a pooler, only transactions have settings.
    with connection.transaction():
        row = database.row(connection, "SELECT current_setting('statement_timeout') AS statement_timeout")
    if row is None or row["statement_timeout"] == "0":
        yield HealthFinding(
            "database.time_limits",
            sentence(
                "Statement timeouts are not applied: a pooler such as PgBouncer ignores the startup parameter "
                "`options`."
            ),
            sentence("Point TOCSIN_DATABASE_URL at PostgreSQL itself, not at the pooler."),
        )


def check_row_security(connection: Connection) -> Iterator[HealthFinding]:
    """Reports boundaries that the database does not enforce itself."""
    row = database.row(
        connection,
        "SELECT current_user::text AS name, to_regclass('core_setting') IS NOT NULL AS has_settings",
    )
    if row is None or not row["has_settings"] or visibility.is_enabled(connection):
        return
    if settings_store.load(connection)[settings_store.VISIBILITY.name] == "groups":
        role = row["name"] + ROLE_SUFFIX
        yield note(
            "database.row_security",
            sentence(
                "Boundaries are enforced by Tocsin only: the database user may not create the role {role}.", role=role
            ),
            sentence(
                "For row-level security as a second protection, create the role {role}, grant it to {user}, and set "
                "visibility to everyone and back to groups.",
                role=role,
                user=row["name"],
            ),
        )


def check_connections(connection: Connection) -> Iterator[HealthFinding]:
    """Checks whether all nodes together may need more connections than allowed. Needs Tocsin's tables."""
    row = database.row(
        connection,
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
        "- coalesce(current_setting('reserved_connections', true), '0')::int AS most, "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        " AND (datname <> current_database() OR usename <> current_user)) AS others",
    )
    assert row is not None
    nodes = max(1, sum(node.is_alive for node in node_heartbeat.load_nodes(connection)))
    needed_connections = nodes * CONNECTIONS_PER_NODE + row["others"]
    if needed_connections > row["most"]:
        most = str(needed_connections + 10)
        yield HealthFinding(
            "database.connections",
            joined(
                _NEEDED(count=nodes, needed=nodes * CONNECTIONS_PER_NODE),
                _OTHERS(count=row["others"]) if row["others"] else NO_REASON,
                _ALLOWED(count=row["most"]),
                separator=" ",
            ),
            sentence("Set max_connections to {needed} or more, or run fewer nodes.", needed=most),
        )


def _version(connection: Connection) -> Iterator[HealthFinding]:
    row = database.row(
        connection,
        "SELECT current_setting('server_version_num')::int / 10000 AS major, "
        "current_setting('server_encoding') AS encoding, "
        "has_schema_privilege(current_schema(), 'CREATE') AS may_create",
    )
    assert row is not None
    yield from check_server(**row)


def check_server(*, major: int, encoding: str, may_create: bool) -> Iterator[HealthFinding]:
    """Checks the server's major version and encoding, and whether Tocsin may create tables. Pure."""
    if major < MIN_POSTGRES_VERSION:
        yield HealthFinding(
            "database.version",
            _VERSION(version=major, needed=MIN_POSTGRES_VERSION),
            sentence("Upgrade it, or run `tocsin backup` and restore to a newer server."),
        )
    if encoding != "UTF8":
        yield HealthFinding(
            "database.encoding",
            _ENCODING(encoding=encoding),
            sentence(
                "Create a database with ENCODING 'UTF8' TEMPLATE template0, and migrate with `tocsin backup` and "
                "`restore`."
            ),
        )
    if not may_create:
        yield HealthFinding("database.rights", _RIGHTS(), sentence("Run ALTER DATABASE … OWNER TO with Tocsin's role."))


def _clock(connection: Connection) -> Iterator[HealthFinding]:
    clock.measure(connection)
    if not clock.is_in_sync():
        offset_seconds = abs(clock.skew().total_seconds())
        yield HealthFinding(
            "clock.off",
            _CLOCK(seconds=f"{offset_seconds:.1f}"),
            sentence("Enable NTP on both (`timedatectl set-ntp true`)."),
        )


def _check_notifications() -> Iterator[HealthFinding]:
    """Checks LISTEN, which needs its own session; a pooler in transaction mode swallows notifications."""
    try:
        if start_up.receives_own_notification():
            return
    except psycopg.Error:
        pass
    yield HealthFinding(
        "database.pooler",
        sentence("LISTEN does not work: changes reach other processes a second late, and session locks may be lost."),
        sentence("Point TOCSIN_DATABASE_URL at PostgreSQL itself, not at a pooler in transaction mode."),
    )


def _report_location() -> Iterator[HealthFinding]:
    settings = environment.current()
    if settings.database_url is not None:
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    if embedded.is_outside_data_dir:
        yield note(
            "database.apart",
            sentence(
                "The built-in PostgreSQL is in {location}, because its account has no access to a parent folder of "
                "{data_dir}. A copy of the data directory does not include the database.",
                location=str(embedded.location),
                data_dir=str(settings.data_dir),
            ),
            sentence(
                "No action needed. To keep everything in one place, use a data directory such as /var/lib/tocsin."
            ),
        )
    else:
        yield note("database.place", _PLACE(location=str(embedded.location)))
