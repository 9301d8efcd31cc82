"""Django connections that are guarded like the pool's, and reused only while they lead to the primary."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from tocsin.core.db.database import GuardedConnection
from tocsin.core.db.row_security import RowSecurity


def _driver() -> ModuleType:
    """Returns psycopg as Django uses it, with GuardedConnection as its connection class."""
    driver = ModuleType("psycopg")
    vars(driver).update(vars(psycopg), connect=GuardedConnection.connect)
    return driver


class DatabaseWrapper(base.DatabaseWrapper):
    """The backend. Django requires this class name."""

    Database = _driver()
    connection: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(RowSecurity(self))

    def commit(self) -> None:
        """Commits, and waits again if the wait for the synchronous standbys was cancelled."""
        super().commit()
        if self.connection is not None:
            with self.wrap_database_errors:
                self.connection.confirm_commits()

    def is_usable(self) -> bool:
        """Returns whether the connection works and accepts writes. Django calls it before reusing the connection."""
        if self.connection is None or self.connection.is_outdated:
            return False
        try:
            # Costs the same as Django's own check, SELECT 1.
            row = self.connection.execute("SELECT current_setting('transaction_read_only')").fetchone()
        except psycopg.Error:
            return False
        return bool(row == ("off",))
