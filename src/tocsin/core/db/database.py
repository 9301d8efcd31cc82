"""PostgreSQL connections outside Django: a small pool per process, and transactions on it.

Commands and periodic tasks use these connections; web requests use Django's. Both use the same database.
"""

from __future__ import annotations

import json
import logging
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, LiteralString, Self

import msgspec
import psycopg
from psycopg import errors
from psycopg.abc import Buffer, PQGen, QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow, TupleRow, dict_row
from psycopg.types.json import JsonbDumper, set_json_dumps, set_json_loads
from psycopg.waiting import Ready, Wait
from psycopg_pool import ConnectionPool

from tocsin.core.reasons import Reason, reason_as_json

# ---------- json text
# JSON of PostgreSQL: of jsonb columns, and of rows passed in one parameter.


def as_json(value: object) -> str:
    """Returns compact JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, TypeError):
        # A lone surrogate that was not sanitized becomes U+FFFD, so that the row is not lost. The other error is for
        # subclasses of str.
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def from_json(data: str | bytes) -> Any:
    """Returns the value that PostgreSQL sent. A number beyond the range of a float becomes infinite."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return json.loads(data)


def as_storable_json(value: object) -> str:
    """Returns JSON for unsanitized text: NUL, which jsonb cannot store, becomes U+FFFD."""
    return as_json(value).replace("\\u0000", "\\ufffd")


def bytes_in_json(value: bytes | None) -> str | None:
    """Returns bytes in the form that PostgreSQL converts from JSON text to bytea."""
    return None if value is None else f"\\x{value.hex()}"


# ---------- guarded connection
# Connections that are closed once they lead to a server that is read-only, frozen or gone.
#
# PostgreSQL reports neither. After a failover the old server still answers, but rejects writes. A frozen host
# acknowledges every packet but never responds, so that no TCP timeout ends the wait.
#
# Settings belong to the session. A connection pooler in transaction mode lends a server's session to one client after
# the other: behind a pooler, each transaction begins with the settings, and they end with it.


log = logging.getLogger(__name__)

#: Seconds of silence after which a second connection probes the server, and between further probes.
PROBE_AFTER_SECONDS = 4.0

#: Seconds for a probe's response. libpq's minimum connect timeout is 2.
PROBE_TIMEOUT = 4

#: Ends long statements, which would hold locks forever. Set for every session.
STATEMENT_TIMEOUT = timedelta(seconds=30)

#: Ends a transaction that is idle: a process that was stopped would hold its locks, and hold back pages of its alerts.
IDLE_IN_TRANSACTION_TIMEOUT = timedelta(seconds=15)

#: The settings of every session.
SESSION_SETTINGS: Mapping[str, str] = {
    "statement_timeout": f"{STATEMENT_TIMEOUT.total_seconds():.0f}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT.total_seconds():.0f}s",
    "TimeZone": "UTC",
}

#: Lets the server notice within 15 seconds that this machine is gone. Until then an open transaction holds its locks:
#: no other limit ends one whose next statement of a pipeline never arrives. Without effect on Unix sockets.
SERVER_KEEPALIVES: Mapping[str, str] = {
    "tcp_keepalives_idle": "5s",
    "tcp_keepalives_interval": "3s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
}

#: Seconds of silence by which the server must have ended a statement through that timeout, with a margin.
MAX_SILENCE = STATEMENT_TIMEOUT.total_seconds() + 5

#: What to do if PgBouncer rejects the parameter that sets the time limits of sessions.
POOLER_REMEDY = (
    "TOCSIN_DATABASE_URL leads to PgBouncer: point it at PostgreSQL itself, or add options to "
    "ignore_startup_parameters in pgbouncer.ini; each transaction then sets the time limits."
)

#: What libpq says about a server's certificate that it does not trust, and what to do.
_UNTRUSTED = "certificate verify failed"
CERTIFICATE_REMEDY = (
    "The server's certificate is not signed by an authority of sslrootcert in TOCSIN_DATABASE_URL: name the file of "
    "the right authority."
)

#: When a connection was last found to lead to the wrong server, by the monotonic clock.
_outdated_at = float("-inf")


