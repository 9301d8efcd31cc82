"""Row-level security as a second belt: which viewer the queries of Django's connection are for.

`resources.row_security` makes the role and the policies. A viewer with a boundary reads as that role, in transactions
that name the viewer; everything else reads as the owner of the tables, to whom no policy applies. Transactions, and not
sessions, carry the role: a connection pooler may give a session to another client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

#: The parameters of a viewer's transactions: names of settings and their values.
type ViewerSettings = tuple[tuple[str, str], ...]

#: Ends the name of the role, which begins with the name of the tables' owner.
ROLE_SUFFIX = "_viewer"

_SET = "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS s(name, value)"

_FIND_ROLE = """
SELECT rolname FROM pg_roles WHERE rolname = session_user || %s AND pg_has_role(session_user, oid, 'MEMBER')
"""


def _nobody() -> ViewerSettings | None:
    return None


_current: Callable[[], ViewerSettings | None] = _nobody


def register(current: Callable[[], ViewerSettings | None]) -> None:
    """Registers what returns the settings of the current viewer; None without a boundary."""
    global _current
    _current = current


class RowSecurity:
    """Wraps each statement of one connection of Django's."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        #: The transaction blocks that are open, and the settings in force there.
        self._blocks: list[object] = []
        self._applied: ViewerSettings | None = None
        #: Whether the outermost of these blocks has had a viewer.
        self._had_viewer = False
        #: None: not looked up yet. Empty: there is none, or the connection's user is no member.
        self._role: str | None = None

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        viewer = _current()
        blocks: Sequence[object] = self._connection.atomic_blocks
        if viewer is not None and not blocks and self._has_role():
            with transaction.atomic(using=self._connection.alias):
                return self(execute, sql, params, many, context)
        if blocks:
            self._follow(blocks, viewer)
        return execute(sql, params, many, context)

    def _follow(self, blocks: Sequence[object], viewer: ViewerSettings | None) -> None:
        """Applies the viewer's settings to the transaction, where they may not be in force."""
        if self._blocks[:1] != list(blocks[:1]):
            self._had_viewer = False
        if viewer is None and not self._had_viewer:
            self._blocks = list(blocks)
            self._applied = None
            return
        # The end of a savepoint may have restored earlier settings.
        if (viewer != self._applied or self._blocks != list(blocks)) and self._has_role():
            settings = {**dict(viewer or ()), "role": self._role if viewer is not None else "none"}
            self._connection.connection.execute(_SET, (list(settings), list(settings.values())))
            self._had_viewer = True
        self._blocks, self._applied = list(blocks), viewer

    def _has_role(self) -> bool:
        if self._role is None:
            row = self._connection.connection.execute(_FIND_ROLE, (ROLE_SUFFIX,)).fetchone()
            self._role = row[0] if row else ""
        return bool(self._role)
