"""Changes the audit log as only the database's administrator can."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.core.db import database

#: Without triggers.
_TAMPER = "SET LOCAL session_replication_role = replica"


def tamper(statement: str, parameters: Sequence[object] = ()) -> None:
    """Runs a statement that the triggers of the audit log would refuse."""
    with database.transaction() as connection:
        connection.execute(_TAMPER)
        connection.execute(database.literal(statement), parameters)


def empty_audit_log() -> None:
    """Deletes every entry."""
    tamper("DELETE FROM access_auditentry")
