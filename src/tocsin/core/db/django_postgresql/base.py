"""Django's connections: guarded like those of the pool, and reused only while they lead to the primary."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from tocsin.core.db.guarded_connection import GuardedConnection


def _driver() -> ModuleType:
    """psycopg as Django sees it, with connections of our own class."""
    driver = ModuleType("psycopg")
    vars(driver).update(vars(psycopg), connect=GuardedConnection.connect)
    return driver


class DatabaseWrapper(base.DatabaseWrapper):
    """The backend; Django finds it by this name."""

    Database = _driver()
    connection: Any

    def is_usable(self) -> bool:
        """Whether the connection works and takes writes. Django asks before a request reuses it."""
        if self.connection is None or self.connection.is_outdated:
            return False
        try:
            # At the cost of Django's own check, SELECT 1.
            row = self.connection.execute("SELECT current_setting('transaction_read_only')").fetchone()
        except psycopg.Error:
            return False
        return bool(row == ("off",))
