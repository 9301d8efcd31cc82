"""A start beside a database that is starting, stopping or away: waiting for it instead of ending the process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from tocsin.core.db import database

log = logging.getLogger(__name__)

#: How long a start waits for its database.
PATIENCE = timedelta(seconds=60)

#: Seconds between two attempts.
PAUSE = 0.5


def wait_for_database[T](work: Callable[[], T], patience: timedelta = PATIENCE) -> T:
    """Runs `work`, again and again while the server accepts no connections, for `patience` at most.

    Raises what `work` raises: at the end, and at once where no later attempt is better, such as with a wrong password.
    """
    give_up_at = time.monotonic() + patience.total_seconds()
    is_second = False
    while True:
        try:
            return work()
        except Exception as error:
            if time.monotonic() >= give_up_at or not database.is_unavailable(error):
                raise
            if not _is_passing(error):
                # The server may have begun to accept connections just now: only the second failure is the last.
                if is_second:
                    raise
                is_second = True
            log.warning("The start waits for the database: %s", " ".join(str(error).split()))
            time.sleep(PAUSE)


def _is_passing(error: Exception) -> bool:
    """Whether it may be over in a moment: the server accepts no connections, or a failover is at work. A wrong
    password has no code of its own in libpq, but its server accepts connections."""
    if database.takes_no_writes(error) or database.has_several_servers(database.url()):
        return True
    conninfo = make_conninfo(database.url(), connect_timeout=database.TIMEOUTS["connect_timeout"])
    return PGconn.ping(conninfo.encode()) != Ping.OK