class GuardedConnection(psycopg.Connection[TupleRow]):
    """A connection that monitors its statements and reports whether it must be replaced before the next use."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_at = time.monotonic()
        #: Maximum seconds that a statement may be silent on a live server; None for no limit.
        self.max_silence: float | None = MAX_SILENCE
        #: Whether a pooler is between this connection and its server.
        self.is_pooled = False
        #: The settings of each transaction behind a pooler.
        self._transaction_settings: dict[str, str] = {}
        #: Whether a COMMIT may be missing on the synchronous standbys, because its wait for them was cancelled.
        self.has_unconfirmed_commit = False
        self.add_notice_handler(self._on_notice)

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Extends psycopg's method: detects a pooler, and adds a remedy to PgBouncer's error, which does not name
        PgBouncer."""
        try:
            connection = super().connect(conninfo, **kwargs)
            try:
                connection._detect_pooler()
            except BaseException:
                connection.close()
                raise
            return connection
        except psycopg.OperationalError as error:
            # libpq reports no error code here. PgBouncer does not translate its messages.
            if "unsupported startup parameter" in str(error):
                raise psycopg.OperationalError(f"{error}. {POOLER_REMEDY}") from error
            if _UNTRUSTED in str(error):
                raise psycopg.OperationalError(f"{error}. {CERTIFICATE_REMEDY}") from error
            raise

    def _detect_pooler(self) -> None:
        # A pooler reports process ids of its own, and drops or ignores the startup parameter `options`.
        row = self.execute("SELECT pg_backend_pid()").fetchone()
        self.rollback()
        self.is_pooled = row is not None and row[0] != self.info.backend_pid
        if self.is_pooled:
            self._transaction_settings = dict(SESSION_SETTINGS)
            # Prepared statements belong to the session too.
            self.prepare_threshold = None

    def _on_notice(self, notice: errors.Diagnostic) -> None:
        """Notices PostgreSQL's warning that a cancelled COMMIT did not wait for the standby. The text is localized."""
        if notice.source_function == "SyncRepWaitForLSN":
            self.has_unconfirmed_commit = True

    def confirm_commits(self, *, is_known: bool = True) -> None:
        """Waits until the synchronous standbys have everything that was committed before, by one small commit of its
        own. A transaction whose own wait was lost or cancelled is visible although no standby may have it.

        With `is_known`, returns at once unless a wait of this connection was cancelled."""
        while self.has_unconfirmed_commit or not is_known:
            self.has_unconfirmed_commit, is_known = False, True
            # A server that only reads has nothing to confirm.
            self.execute(
                "SELECT pg_logical_emit_message(true, 'tocsin', '') "
                "WHERE current_setting('transaction_read_only') = 'off'"
            )
            self.commit()

    def set_settings(self, **settings: str) -> None:
        """Sets settings of this session; behind a pooler of its transactions, the current one included. A statement
        outside of a transaction then has none of them."""
        if self.is_pooled:
            self._transaction_settings |= settings
        if not self.is_pooled or self.info.transaction_status == TransactionStatus.INTRANS:
            self.execute(_set_config(settings, is_local=self.is_pooled))

    def reset_settings(self, *names: str) -> None:
        """Reverts `set_settings`."""
        for name in names:
            if not self.is_pooled:
                self.execute(f"RESET {name}".encode())
            elif name in SESSION_SETTINGS:
                self.set_settings(**{name: SESSION_SETTINGS[name]})
            else:
                del self._transaction_settings[name]

    def begin(self, mode: str = "") -> None:
        """Begins a transaction of a connection in autocommit mode. In a pipeline, this costs no round trip."""
        self.execute(f"BEGIN {mode}".rstrip().encode())
        if self.is_pooled:
            self.execute(_set_config(self._transaction_settings, is_local=True))

    def _exec_command(self, command: QueryNoTemplate, result_format: Format = Format.TEXT) -> PQGen[PGresult | None]:
        """Extends psycopg's undocumented method, which also begins transactions."""
        result = yield from super()._exec_command(command, result_format)
        if self.is_pooled and command == self._get_tx_start_command():
            yield from super()._exec_command(_set_config(self._transaction_settings, is_local=True))
        return result

    def forbid_writes(self) -> None:
        """Rejects every write from now on; behind a pooler only those of transactions."""
        # Within a transaction, the default no longer counts.
        self.set_settings(**{"transaction_read_only" if self.is_pooled else "default_transaction_read_only": "on"})

    def lift_time_limit(self) -> None:
        """Removes the statement time limit of this session."""
        self.set_settings(statement_timeout="0")
        self.max_silence = None

    def restore_time_limit(self) -> None:
        """Restores the statement time limit of this session."""
        self.reset_settings("statement_timeout")
        self.max_silence = MAX_SILENCE

    @property
    def is_outdated(self) -> bool:
        """Whether a connection of the same age or younger was found to lead to the wrong server."""
        return self.opened_at <= _outdated_at

    def mark_outdated(self) -> None:
        """Marks this connection, and all others that are open now, for replacement before their next use."""
        global _outdated_at
        if not self.is_outdated:
            _outdated_at = time.monotonic()

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Extends psycopg's undocumented method. Raises OperationalError if the server is gone."""
        # Whoever waits for hints for a limited time need not wake ten times a second meanwhile.
        interval = timeout or interval
        try:
            return super().wait(self._with_probes(gen), interval, timeout)
        except errors.ReadOnlySqlTransaction:
            # The connection stays open, because reads still work.
            self.mark_outdated()
            raise

    def _with_probes[T](self, work: PQGen[T]) -> PQGen[T]:
        last_response_at = time.monotonic()
        next_probe_at = last_response_at + PROBE_AFTER_SECONDS
        try:
            state = next(work)
            while True:
                # Without any I/O, psycopg resumes this generator after each `interval`.
                ready = yield state
                now = time.monotonic()
                if ready & Ready.R:
                    last_response_at, next_probe_at = now, now + PROBE_AFTER_SECONDS
                elif now >= next_probe_at:
                    self._check_server(now - last_response_at)
                    next_probe_at = time.monotonic() + PROBE_AFTER_SECONDS
                state = work.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _check_server(self, silence: float) -> None:
        """Closes the connection and raises OperationalError if its server will never respond."""
        is_overdue = self.max_silence is not None and silence > self.max_silence
        is_alive, can_time_out = _probe_server(self)
        if is_alive and not (is_overdue and can_time_out):
            return
        log.warning("PostgreSQL has not answered a statement for %.0f seconds: the connection is closed.", silence)
        if not is_alive:
            self.mark_outdated()
        self.close()
        raise psycopg.OperationalError(f"PostgreSQL has not answered for {silence:.0f} seconds")


