"""Keeps Django's and the pool's connections open from one test to the next that uses the same database.

A session that begins anew costs PostgreSQL more than most of a test's statements: it reads the catalogues again.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg as psycopg_module
from psycopg.pq import ExecStatus, TransactionStatus

from tocsin.core.db.database import MAX_SILENCE, GuardedConnection

#: As many of a kind are kept.
_MAX_ALIKE = 2

#: Resets the state of a session, but for prepared statements, and reports what it counted of its changes.
_RESET = (
    b"RESET SESSION AUTHORIZATION; RESET ALL; UNLISTEN *; CLOSE ALL; DISCARD TEMP; DISCARD SEQUENCES;"
    b"SELECT pg_advisory_unlock_all(); SELECT pg_stat_force_next_flush()"
)

#: What tells a lent database's URLs apart (see `tests.support.postgres`).
_NUMBER = re.compile(r"&application_name=test\d+")

_connect = psycopg_module.Connection.connect.__func__  # type: ignore[attr-defined]
_close = psycopg_module.Connection.close

_kept: dict[Hashable, list[GuardedConnection]] = {}
_is_keeping = False


@contextmanager
def kept() -> Iterator[None]:
    """Keeps the connections that are closed meanwhile, if nothing but their session's state is left of their use."""
    global _is_keeping
    _is_keeping = True
    try:
        yield
    finally:
        _is_keeping = False


def pids(database: str) -> list[int]:
    """The processes of the connections that are kept to the database of that name."""
    return [one.info.backend_pid for alike in _kept.values() for one in alike if one.info.dbname == database]


def close(database: str) -> None:
    """Closes what is kept to the database of that name."""
    for alike in _kept.values():
        for connection in [one for one in alike if one.info.dbname == database]:
            alike.remove(connection)
            _close(connection)


def _connect_or_take(cls: type[Any], conninfo: str = "", **settings: Any) -> Any:
    """Takes the place of psycopg's method."""
    if not issubclass(cls, GuardedConnection):
        return _connect(cls, conninfo, **settings)
    kind = (cls, _NUMBER.sub("", conninfo), frozenset(settings.items()))
    alike = _kept.get(kind, [])
    while alike:
        connection = alike.pop()
        if _is_alive(connection):
            connection.opened_at = time.monotonic()
            return connection
        _close(connection)
    connection = _connect(cls, conninfo, **settings)
    vars(connection)["kind"] = kind
    return connection


def _close_or_keep(connection: GuardedConnection) -> None:
    """Takes the place of psycopg's method."""
    kind = vars(connection).get("kind")
    if _is_keeping and kind and len(_kept.get(kind, [])) < _MAX_ALIKE and _reset(connection):
        _kept.setdefault(kind, []).append(connection)
    else:
        _close(connection)


def _reset(connection: GuardedConnection) -> bool:
    """Whether the connection is as if it was new."""
    if (
        connection.closed
        or not connection.autocommit
        or connection.info.transaction_status != TransactionStatus.IDLE
        or connection.is_pooled
        or connection.has_unconfirmed_commit
        or connection._notify_handlers
        or not _is_alive(connection)
    ):
        return False
    connection.max_silence = MAX_SILENCE
    return connection.pgconn.exec_(_RESET).status == ExecStatus.TUPLES_OK


def _is_alive(connection: GuardedConnection) -> bool:
    """Whether its server has not ended it, of which it would say so."""
    poller = select.poll()
    poller.register(connection.pgconn.socket, select.POLLIN)
    return not poller.poll(0)


psycopg_module.Connection.connect = classmethod(_connect_or_take)  # type: ignore[assignment]
GuardedConnection.close = _close_or_keep  # type: ignore[method-assign]
