"""Connections that are closed when they lead to a server that is read-only, frozen or gone.

PostgreSQL cannot report either: after a failover the old server answers, but takes no writes; a frozen host
acknowledges every packet and answers none, so that no timeout of TCP ends the wait.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any, Self

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg.waiting import Ready

log = logging.getLogger(__name__)

#: Seconds that a statement may be silent until a second connection asks its server whether it lives, and again.
ASK_AFTER = 4.0

#: Seconds for the answer. libpq allows no less than 2 to connect.
PROBE_TIMEOUT = 4

#: What ends a statement, which would hold locks for ever. Each session is made with it.
STATEMENT_TIMEOUT = timedelta(seconds=30)

#: Seconds of silence after which the server must have ended a statement by that timeout, with a margin for itself.
MAX_SILENCE = STATEMENT_TIMEOUT.total_seconds() + 5

#: The monotonic time of the last connection that was found to lead to the wrong server.
_distrusted_at = float("-inf")


class GuardedConnection(psycopg.Connection[TupleRow]):
    """A connection that watches its statements, and says whether it should be replaced before it is used again."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.opened_at = time.monotonic()
        #: Seconds that a statement may be silent while its server lives; None: any time.
        self.max_silence: float | None = MAX_SILENCE

    def lift_time_limit(self) -> None:
        """Has the statements of this session take as long as they need."""
        self.execute("SET statement_timeout = 0")
        self.max_silence = None

    def restore_time_limit(self) -> None:
        """Has the usual limit for statements again."""
        self.execute("RESET statement_timeout")
        self.max_silence = MAX_SILENCE

    @property
    def is_outdated(self) -> bool:
        """Whether a connection that is not older than this one was found to lead to the wrong server."""
        return self.opened_at <= _distrusted_at

    def distrust(self) -> None:
        """Has this connection, and all others that are open now, replaced before their next use."""
        global _distrusted_at
        if not self.is_outdated:
            _distrusted_at = time.monotonic()

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's own, which is not documented. Raises OperationalError where the server is gone."""
        try:
            return super().wait(self._watched(gen), interval, timeout)
        except errors.ReadOnlySqlTransaction:
            # It stays open: reading goes on.
            self.distrust()
            raise

    def _watched[T](self, work: PQGen[T]) -> PQGen[T]:
        heard_at = time.monotonic()
        ask_at = heard_at + ASK_AFTER
        try:
            state = next(work)
            while True:
                # Without anything to read or write, psycopg returns after each `interval`.
                ready = yield state
                now = time.monotonic()
                if ready & Ready.R:
                    heard_at, ask_at = now, now + ASK_AFTER
                elif now >= ask_at:
                    self._check_server(now - heard_at)
                    ask_at = time.monotonic() + ASK_AFTER
                state = work.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _check_server(self, silence: float) -> None:
        """Raises OperationalError, with the connection closed, where its server will not answer any more."""
        is_overdue = self.max_silence is not None and silence > self.max_silence
        answer = _ask_server(self)
        if answer.lives and not (is_overdue and answer.may_end_it):
            return
        log.warning("PostgreSQL has not answered a statement for %.0f seconds: the connection is closed.", silence)
        if not answer.lives:
            self.distrust()
        self.close()
        raise psycopg.OperationalError(f"PostgreSQL has not answered for {silence:.0f} seconds")


class _Answer:
    """What a second connection found: whether the first one's session lives, and whether a timeout applies to it."""

    def __init__(self, *, lives: bool, may_end_it: bool = True) -> None:
        self.lives = lives
        self.may_end_it = may_end_it


class _Probe(psycopg.Connection[TupleRow]):
    @classmethod
    def to(cls, connection: psycopg.Connection[TupleRow]) -> Self:
        """A second connection to the very server of `connection`, which has one address of several."""
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


def _ask_server(connection: psycopg.Connection[TupleRow]) -> _Answer:
    """Only silence says that a server is frozen: one that refuses a connection, because it has no room, lives."""
    pid = connection.info.backend_pid
    try:
        with _Probe.to(connection) as probe:
            row = probe.execute(
                "SELECT pg_backend_pid(), (SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = %s)",
                (pid,),
            ).fetchone()
            assert row is not None
            # A pooler gives its clients process ids of its own.
            is_direct = row[0] == probe.info.backend_pid
    except (errors.ConnectionTimeout, errors._WaitTimeout):
        return _Answer(lives=False)
    except psycopg.Error:
        return _Answer(lives=True)
    if is_direct and row[1] is None:
        # The address leads to another server by now, or the session was ended and nobody could say so.
        return _Answer(lives=False)
    # A commit that waits for a synchronous standby is not ended by any timeout, and another would wait as long.
    return _Answer(lives=True, may_end_it=row[1] != "SyncRep")