def _set_config(settings: Mapping[str, str], *, is_local: bool) -> bytes:
    """Returns one statement that sets the settings for the session, or only for the transaction."""
    calls = (f"set_config('{name}', '{value}', {is_local})" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}".encode()


class _Probe(psycopg.Connection[TupleRow]):
    @classmethod
    def connect_to(cls, connection: psycopg.Connection[TupleRow]) -> Self:
        """Opens a second connection to the exact server of `connection`, whose URL may name several."""
        info = connection.info
        settings: dict[str, Any] = {
            **info.get_parameters(),
            "host": info.host,
            "port": info.port,
            "password": info.password,
            "connect_timeout": PROBE_TIMEOUT,
            "target_session_attrs": "any",
            "application_name": "tocsin probe",
        }
        if hostaddr := connection.pgconn.hostaddr:
            settings["hostaddr"] = hostaddr.decode()
        return cls.connect(autocommit=True, **settings)

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        return super().wait(gen, interval, PROBE_TIMEOUT)


def _probe_server(connection: psycopg.Connection[TupleRow]) -> tuple[bool, bool]:
    """Returns whether the session is alive, and whether the statement timeout can end its statement. Only a missing
    response proves a frozen server: one that rejects connections is alive."""
    pid = connection.info.backend_pid
    try:
        with _Probe.connect_to(connection) as probe:
            row = probe.execute(
                "SELECT pg_backend_pid(), (SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = %s)",
                (pid,),
            ).fetchone()
            assert row is not None
            # A connection pooler reports process ids of its own.
            is_direct = row[0] == probe.info.backend_pid
    except (errors.ConnectionTimeout, errors._WaitTimeout):
        return False, True
    except psycopg.Error:
        return True, True
    # Without a row, the address now leads to another server, or the session ended without a notification. No timeout
    # ends a commit that waits for a synchronous standby, and a retry would wait just as long.
    return not is_direct or row[1] is not None, row[1] != "SyncRep"


# ---------- pipelined connection
# A connection that writes to its socket without first polling whether it is writable.
#
# psycopg polls before each statement of a pipeline, which releases the interpreter. Beside a busy thread, a batch of
# sixteen statements then waits for the interpreter sixteen times. A socket is nearly always writable; if not, libpq
# buffers the rest and sends it at the end of the pipeline.


#: Maximum consecutive writes without polling. After that, the connection waits until the socket is writable.
_MAX_WRITES_WITHOUT_POLL = 8


class PipelinedConnection(GuardedConnection):
    """A connection for pipelines in a process whose other threads are busy."""

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Extends psycopg's undocumented method: a wait for a writable socket returns at once."""
        try:
            return super().wait(_writing_first(gen), interval, timeout)
        except errors.ReadOnlySqlTransaction:
            # These connections are used for writing. The pool replaces a closed one as soon as it is returned.
            self.close()
            raise


def _writing_first[T](work: PQGen[T]) -> PQGen[T]:
    try:
        state = next(work)
        for _ in range(_MAX_WRITES_WITHOUT_POLL):
            if state != Wait.RW:
                break
            state = work.send(Ready.W)
        while True:
            state = work.send((yield state))
    except StopIteration as end:
        result: T = end.value
        return result


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
set_json_loads(from_json)
set_json_dumps(as_json)


class _ReasonDumper(JsonbDumper):
    """A reason is a parameter of a statement, or part of an array, as it is."""

    def dump(self, obj: Reason) -> Buffer | None:
        return super().dump(reason_as_json(obj))


