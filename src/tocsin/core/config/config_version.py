"""The configuration version, incremented by every configuration change so that all nodes reload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ObjectDoesNotExist
from django.db import connection as django_connection
from django.db import transaction
from django.db.models import Model

from tocsin.core.db.database import CHANNEL, Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_BUMP = (
    "INSERT INTO core_configversion (id, version) VALUES (1, 1) "
    "ON CONFLICT (id) DO UPDATE SET version = core_configversion.version + 1"
)


_DELETED = ReasonType("object.deleted", "This was deleted in the meantime.")

#: Taken by every transaction that changes configuration, so that its validation still holds when it commits.
_CHANGE_LOCK = int.from_bytes(b"config")


def lock() -> None:
    """Waits for other configuration changes, and locks until the caller's Django transaction ends."""
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_CHANGE_LOCK,))


@contextmanager
def exclusive(row: Model | None = None) -> Iterator[None]:
    """Opens a transaction that excludes other configuration changes, so that nothing changes between read and save.

    `row`, if given, is refreshed first. Raises `Rejected("not_found")` if it has been deleted.
    """
    with transaction.atomic():
        lock()
        try:
            if row is not None:
                row.refresh_from_db()
        except ObjectDoesNotExist:
            raise Rejected("not_found", _DELETED()) from None
        yield


def bump() -> None:
    """Increments the version, inside the caller's Django transaction that changed the configuration."""
    with django_connection.cursor() as cursor:
        cursor.execute(_BUMP)
        cursor.execute("SELECT pg_notify(%s, 'config')", (CHANNEL,))


def current_version(connection: Connection) -> int:
    """Returns the configuration version that `connection`'s transaction sees; 0 before the first change."""
    row = connection.execute("SELECT version FROM core_configversion WHERE id = 1").fetchone()
    return row[0] if row else 0
