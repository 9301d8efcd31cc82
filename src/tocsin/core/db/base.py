"""Django connections that are guarded like the pool's, and reused only while they lead to the primary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import psycopg
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql import base

from tocsin.core.db import database
from tocsin.core.db.database import STATEMENT_TIMEOUT, Connection, GuardedConnection

# ---------- row security
# Row-level security as a second belt: which viewer the queries of a connection are for.
#
# `resources.visibility` makes the role and the policies. A viewer with a boundary reads as that role, in transactions
# that name the viewer; everything else reads as the owner of the tables, to whom no policy applies. Transactions, and
# not sessions, carry the role: a connection pooler may give a session to another client.


#: The parameters of a viewer's transactions: names of settings and their values.
type ViewerSettings = tuple[tuple[str, str], ...]

#: The view of the alerts about which the viewer of a transaction was paged.
OWN_PAGES = "notify_own_pages"

#: Ends the name of the role, which begins with the name of the tables' owner.
ROLE_SUFFIX = "_viewer"

# Where there is no role, or the connection's user is no member of it, the statements run as the owner. Reads no table:
# planning that would take longer than most queries of a page.
_SET_ROLE = f"""set_config('role', CASE
  WHEN %s AND pg_has_role(session_user, to_regrole(quote_ident(session_user || '{ROLE_SUFFIX}')), 'MEMBER')
  THEN session_user || '{ROLE_SUFFIX}' ELSE 'none' END, true)"""


# A request of a viewer is one transaction, which waits while a report reads by another connection: for two statements.
_IDLE_TIMEOUT = ("idle_in_transaction_session_timeout", f"{2 * STATEMENT_TIMEOUT.total_seconds() + 15:.0f}s")


def _nobody() -> ViewerSettings | None:
    return None


_current: Callable[[], ViewerSettings | None] = _nobody


def register(current: Callable[[], ViewerSettings | None]) -> None:
    """Registers what returns the settings of the current viewer; None without a boundary."""
    global _current
    _current = current


@contextmanager
def viewer_transaction() -> Iterator[Connection]:
    """Yields a connection of Tocsin's pool in a transaction that reads as the current viewer."""
    with database.transaction() as pooled:
        if (viewer := _current()) is not None:
            _set_viewer(pooled, viewer)
        yield pooled


def _set_viewer(psycopg_connection: Any, viewer: ViewerSettings | None) -> None:
    settings = (*viewer, _IDLE_TIMEOUT) if viewer is not None else ()
    statement = "SELECT " + ", ".join([*("set_config(%s, %s, true)" for _ in settings), _SET_ROLE])
    psycopg_connection.execute(statement, (*(part for setting in settings for part in setting), viewer is not None))


class RowSecurity:
    """Wraps each statement of one connection of Django's."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        #: The transaction blocks that are open, and the settings in force there.
        self._blocks: list[object] = []
        self._applied: ViewerSettings | None = None
        #: Whether the outermost of these blocks has had a viewer.
        self._had_viewer = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        viewer = _current()
        blocks: Sequence[object] = self._connection.atomic_blocks
        if viewer is not None and not blocks:
            with transaction.atomic(using=self._connection.alias):
                return self(execute, sql, params, many, context)
        if blocks:
            self._follow(list(blocks), viewer)
        return execute(sql, params, many, context)

    def _follow(self, blocks: list[object], viewer: ViewerSettings | None) -> None:
        """Applies the viewer's settings to the transaction, where they may not be in force."""
        if self._blocks[:1] != blocks[:1]:
            self._had_viewer = False
        # The end of a savepoint may have restored earlier settings.
        is_new = viewer != self._applied or self._blocks != blocks
        if is_new and (viewer is not None or self._had_viewer):
            _set_viewer(self._connection.connection, viewer)
            self._had_viewer = True
        self._blocks, self._applied = blocks, viewer


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
