"""Waits for the database at start-up, instead of exiting while it is starting, stopping or unreachable."""

from __future__ import annotations

import logging
import os
import re
import secrets
import select
import time
from collections.abc import Callable
from datetime import timedelta

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping, PollingStatus

from tocsin.core.db import database
from tocsin.core.errors import Temporary
from tocsin.core.reasons import Text

# ---------- pooler
# Detects a connection pooler that lends a server's session to one client after the other (PgBouncer's `pool_mode =
# transaction` or `statement`).
#
# Tocsin works behind one, but `LISTEN` and session locks do not: changes are noticed a second later, and tables must
# not be migrated.


#: In seconds: a hint arrives within milliseconds, or never.
HINT_DEADLINE = 3.0

SHARES_SESSIONS = Text("TOCSIN_DATABASE_URL leads to a connection pooler in transaction mode.")
USE_SESSIONS = Text("Point it at PostgreSQL itself, or set pool_mode = session for Tocsin's database in pgbouncer.ini.")


def shares_sessions() -> bool:
    """Returns whether the database URL leads to a pooler that shares sessions. A direct connection takes a moment, a
    pooler up to `HINT_DEADLINE` seconds."""
    with database.connect(name="tocsin start") as first:
        if not first.is_pooled:
            return False
        with database.connect(name="tocsin start") as second:
            if _session(first) == _session(second):
                return True
    return not receives_own_notification()


def receives_own_notification() -> bool:
    """Returns whether LISTEN works, which needs a session of its own."""
    payload = secrets.token_hex(8)
    with database.connect(name="tocsin start") as listener, database.connect(name="tocsin start") as notifier:
        listener.execute("LISTEN tocsin_start")
        notifier.execute("SELECT pg_notify('tocsin_start', %s)", (payload,))
        return any(notice.payload == payload for notice in listener.notifies(timeout=HINT_DEADLINE, stop_after=1))


def _session(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row and row[0]


log = logging.getLogger(__name__)

#: How long a start waits for the database.
MAX_WAIT = timedelta(seconds=60)

#: Seconds between two attempts.
RETRY_SECONDS = 0.5

#: In each error of libpq about a certificate: the server's, the authority's, or the client's.
_CERTIFICATE = "certificate"

#: SQLSTATE classes of a server that has too few resources, such as connections, or is starting or stopping.
_TRANSIENT_CLASSES = ("53", "57")

#: The field of an error response that holds its SQLSTATE, as libpq traces it.
_SQLSTATE = re.compile(rb' C "(\w{5})" ')


def wait_for_database[T](
    work: Callable[[], T], max_wait: timedelta = MAX_WAIT, *, revive: Callable[[], object] = lambda: None
) -> T:
    """Runs `work`, and retries for at most `max_wait` while the server accepts no connections or ends them. `revive`
    runs before each retry, and restarts the server if that is Tocsin's task.

    Raises the last error of `work` after that, and at once if no retry can succeed, such as with a wrong password.
    """
    deadline = time.monotonic() + max_wait.total_seconds()
    is_retry = is_second = False
    logged = ""
    while True:
        try:
            if is_retry:
                revive()
            return work()
        except Exception as error:
            if time.monotonic() >= deadline or not _is_unavailable(error):
                raise
            if not _is_transient(error):
                # The server may have begun to accept connections just now, so only a second failure is final.
                if is_second:
                    raise
                is_second = True
            text = " ".join(str(error).split())
            if text != logged:
                log.warning("The start waits for the database, for at most %d s: %s", max_wait.total_seconds(), text)
                logged = text
            time.sleep(RETRY_SECONDS)
            is_retry = True


def _is_unavailable(error: Exception) -> bool:
    """Returns whether the database is the reason. Django raises MigrationSchemaMissing without a cause."""
    return isinstance(error, Temporary) or any(map(database.is_unavailable, (error, error.__context__)))


def _is_transient(error: Exception) -> bool:
    """Returns whether the error may pass soon: the server accepts no connections or has none left, ended one that it
    had accepted, or a failover is in progress."""
    if isinstance(error, Temporary) or database.is_read_only_error(error):
        return True
    if database.has_several_servers(database.url()):
        return True
    try:
        database.connect(name="tocsin start").close()
    except psycopg.Error as error:
        if _CERTIFICATE in str(error):
            return False
        return PGconn.ping(_conninfo()) != Ping.OK or sqlstate_of_rejection()[:2] in _TRANSIENT_CLASSES
    return True


def _conninfo() -> bytes:
    return make_conninfo(database.url(), connect_timeout=database.TIMEOUTS["connect_timeout"]).encode()


def sqlstate_of_rejection() -> str:
    """Returns the SQLSTATE with which the server in use rejects a new connection; empty if it does not.

    libpq drops the code, and the server translates its messages; only libpq's trace has the code. The trace may contain
    the password, so it stays in memory.
    """
    connection = PGconn.connect_start(_conninfo())
    with os.fdopen(os.memfd_create("trace"), "rb") as trace:
        connection.trace(trace.fileno())
        while (status := connection.connect_poll()) in (PollingStatus.READING, PollingStatus.WRITING):
            sockets = [connection.socket]
            readable, writable = (sockets, []) if status == PollingStatus.READING else ([], sockets)
            if not any(select.select(readable, writable, [], database.TIMEOUTS["connect_timeout"])):
                break
        connection.untrace()
        connection.finish()
        trace.seek(0)
        found = _SQLSTATE.search(trace.read())
    return found[1].decode() if found else ""
