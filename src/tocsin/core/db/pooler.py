"""Detects a connection pooler that lends a server's session to one client after the other (PgBouncer's
`pool_mode = transaction` or `statement`).

Tocsin works behind one, but `LISTEN` and session locks do not: changes are noticed a second later, and tables must not
be migrated.
"""

from __future__ import annotations

import secrets

import psycopg

from tocsin.core.db import database
from tocsin.core.reasons import ReasonType

#: In seconds: a hint arrives within milliseconds, or never.
HINT_DEADLINE = 3.0

SHARES_SESSIONS = ReasonType(
    "database.pooler_shares_sessions",
    "TOCSIN_DATABASE_URL leads to a connection pooler in transaction mode.",
)
USE_SESSIONS = ReasonType(
    "database.pooler_use_sessions",
    "Point it at PostgreSQL itself, or set pool_mode = session for Tocsin's database in pgbouncer.ini.",
)


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
