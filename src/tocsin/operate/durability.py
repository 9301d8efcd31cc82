"""Whether a COMMIT on this database means that the data survives: what every 2xx answer rests on."""

from __future__ import annotations

from tocsin.core import database
from tocsin.core.database import Connection


def problem(connection: Connection) -> str | None:
    """Why a committed message could be lost, or None."""
    row = database.row(
        connection,
        "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS sync, "
        "current_setting('full_page_writes') AS pages, pg_is_in_recovery() AS standby",
    )
    assert row is not None
    if row["standby"]:
        return "the database is a standby: it takes no writes"
    if row["fsync"] != "on":
        return "fsync is off in PostgreSQL: a power cut loses messages that were answered"
    if row["pages"] != "on":
        return "full_page_writes is off in PostgreSQL: a power cut can destroy the database"
    if row["sync"] == "off":
        return "synchronous_commit is off in PostgreSQL: a crash loses the last messages that were answered"
    return None
