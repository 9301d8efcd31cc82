"""Checks whether this node can accept messages: the database answers, is durable, and has the tables."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
from django.db.migrations.loader import MigrationLoader

from tocsin.core.config import environment
from tocsin.core.config.environment import Config
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.runtime import clock, telemetry
from tocsin.operate.finding import HealthFinding

# ---------- single flight
# Runs a database query in bounded time, even while PostgreSQL hangs.
#
# Only one thread runs it at a time and concurrent callers share its result, so that probes of a hanging database do
# not pile up.


class SingleFlight[T]:
    """A query that runs in a thread of its own."""

    def __init__(self, name: str, query: Callable[[], T]) -> None:
        self._name = name
        self._query = query
        self._future: Future[T] | None = None

    async def result(self, within: float) -> T:
        """The result. Raises TimeoutError after `within` seconds, or the query's own error. For use on the event
        loop."""
        if self._future is None or self._future.done():
            self._future = Future()
            # A daemon thread, because a hanging query must not block shutdown.
            threading.Thread(target=self._run, args=(self._future,), name=self._name, daemon=True).start()
        wrapped = asyncio.wrap_future(self._future)
        done, _ = await asyncio.wait({wrapped}, timeout=within)
        if not done:
            # A late error is consumed silently; the next caller gets a new result.
            wrapped.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise TimeoutError
        return wrapped.result()

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._query())
        except BaseException as error:  # noqa: BLE001 - a thread's edge: whoever waits hears of it
            future.set_exception(error)


# ---------- durability
# Checks that COMMIT on this database is durable, on which every 2xx response relies. Changes nothing.


@dataclass(frozen=True, slots=True)
class ServerDurability:
    """PostgreSQL's settings in this session."""

    fsync: str = "on"
    full_page_writes: str = "on"
    synchronous_commit: str = "on"
    #: Whether it accepts no writes: a standby, or set to read-only.
    is_standby: bool = False
    is_read_only: bool = False
    #: `synchronous_standby_names`; empty: commits wait for no other server.
    standby_names: str = ""
    #: Streaming standbys, and how many of them commits wait for (None: this role may not see that).
    standbys: int = 0
    synchronous: int | None = 0


_TURN_ON = Text("Set {setting} to on.")

_READ = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, pg_is_in_recovery() AS is_standby,
       -- As new sessions get it: doctor's own is set to read only.
       (SELECT reset_val::boolean FROM pg_settings WHERE name = 'default_transaction_read_only') AS is_read_only,
       current_setting('synchronous_standby_names') AS standby_names, r.standbys, r.synchronous
FROM (
  SELECT count(*) AS standbys,
         CASE WHEN bool_and(sync_state IS NOT NULL) OR count(*) = 0
              THEN count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END AS synchronous
  FROM pg_stat_replication WHERE application_name NOT IN ('pg_basebackup', 'pg_receivewal')
) AS r
"""


def read(connection: Connection) -> ServerDurability:
    """Reads the server's settings. Roles without `pg_monitor` see the number of standbys but not their mode."""
    row = database.row(connection, _READ)
    assert row is not None
    return ServerDurability(**row)


def durability_weaknesses(server: ServerDurability) -> tuple[HealthFinding, ...]:
    """Why a committed message could be lost, or nothing be committed; the most serious first. Empty: commits are
    durable."""
    risks = []
    if server.is_standby:
        risks.append(
            HealthFinding(
                "database.standby",
                sentence("The database is a standby: it accepts no writes."),
                sentence(
                    "Point TOCSIN_DATABASE_URL at the primary; with several servers, "
                    "`target_session_attrs=read-write` selects it."
                ),
            )
        )
    elif server.is_read_only:
        risks.append(
            HealthFinding(
                "database.read_only",
                sentence("The database accepts no writes."),
                sentence("Set {setting} to off.", setting="default_transaction_read_only"),
            )
        )
    if server.fsync != "on":
        risks.append(
            HealthFinding(
                "database.fsync",
                sentence("fsync is off: a power failure can lose accepted messages."),
                _TURN_ON(setting="fsync"),
            )
        )
    if server.full_page_writes != "on":
        risks.append(
            HealthFinding(
                "database.full_page_writes",
                sentence("full_page_writes is off: a power failure can corrupt the database."),
                _TURN_ON(setting="full_page_writes"),
            )
        )
    if server.synchronous_commit == "off":
        risks.append(
            HealthFinding(
                "database.synchronous_commit",
                sentence("synchronous_commit is off: a crash can lose the last accepted messages."),
                sentence("Set synchronous_commit to on, including for Tocsin's role and database."),
            )
        )
    risks.extend(_standbys(server))
    return tuple(risks)


