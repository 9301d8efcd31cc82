"""Indexes for parts of texts: PostgreSQL's own extension pg_trgm, and what becomes of them where it is missing."""

from __future__ import annotations

import logging
from typing import LiteralString

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddIndex
from django.db.migrations.state import ProjectState
from django.db.models import Func, TextField, Value

log = logging.getLogger(__name__)

#: How a text is kept to be searched: in upper case, and what is not ASCII as numbers, each after a small `q`, which no
#: such text has. For pg_trgm a letter is what the database's locale says, and in Tocsin's own database it says ASCII.
_KEPT: LiteralString = "replace(encode(convert_to(upper({}), 'UTF8'), 'escape'), '\\', 'q')"

#: It comes with PostgreSQL, and since version 13 whoever may create something in the database may create it.
_MAY_HAVE_IT = """
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm')
    OR (EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
        AND has_database_privilege(current_database(), 'CREATE'))
"""


def kept(*columns: LiteralString) -> LiteralString:
    """SQL of the texts of these columns as they are kept, separated by commas."""
    return ", ".join(_KEPT.replace("{}", column) for column in columns)


class Kept(Func):
    """A part of a text as it is kept, for a condition on kept texts."""

    template = _KEPT.replace("{}", "%(expressions)s")
    output_field = TextField()

    def __init__(self, text: str) -> None:
        super().__init__(Value(text))


class AddTextIndex(AddIndex):
    """Makes an index of the operator class `gin_trgm_ops`, and the extension before it.

    Where the server does not have the extension, or does not let us create it, there is no index: searching finds the
    same, and takes as long as the table is.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(_MAY_HAVE_IT)
            row = cursor.fetchone()
            if row is None or not row[0]:
                log.warning("The server has no pg_trgm for us: %s is not made, and searching is slow.", self.index.name)
                return
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Removes the index where there is one."""
        name = schema_editor.quote_name(self.index.name)
        schema_editor.execute(f"DROP INDEX IF EXISTS {name}", params=None)
