"""Connections to PostgreSQL outside Django: one small pool a process, and transactions on it.

Commands and loops use these; pages and forms use Django's own connections. Both see one database.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, TupleRow, dict_row
from psycopg_pool import ConnectionPool

from tocsin.core.db.guarded_connection import STATEMENT_TIMEOUT
from tocsin.core.db.pipelined_connection import PipelinedConnection

type Connection = psycopg.Connection[TupleRow]

#: What ends a transaction that does nothing, which would hold locks for ever.
IDLE_IN_TRANSACTION_TIMEOUT = timedelta(seconds=30)

#: The channel of every hint that something changed. Polling finds the same a second later.
CHANNEL = "tocsin"

POOL_SIZE = 10

#: Seconds until libpq gives up on a server that does not answer, a dead network or an idle peer that is gone. The
#: defaults of libpq and of the kernel would take a quarter of an hour. The URL's own values come first.
TIMEOUTS: Mapping[str, int] = {
    "connect_timeout": 4,
    "tcp_user_timeout": 8_000,  # in milliseconds
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}

_pool: ConnectionPool[PipelinedConnection] | None = None
#: When the pool's idle connections were last replaced, all of them, by the monotonic clock.
_drained_at = float("-inf")
_url: str | None = None
_lock = threading.Lock()


def use(url: str) -> None:
    """Points the process at `url` (libpq's form). Closes the pool to any other database."""
    global _url
    if url != _url:
        close()
        _url = url


def url() -> str:
    """The address of the database in use. Raises RuntimeError before `use` was called."""
    if _url is None:
        raise RuntimeError("No database is in use yet: call tocsin.core.db.database.use(url) first.")
    return _url


def url_in_use() -> str | None:
    """The address of the database in use, or None before `use` was called."""
    return _url


def connect(*, name: str, autocommit: bool = True) -> PipelinedConnection:
    """A connection of its own (committer, listener), set up like the pool's. pg_stat_activity shows `name`."""
    return PipelinedConnection.connect(url(), autocommit=autocommit, **_settings(name, url()))


def pool() -> ConnectionPool[PipelinedConnection]:
    """The process's pool of connections, opened on first use."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ConnectionPool(
                url(),
                connection_class=PipelinedConnection,
                kwargs={"autocommit": True, **_settings("tocsin", url())},
                min_size=0,
                max_size=POOL_SIZE,
                # A loop that gets none tries again: then the pool begins to connect anew.
                timeout=5,
                max_idle=300,
                # Attempts to connect come ever less often up to this age, then begin anew: the longest, about, that a
                # database which is back again is not noticed.
                reconnect_timeout=4,
                check=_check,
                open=True,
                name="tocsin",
            )
        return _pool


def _check(connection: PipelinedConnection) -> None:
    """Raises OperationalError where an idle connection is of no use. The server is asked only where it has sent
    something meanwhile: psycopg's own check, an exchange with the database for each use, is dearer than most uses."""
    try:
        if connection.is_outdated:
            raise psycopg.OperationalError("the connection led to another server")
        has_said = select.poll()
        has_said.register(connection.fileno(), select.POLLIN)
        if has_said.poll(0):
            ConnectionPool.check_connection(connection)
    except psycopg.Error:
        connection.close()
        _replace_idle(connection.opened_at)
        raise


def _replace_idle(opened_at: float) -> None:
    """Replaces the pool's idle connections, since one that was opened at `opened_at` is of no use: whatever ended it
    has ended the others. The pool pauses for longer and longer after each that fails its check."""
    global _drained_at
    if opened_at > _drained_at:
        _drained_at = time.monotonic()
        pool().drain()


def close() -> None:
    """Closes the pool, if there is one."""
    global _pool
    with _lock:
        if _pool is not None:
            _pool.close(timeout=2)
            _pool = None


@contextmanager
def transaction() -> Iterator[Connection]:
    """A pooled connection inside one transaction: committed at the end, rolled back on an error."""
    with pool().connection() as connection, connection.transaction():
        yield connection


@contextmanager
def begun(connection: Connection) -> Iterator[None]:
    """For a transaction whose BEGIN and COMMIT travel in pipelines, each with what is next to it: on an error it is
    rolled back. `connection.transaction()` would cost an exchange with the database for each of the two."""
    try:
        yield
    except BaseException:
        # What is wrong is known already; a connection that is gone has rolled back by itself.
        with suppress(psycopg.Error):
            connection.rollback()
        raise


def retry_once[T](work: Callable[[], T]) -> T:
    """Runs `work`, a whole transaction, a second time if it lost a deadlock or a serialization conflict."""
    try:
        return work()
    except (errors.DeadlockDetected, errors.SerializationFailure):
        return work()


def is_unavailable(error: BaseException | None) -> bool:
    """Whether it says that the database cannot be used now, and may be again in a moment: psycopg's own, or what
    Django makes of it. A statement that took too long or a lock that was not free is none of these.
    """
    while error is not None:
        if takes_no_writes(error):
            return True
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            # What the server itself says has an SQLSTATE; 57P01 to 57P03 and class 08 and 53 are said by one that
            # ends, starts or has no room (PostgreSQL, appendix A).
            state = error.sqlstate or ""
            return state in ("", "57P01", "57P02", "57P03") or state[:2] in ("08", "53")
        error = error.__cause__
    return False


def takes_no_writes(error: BaseException | None) -> bool:
    """Whether it says that the database can be read only: what was the primary before a failover does, until somebody
    leads Tocsin to the one that is it now."""
    while error is not None and not isinstance(error, errors.ReadOnlySqlTransaction):
        error = error.__cause__
    return error is not None


def rows(
    connection: Connection, query: LiteralString, parameters: Sequence[object] | dict[str, object] = ()
) -> list[DictRow]:
    """All rows of a query, each as a dict by column name."""
    with psycopg.Cursor(connection, row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def row(
    connection: Connection, query: LiteralString, parameters: Sequence[object] | dict[str, object] = ()
) -> DictRow | None:
    """The first row of a query as a dict, or None."""
    with psycopg.Cursor(connection, row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchone()


def hint(connection: Connection, *topics: str) -> None:
    """Tells listening nodes, when the transaction commits, that `topics` changed. Only a hint: it may be lost."""
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, " ".join(sorted(set(topics)))))


def django_settings(address: str) -> dict[str, object]:
    """The `DATABASES["default"]` entry for a libpq URL, with the same time limits as the pool's connections."""
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
    """Whether the address names more than one server, of which one is the primary."""
    said = conninfo_to_dict(address)
    return "," in str(said.get("host") or said.get("hostaddr") or "")


def _settings(name: str, address: str) -> dict[str, Any]:
    """What a connection is made with beside `address`: the limits of its session, and the timeouts that the address
    does not set itself. Of several servers, the one that takes writes."""
    said = conninfo_to_dict(address)
    options = str(said.get("options") or "")
    defaults: dict[str, Any] = dict(TIMEOUTS)
    if has_several_servers(address):
        defaults["target_session_attrs"] = "read-write"
    limits = (
        f"-c statement_timeout={_milliseconds(STATEMENT_TIMEOUT)} "
        f"-c idle_in_transaction_session_timeout={_milliseconds(IDLE_IN_TRANSACTION_TIMEOUT)} "
        "-c TimeZone=UTC"
    )
    missing = {key: value for key, value in defaults.items() if said.get(key) is None}
    return {**missing, "options": f"{options} {limits}".lstrip(), "application_name": name}


def _milliseconds(span: timedelta) -> int:
    return int(span / timedelta(milliseconds=1))


def literal(text: str) -> LiteralString:
    """Marks SQL composed of this code's own constants as such. Never for text that came from outside."""
    return text