def _standbys(server: ServerDurability) -> list[HealthFinding]:
    """Risks concerning the synchronous standby that the operator intends to fail over to."""
    if not server.standby_names or server.is_standby:
        return []
    if server.synchronous_commit == "local":
        return [
            HealthFinding(
                "database.standby_not_waited_for",
                sentence(
                    "synchronous_commit is local: commits do not wait for the standby, which may lack the last "
                    "accepted messages."
                ),
                _TURN_ON(setting="synchronous_commit"),
            )
        ]
    if server.synchronous_commit != "off" and (server.standbys == 0 or server.synchronous == 0):
        return [
            HealthFinding(
                "database.standby_missing",
                sentence("Commits wait for a synchronous standby, but none is connected: nothing can be stored."),
                sentence("Start the standby, or remove it from synchronous_standby_names."),
            )
        ]
    return []


def risk_at_failover(server: ServerDurability) -> HealthFinding | None:
    """What an operator must know before a failover. Not a problem while the primary is alive."""
    if server.standbys and not server.standby_names:
        return HealthFinding(
            "database.standby_asynchronous",
            sentence(
                "{count} standby replicates asynchronously: a failover to it can lose the last accepted messages.",
                "{count} standbys replicate asynchronously: a failover to one can lose the last accepted messages.",
                count=server.standbys,
            ),
            sentence("List one in synchronous_standby_names, or do not fail over to any of them."),
        )
    return None


log = logging.getLogger(__name__)


#: Seconds to wait for a pooled connection before opening a separate one.
_POOL_TIMEOUT = 1.0

#: A message stored this many seconds ago proves that the committer can use the database.
COMMITTED_WITHIN = 5.0

_UNUSABLE = Text("The database is unavailable.")


def problem() -> Reason | None:
    """Why this node should not receive messages now, without host names; None if it can accept them.

    A wrong clock is no reason, because every decision uses the database's clock; the doctor reports it.
    """
    try:
        with _connection() as connection:
            clock.measure_if_due(connection)
            weaknesses = durability_weaknesses(read(connection))
            missing = missing_migrations(connection)
    except psycopg.Error as error:
        log.warning("The database does not answer the probe: %s", " ".join(str(error).split()))
        # Other clients may occupy all of the server's connections except the committer's.
        return None if telemetry.seconds_since_commit() < COMMITTED_WITHIN else _UNUSABLE()
    if weaknesses:
        return weaknesses[0].detail
    if missing:
        return sentence(
            "The database schema is outdated: {count} migration is missing: {first}.",
            "The database schema is outdated: {count} migrations are missing, such as {first}.",
            count=len(missing),
            first=missing[0],
        )
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


# ---------- disk space
# Checks free space and free inodes on the disks that Tocsin writes to.


GIB = 1024**3


#: Less free space than this is always too little; less than a twentieth of the disk also is, up to `AMPLE_FREE_BYTES`.
MIN_FREE_BYTES = 1 * GIB


AMPLE_FREE_BYTES = 10 * GIB

SPACE = Text("{free} of {size} are free on the disk of {folder}.")
_ENTRIES = Text("{free} of {size} inodes are free on the disk of {folder}.")


def check_database_disks() -> Iterator[HealthFinding]:
    """Checks the disks of the built-in database; yields nothing for an external server, which may be on another
    machine."""
    settings = environment.current()
    if settings.database_url is None:
        for folder in _folders(settings):
            yield from check_disk(folder)


def check_disk(folder: Path) -> Iterator[HealthFinding]:
    """Checks the disk of `folder` for free space and inodes."""
    usage = shutil.disk_usage(folder)
    if usage.free < MIN_FREE_BYTES or (usage.free < usage.total / 20 and usage.free < AMPLE_FREE_BYTES):
        yield HealthFinding(
            "disk.space",
            SPACE(free=_size(usage.free), size=_size(usage.total), folder=str(folder)),
            sentence("Free up space, or lower the settings `message_size_cap_mb` and `message_retention_days`."),
            about=str(folder),
        )
    entries = os.statvfs(folder)
    if entries.f_files and entries.f_favail < entries.f_files / 50:
        yield HealthFinding(
            "disk.entries",
            _ENTRIES(free=entries.f_favail, size=entries.f_files, folder=str(folder)),
            sentence("Remove directories with many small files."),
            about=str(folder),
        )


def _folders(settings: Config) -> list[Path]:
    """One folder per disk that Tocsin writes to."""
    paths = [settings.data_dir]
    if settings.database_url is None:
        paths.append(EmbeddedPostgres(settings.data_dir).location)
    disks: dict[int, Path] = {}
    for folder in map(_nearest_existing, paths):
        disks.setdefault(folder.stat().st_dev, folder)
    return list(disks.values())


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GB" if size >= GIB else f"{size / 1024**2:.0f} MB"
