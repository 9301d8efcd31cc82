"""Connections that are closed once they lead to a server that is read-only, frozen or gone.

PostgreSQL reports neither. After a failover the old server still answers, but rejects writes. A frozen host
acknowledges every packet but never responds, so that no TCP timeout ends the wait.

Settings belong to the session. A connection pooler in transaction mode lends a server's session to one client after the
other: behind a pooler, each transaction begins with the settings, and they end with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

import psycopg
from psycopg import errors
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.pq import Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow
from psycopg.waiting import Ready

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
        probe = _probe_server(self)
        if probe.is_alive and not (is_overdue and probe.can_time_out):
            return
        log.warning("PostgreSQL has not answered a statement for %.0f seconds: the connection is closed.", silence)
        if not probe.is_alive:
            self.mark_outdated()
        self.close()
        raise psycopg.OperationalError(f"PostgreSQL has not answered for {silence:.0f} seconds")


def _set_config(settings: Mapping[str, str], *, is_local: bool) -> bytes:
    """Returns one statement that sets the settings for the session, or only for the transaction."""
    calls = (f"set_config('{name}', '{value}', {is_local})" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}".encode()


class _ProbeResult:
    """The result of a probe: whether the session is alive, and whether the statement timeout can end its statement."""

    def __init__(self, *, is_alive: bool, can_time_out: bool = True) -> None:
        self.is_alive = is_alive
        self.can_time_out = can_time_out


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


def _probe_server(connection: psycopg.Connection[TupleRow]) -> _ProbeResult:
    """Probes the server. Only a missing response proves a frozen server: one that rejects connections is alive."""
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
        return _ProbeResult(is_alive=False)
    except psycopg.Error:
        return _ProbeResult(is_alive=True)
    if is_direct and row[1] is None:
        # The address now leads to another server, or the session ended without a notification.
        return _ProbeResult(is_alive=False)
    # No timeout ends a commit that waits for a synchronous standby, and a retry would wait just as long.
    return _ProbeResult(is_alive=True, can_time_out=row[1] != "SyncRep")