psycopg.adapters.register_dumper(Reason, _ReasonDumper)

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


def rows_by_id(connection: Connection, table: str, ids: Iterable[int], columns: Sequence[str]) -> dict[int, DictRow]:
    """Returns `id` and these columns of the rows with these ids, by id. Only the room that owns the table calls it."""
    query = literal(f"SELECT {', '.join(('id', *columns))} FROM {table} WHERE id = ANY(%s)")
    return {row["id"]: row for row in rows(connection, query, (list(ids),))}


def columns(table: Iterable[Sequence[object]]) -> list[list[object]]:
    """Returns the columns of a table of at least one row, as `unnest` takes them."""
    return [list(column) for column in zip(*table, strict=True)]


def notify(connection: Connection, *topics: str) -> None:
    """Sends a hint, when the transaction commits, that `topics` changed. Delivery is not guaranteed."""
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, " ".join(sorted(set(topics)))))


def django_settings(address: str) -> dict[str, object]:
    """Returns the `DATABASES["default"]` entry for a libpq URL, with the time limits of the pool's connections."""
    parts = conninfo_to_dict(address)
    user = parts.pop("user", "")
    return {
        "ENGINE": "tocsin.core.db",
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


# ---------- split batch
# Works on rows in batches, each a transaction of its own. A batch that fails is split, so that one bad row, or too
# many rows for the processor at hand, stop no others.


@dataclass(slots=True)
class Batch[K]:
    """The rows of one transaction: those of `keys`; without any, as many due rows as `limit` allows.

    The transaction replaces `keys` by the rows that it has claimed: if it fails, only those are tried again.
    """

    limit: int
    keys: Sequence[K] = ()


#: The least that a batch may claim, so that each of some lanes has its turn.
_MIN_SIZE = 16

#: In seconds. What falls due during a batch waits for its end: one that takes longer is too large for the processor.
SLOW_BATCH = 0.5


class BatchRunner[K]:
    """Runs the batches of one task and remembers how many rows a batch may have.

    The number doubles with each full batch, up to `most`, follows batches that end early, and is halved after a slow
    batch and after any failure: what looks like an outage of the database may be a session that the server ended,
    because the batch was too large for a busy machine.
    """

    def __init__(
        self,
        what: str,
        start: int,
        most: int,
        *,
        caught: type[Exception] | tuple[type[Exception], ...] = Exception,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` names a batch in the log. A row is at fault only for errors of `caught`; others are raised. `elapsed`
        returns monotonic seconds."""
        self._what = what
        self._start = start
        self._most = most
        self._caught = caught
        self._elapsed = elapsed
        self.size = start
        #: The row that was alone when the database was last unavailable.
        self._suspect: K | None = None

    def run(
        self, work: Callable[[Batch[K]], bool], failed: Callable[[K, Exception], object], keys: Sequence[K] = ()
    ) -> bool:
        """Runs `work`, a whole transaction, with the rows of `keys`, or with those that are due, and returns what it
        returns: whether more may be due right away. If it fails, its rows are tried by halves, each in a session of its
        own, and `failed` is called with those that fail alone.

        An unavailable database is no fault of a row: that error is raised, unless the same row causes it twice.
        """
        batch, started_at = Batch(self.size, keys), self._elapsed()
        try:
            has_more = retry_once(partial(work, batch))
        except Exception as error:
            self.size = max(1, min(self.size, len(batch.keys) or self.size) // 2)
            if not self._is_to_split(batch.keys, error):
                raise
            if len(batch.keys) == 1:
                failed(batch.keys[0], error)
                return False
            log.exception("%s failed: its %d rows are tried by halves.", self._what, len(batch.keys))
            half = len(batch.keys) // 2
            for part in (batch.keys[:half], batch.keys[half:]):
                self.run(work, failed, part)
            return False
        if not keys:
            is_slow = self._elapsed() - started_at > SLOW_BATCH
            self.size = self._next_size(len(batch.keys), is_slow=is_slow) if has_more else self._start
        return has_more

    def _next_size(self, count: int, *, is_slow: bool) -> int:
        least = min(self.size, self._start, _MIN_SIZE)
        if is_slow:
            return max(min(2 * count, self.size // 2), least)
        if 2 * count > self.size:
            return min(self._most, 2 * self.size)
        # The transaction ended with fewer rows than it had claimed: it locked and read the others for nothing.
        return max(2 * count, least)

    def _is_to_split(self, keys: Sequence[K], error: Exception) -> bool:
        if not keys or not isinstance(error, self._caught):
            return False
        if not is_unavailable(error):
            return True
        is_alone, is_repeated = len(keys) == 1, self._suspect == keys[0]
        self._suspect = keys[0] if is_alone else None
        return is_alone and is_repeated
