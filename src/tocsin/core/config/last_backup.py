"""When the last backup was made, its size and place. `tocsin backup` records it; other ways report it to the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: Without a backup for so long, System and doctor warn.
MAX_AGE = timedelta(days=7)

_SAVE = (
    "INSERT INTO core_setting (name, value) VALUES ('last_backup', %s) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_LOAD = """
SELECT (SELECT value FROM core_setting WHERE name = 'last_backup') AS value,
       (SELECT min(applied) FROM django_migrations) AS installed_at
"""


@dataclass(frozen=True, slots=True)
class LastBackup:
    """One backup. `location` is as its maker names it, such as "host:/backup/tocsin-2026-11-25"."""

    at: datetime
    location: str
    #: None: not reported.
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BackupStatus:
    """The last backup, if any, and how long the installation has been without one."""

    last: LastBackup | None
    unsaved_for: timedelta

    @property
    def is_overdue(self) -> bool:
        return self.unsaved_for > MAX_AGE


def record(connection: Connection, backup: LastBackup) -> None:
    """Stores the backup as the last one."""
    value = {"at": backup.at.isoformat(), "location": backup.location, "size_bytes": backup.size_bytes}
    connection.execute(_SAVE, (Jsonb(value),))


def load_status(connection: Connection, now: datetime) -> BackupStatus:
    """Returns the status at `now`. Without a backup, the installation's age counts."""
    row = database.row(connection, _LOAD)
    assert row is not None
    stored = row["value"]
    if stored is None:
        return BackupStatus(None, now - row["installed_at"])
    last = LastBackup(datetime.fromisoformat(stored["at"]), stored["location"], stored["size_bytes"])
    return BackupStatus(last, now - last.at)
