"""Checks that the last backup is recent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tocsin.core.config.last_backup import load_status
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Ago, ReasonType
from tocsin.operate.finding import HealthFinding, note

_NONE = ReasonType("health.backup_none", "No backup has been made.")
_OLD = ReasonType("health.backup_old", "The last backup was made {ago}: {location}.")
_REMEDY = ReasonType(
    "health.backup_remedy",
    "Run `tocsin backup` every day, from cron for instance. Report a backup made by other means to "
    "/api/v1/system/last-backup.",
)


def check(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """A problem without a backup for a week; before that, a note that there is none yet."""
    status = load_status(connection, now)
    if status.is_overdue:
        if status.last is None:
            yield HealthFinding("backup.none", _NONE(), _REMEDY())
        else:
            detail = _OLD(ago=Ago(status.unsaved_for), location=status.last.location)
            yield HealthFinding("backup.old", detail, _REMEDY())
    elif status.last is None:
        yield note("backup.none", _NONE(), _REMEDY())
