"""Waits for the database at start-up, instead of exiting while it is starting, stopping or unreachable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from tocsin.core.db import database
from tocsin.core.errors import Temporary

log = logging.getLogger(__name__)

#: How long a start waits for the database.
MAX_WAIT = timedelta(seconds=60)

#: Seconds between two attempts.
RETRY_SECONDS = 0.5


def wait_for_database[T](
    work: Callable[[], T], max_wait: timedelta = MAX_WAIT, *, revive: Callable[[], object] = lambda: None
) -> T:
    """Runs `work`, and retries for at most `max_wait` while the server accepts no connections or ends them. `revive`
    runs before each retry, and restarts the server if that is Tocsin's task.

    Raises the last error of `work` after that, and at once if no retry can succeed, such as with a wrong password.
    """
    deadline = time.monotonic() + max_wait.total_seconds()
    is_retry = is_second = False
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
            log.warning("The start waits for the database: %s", " ".join(str(error).split()))
            time.sleep(RETRY_SECONDS)
            is_retry = True


def _is_unavailable(error: Exception) -> bool:
    """Returns whether the database is the reason. Django raises MigrationSchemaMissing without a cause."""
    return isinstance(error, Temporary) or any(map(database.is_unavailable, (error, error.__context__)))


def _is_transient(error: Exception) -> bool:
    """Returns whether the error may pass soon: the server accepts no connections, ended one that it had accepted, or a
    failover is in progress. libpq has no error code for a wrong password, but the server then accepts connections."""
    if isinstance(error, Temporary) or database.is_read_only_error(error):
        return True
    if database.has_several_servers(database.url()):
        return True
    try:
        database.connect(name="tocsin start").close()
    except psycopg.Error:
        conninfo = make_conninfo(database.url(), connect_timeout=database.TIMEOUTS["connect_timeout"])
        return PGconn.ping(conninfo.encode()) != Ping.OK
    return True
