"""Indexes for parts of texts: PostgreSQL's own extension pg_trgm, and what becomes of them where it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from django.contrib.postgres.indexes import GinIndex
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.models import Func, Model, TextField, Value

#: pg_trgm comes with PostgreSQL, and whoever may create something in a database may create it there (version 13).
_CREATE_IF_POSSIBLE = """
DO $create$ BEGIN
  CREATE EXTENSION IF NOT EXISTS pg_trgm;
  %(create)s;
EXCEPTION WHEN undefined_file OR insufficient_privilege OR feature_not_supported THEN
  RAISE WARNING 'This server has no pg_trgm for Tocsin: the index %(name)s is not created, and searching is slow.';
END $create$
"""

#: How a text is kept to be searched: in upper case, and what is not ASCII as numbers, each after a small `q`, which no
#: such text has. For pg_trgm a letter is what the database's locale says, and in Tocsin's own database it says ASCII.
_KEPT: LiteralString = "replace(encode(convert_to(upper({}), 'UTF8'), 'escape'), '\\', 'q')"


def kept(*columns: LiteralString) -> LiteralString:
    """SQL of the texts of these columns as they are kept, separated by commas."""
    return ", ".join(_KEPT.replace("{}", column) for column in columns)


class SearchableText(Func):
    """A part of a text as it is kept, for a condition on kept texts."""

    template = _KEPT.replace("{}", "%(expressions)s")
    output_field = TextField()

    def __init__(self, text: str) -> None:
        super().__init__(Value(text))


class TrigramIndex(GinIndex):
    """An index of the operator class `gin_trgm_ops`, and the extension before it.

    A server that lacks the extension, or that refuses to create it, gets no index: a search finds the same, and takes
    as long as the table is.
    """

    def __init__(self, *, fields: Sequence[str], name: str) -> None:
        super().__init__(fields=fields, name=name, opclasses=["gin_trgm_ops"] * len(fields))

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        path, arguments, options = super().deconstruct()
        options.pop("opclasses", None)
        return path, arguments, options

    def create_sql(
        self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **options: Any
    ) -> Statement:
        create = super().create_sql(model, schema_editor, using=using, **options)
        return Statement(_CREATE_IF_POSSIBLE, table=model._meta.db_table, create=create, name=self.name)

    def remove_sql(  # type: ignore[override]
        self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor, **options: Any
    ) -> Statement:
        name = schema_editor.quote_name(self.name)
        return Statement("DROP INDEX IF EXISTS %(name)s", table=model._meta.db_table, name=name)
