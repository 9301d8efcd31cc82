"""Checks PostgreSQL: version, durability, tables, permissions, hints, connections, clock and location."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

import psycopg

from tocsin.core.config import environment
from tocsin.core.db import database, migrate
from tocsin.core.db.database import Connection
from tocsin.core.embedded_postgres.lifecycle import EmbeddedPostgres
from tocsin.core.runtime import clock
from tocsin.operate import durability, node_heartbeat, readiness
from tocsin.operate.finding import HealthFinding, note

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

#: In seconds: a hint arrives within milliseconds, or never.
HINT_DEADLINE = 3.0


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Checks the database that this process uses, and reports its location."""
    yield from _version(connection)
    server = durability.read(connection)
    for weakness in durability.weaknesses(server):
        yield HealthFinding(f"database.{weakness.id}", weakness.detail, weakness.remedy)
    if (risk := durability.risk_at_failover(server)) is not None:
        yield HealthFinding(f"database.{risk.id}", risk.detail, risk.remedy)
    if missing := readiness.missing_migrations(connection):
        yield HealthFinding(
            "database.tables",
            f"{len(missing)} migrations are missing, such as {missing[0]}.",
            "Start `tocsin serve`, which brings the tables up to date.",
        )
    if newer := migrate.newer_migrations():
        yield HealthFinding(
            "database.newer",
            f"The database's tables are a newer Tocsin's, which has made {newer[0]}.",
            "Upgrade this one too. To go back to it for good, restore the backup from before the upgrade.",
        )
    yield from check_timeouts(connection)
    yield from _clock(connection)
    yield from _check_notifications()
    yield from _report_location()


def check_timeouts(connection: Connection) -> Iterator[HealthFinding]:
    """Checks whether a connection notices a lost server in time, and whether it finds the writable one."""
    settings = connection.info.get_parameters()
    is_tcp = not connection.info.host.startswith("/")
    if slow := [name for name in MAX_TIMEOUTS if is_tcp and _is_slow(settings, name)]:
        yield HealthFinding(
            "database.timeouts",
            f"TOCSIN_DATABASE_URL sets {', '.join(slow)} so that a database host that vanishes is noticed late.",
            "Remove them from TOCSIN_DATABASE_URL: Tocsin has shorter defaults.",
        )
    if database.has_several_servers(database.url()) and settings.get("target_session_attrs") not in WRITABLE:
        yield HealthFinding(
            "database.any_server",
            "TOCSIN_DATABASE_URL names several servers, and its target_session_attrs accepts one that is read-only.",
            "Set target_session_attrs to read-write, or remove it.",
        )
    row = database.row(connection, "SELECT current_setting('statement_timeout') AS statement_timeout")
    if row is None or row["statement_timeout"] == "0":
        yield HealthFinding(
            "database.time_limits",
            "No statement has a time limit: a pooler such as PgBouncer ignores the startup parameter `options`.",
            "Point TOCSIN_DATABASE_URL at PostgreSQL itself, not at the pooler.",
        )


def _is_slow(settings: Mapping[str, str], name: str) -> bool:
    value = int(settings.get(name) or 0)
    return value == 0 or value > MAX_TIMEOUTS[name]


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
        nodes_text = (
            f"{nodes} {'node' if nodes == 1 else 'nodes'} of Tocsin with {CONNECTIONS_PER_NODE} connections each"
        )
        others_text = f" and {row['others']} of others" if row["others"] else ""
        yield HealthFinding(
            "database.connections",
            f"{nodes_text}{others_text} can need {needed_connections} connections, and PostgreSQL allows "
            f"{row['most']}.",
            f"Set max_connections to {needed_connections + 10} or more, or run fewer nodes.",
        )


def _version(connection: Connection) -> Iterator[HealthFinding]:
    row = database.row(
        connection,
        "SELECT current_setting('server_version_num')::int / 10000 AS major, "
        "current_setting('server_encoding') AS enc, "
        "has_schema_privilege(current_schema(), 'CREATE') AS may_create",
    )
    assert row is not None
    if row["major"] < MIN_POSTGRES_VERSION:
        yield HealthFinding(
            "database.version",
            f"PostgreSQL {row['major']} is too old: Tocsin needs {MIN_POSTGRES_VERSION} or later.",
            "Upgrade it, or `tocsin backup`, and restore into a newer one.",
        )
    if row["enc"] != "UTF8":
        yield HealthFinding(
            "database.encoding",
            f"The database's encoding is {row['enc']}: some texts cannot be stored.",
            "Make one with ENCODING 'UTF8' TEMPLATE template0, and move there by `tocsin backup` and `restore`.",
        )
    if not row["may_create"]:
        yield HealthFinding(
            "database.rights",
            "Tocsin's role may not make tables, so it cannot be upgraded.",
            "ALTER DATABASE … OWNER TO Tocsin's role.",
        )


def _clock(connection: Connection) -> Iterator[HealthFinding]:
    clock.measure(connection)
    if not clock.is_in_sync():
        offset_seconds = abs(clock.skew().total_seconds())
        yield HealthFinding(
            "clock.off",
            f"This machine's clock and the database's are {offset_seconds:.1f} seconds apart.",
            "Run NTP on both (`timedatectl set-ntp true`).",
        )


def _check_notifications() -> Iterator[HealthFinding]:
    """Checks LISTEN, which needs its own session; a pooler in transaction mode swallows notifications."""
    try:
        if _receives_own_notification():
            return
    except psycopg.Error:
        pass
    yield HealthFinding(
        "database.pooler",
        "LISTEN does not work: changes reach other processes a second late, and locks of a session may be lost.",
        "Point TOCSIN_DATABASE_URL at PostgreSQL itself, not at a pooler in transaction mode.",
    )


def _receives_own_notification() -> bool:
    payload = secrets.token_hex(8)
    with database.connect(name="tocsin doctor") as listener, database.connect(name="tocsin doctor") as notifier:
        listener.execute("LISTEN tocsin_doctor")
        notifier.execute("SELECT pg_notify('tocsin_doctor', %s)", (payload,))
        return any(notice.payload == payload for notice in listener.notifies(timeout=HINT_DEADLINE, stop_after=1))


def _report_location() -> Iterator[HealthFinding]:
    settings = environment.current()
    if settings.database_url is not None:
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    if embedded.is_outside_data_dir:
        yield note(
            "database.apart",
            f"PostgreSQL's part lives in {embedded.location}, because a folder above {settings.data_dir} is closed to "
            "the account that it runs under. A copy of the data directory alone has no database in it.",
            "Nothing need be done. To have it in one place, choose a data directory such as /var/lib/tocsin.",
        )
    else:
        yield note("database.place", f"The built-in PostgreSQL lives in {embedded.location}.")
