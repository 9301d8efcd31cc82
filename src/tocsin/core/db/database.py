"""PostgreSQL connections outside Django: a small pool per process, and transactions on it.

Commands and periodic tasks use these connections; web requests use Django's. Both use the same database.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, TupleRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool

from tocsin.core.db import json_text
from tocsin.core.db.guarded_connection import SERVER_KEEPALIVES, SESSION_SETTINGS
from tocsin.core.db.pipelined_connection import PipelinedConnection

type Connection = psycopg.Connection[TupleRow]

#: The NOTIFY channel of all change hints. Without a hint, polling notices the change a second later.
CHANNEL = "tocsin"

POOL_SIZE = 10

#: The delay between reconnection attempts grows up to this limit and then starts again. So this is roughly the longest
#: time for which a recovered database goes unnoticed.
RECONNECT_SECONDS = 4.0

#: Time limits, in seconds, for an unresponsive server, a dead network and a vanished peer. The defaults of libpq and
#: the kernel add up to a quarter of an hour. Values in the database URL take precedence.
TIMEOUTS: Mapping[str, int] = {
    "connect_timeout": 4,
    "tcp_user_timeout": 8_000,  # in milliseconds
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}

# Django has functions of its own. Python's take most of the time of a query that returns a few rows with JSON.
set_json_loads(json_text.from_json)
set_json_dumps(json_text.as_json)

_pool: ConnectionPool[PipelinedConnection] | None = None
#: When all idle connections of the pool were last replaced, by the monotonic clock.
_drained_at = float("-inf")
#: How many connections of the pool were lost in use, and for how many of them the commits are confirmed.
_lost_connections = _confirmed_losses = 0
_url: str | None = None
_lock = threading.Lock()


def use(url: str) -> None:
    """Sets the database URL of the process (libpq's form). Closes a pool to any other database."""
    global _url
    if url != _url:
        close()
        _url = url


def url() -> str:
    """Returns the URL of the database in use. Raises RuntimeError before `use` was called."""
    if _url is None:
        raise RuntimeError("No database is in use yet: call tocsin.core.db.database.use(url) first.")
    return _url


def url_in_use() -> str | None:
    """Returns the URL of the database in use, or None before `use` was called."""
    return _url


def connect(*, name: str, autocommit: bool = True) -> PipelinedConnection:
    """Opens a dedicated connection (committer, listener) with the pool's settings. pg_stat_activity shows `name`."""
    return PipelinedConnection.connect(url(), autocommit=autocommit, **_settings(name, url()))


def pool() -> ConnectionPool[PipelinedConnection]:
    """Returns the process's connection pool, opened on first use."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ConnectionPool(
                url(),
                connection_class=PipelinedConnection,
                kwargs={"autocommit": True, **_settings("tocsin", url())},
                min_size=0,
                max_size=POOL_SIZE,
                # A task that gets no connection retries. The pool then starts to reconnect.
                timeout=5,
                max_idle=300,
                reconnect_timeout=RECONNECT_SECONDS,
                check=_check,
                open=True,
                name="tocsin",
            )
        return _pool


def _check(connection: PipelinedConnection) -> None:
    """Raises OperationalError if an idle connection is unusable.

    The server is queried only if it has sent data in the meantime: psycopg's own check, a round trip for every use,
    costs more than most uses.
    """
    try:
        if connection.is_outdated:
            raise psycopg.OperationalError("the connection led to another server")
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN)
        if poller.poll(0):
            ConnectionPool.check_connection(connection)
    except psycopg.Error:
        connection.close()
        _replace_idle(connection.opened_at)
        raise


def _replace_idle(opened_at: float) -> None:
    """Replaces all idle connections of the pool, because one opened at `opened_at` is unusable and the cause usually
    affects all of them. Without this, the pool pauses ever longer after each failed check."""
    global _drained_at
    if opened_at > _drained_at:
        _drained_at = time.monotonic()
        pool().drain()


def close() -> None:
    """Closes the pool, if it is open."""
    global _pool
    with _lock:
        if _pool is not None:
            _pool.close(timeout=2)
            _pool = None


@contextmanager
def connection() -> Iterator[PipelinedConnection]:
    """Yields a pool connection in autocommit mode. What it commits is on the synchronous standbys at the end.

    Once a connection was lost, the outcome of its last COMMIT is unknown: it may be visible here, but on no standby.
    The next use of the pool waits for the standbys first, before anybody relies on that.
    """
    global _lost_connections, _confirmed_losses
    with pool().connection() as pooled:
        if (lost := _lost_connections) > _confirmed_losses:
            pooled.confirm_commits(is_known=False)
            _confirmed_losses = max(_confirmed_losses, lost)
        try:
            yield pooled
            pooled.confirm_commits()
        finally:
            if pooled.closed or pooled.has_unconfirmed_commit:
                with _lock:
                    _lost_connections += 1


@contextmanager
def transaction() -> Iterator[Connection]:
    """Yields a pool connection in a transaction that commits at the end, or rolls back on an error."""
    with connection() as pooled, pooled.transaction():
        yield pooled


@contextmanager
def pipelined_transaction(connection: Connection) -> Iterator[None]:
    """Rolls back on an error, for a transaction whose BEGIN and COMMIT the caller sends in pipelines with other
    statements. `connection.transaction()` would cost a round trip for each of the two."""
    try:
        yield
    except BaseException:
        # The original error is the one to raise. A lost connection has already rolled back.
        with suppress(psycopg.Error):
            connection.rollback()
        raise


def retry_once[T](work: Callable[[], T]) -> T:
    """Runs `work`, a whole transaction, and once more if it loses a deadlock or serialization conflict."""
    try:
        return work()
    except (errors.DeadlockDetected, errors.SerializationFailure):
        return work()


def is_unavailable(error: BaseException | None) -> bool:
    """Returns whether an error of psycopg or Django means that the database is temporarily unavailable, or ended the
    session of a process that had stood still in a transaction.

    A statement timeout or a lock that was not available does not count.
    """
    while error is not None:
        if is_read_only_error(error) or isinstance(error, errors.IdleInTransactionSessionTimeout):
            return True
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            # Errors reported by the server have an SQLSTATE. A server that stops, starts or lacks resources reports
            # 57P01 to 57P03, or class 08 or 53 (PostgreSQL, appendix A).
            state = error.sqlstate or ""
            return state in ("", "57P01", "57P02", "57P03") or state[:2] in ("08", "53")
        error = error.__cause__
    return False


def is_read_only_error(error: BaseException | None) -> bool:
    """Returns whether the error says that the database is read-only. After a failover, the former primary reports that
    until the database URL leads to the new one."""
    while error is not None and not isinstance(error, errors.ReadOnlySqlTransaction):
        error = error.__cause__
    return error is not None


def rows(
    connection: Connection, query: LiteralString, parameters: Sequence[object] | dict[str, object] = ()
) -> list[DictRow]:
    """Returns all rows of a query, each as a dict by column name."""
    with psycopg.Cursor(connection, row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def row(
    connection: Connection, query: LiteralString, parameters: Sequence[object] | dict[str, object] = ()
) -> DictRow | None:
    """Returns the first row of a query as a dict, or None."""
    with psycopg.Cursor(connection, row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchone()


def notify(connection: Connection, *topics: str) -> None:
    """Sends a hint, when the transaction commits, that `topics` changed. Delivery is not guaranteed."""
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, " ".join(sorted(set(topics)))))


def django_settings(address: str) -> dict[str, object]:
    """Returns the `DATABASES["default"]` entry for a libpq URL, with the time limits of the pool's connections."""
    parts = conninfo_to_dict(address)
    user = parts.pop("user", "")
    return {
        "ENGINE": "tocsin.core.db.django_postgresql",
        "NAME": parts.pop("dbname", "") or user or "tocsin",
        "HOST": parts.pop("host", ""),
        "USER": user,
        "PASSWORD": parts.pop("password", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 300,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        "OPTIONS": {**parts, **_settings("tocsin web", address)},
    }


def has_several_servers(address: str) -> bool:
    """Returns whether the URL names several servers, one of which is the primary."""
    parameters = conninfo_to_dict(address)
    return "," in str(parameters.get("host") or parameters.get("hostaddr") or "")


def _settings(name: str, address: str) -> dict[str, Any]:
    """Returns the connection parameters besides the URL: session limits, and the time limits that the URL does not set.
    With several servers, the one that accepts writes is chosen."""
    url_parameters = conninfo_to_dict(address)
    options = str(url_parameters.get("options") or "")
    defaults: dict[str, Any] = dict(TIMEOUTS)
    if has_several_servers(address):
        defaults["target_session_attrs"] = "read-write"
    settings = {**SESSION_SETTINGS, **SERVER_KEEPALIVES}
    limits = " ".join(f"-c {setting}={value}" for setting, value in settings.items())
    missing = {key: value for key, value in defaults.items() if url_parameters.get(key) is None}
    return {**missing, "options": f"{options} {limits}".lstrip(), "application_name": name}


def literal(text: str) -> LiteralString:
    """Marks SQL composed of constants as literal. Never use it for untrusted text."""
    return text
