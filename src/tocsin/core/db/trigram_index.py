"""Trigram indexes for substring search, by PostgreSQL's extension pg_trgm. Servers without it get no index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from django.contrib.postgres.indexes import GinIndex
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.models import Func, Model, TextField, Value

#: pg_trgm comes with PostgreSQL. From version 13, any user with CREATE on a database may install it there.
_CREATE_IF_POSSIBLE = """
DO $create$ BEGIN
  CREATE EXTENSION IF NOT EXISTS pg_trgm;
  %(create)s;
EXCEPTION WHEN undefined_file OR insufficient_privilege OR feature_not_supported THEN
  RAISE WARNING 'This server has no pg_trgm for Tocsin: the index %(name)s is not created, and searching is slow.';
END $create$
"""

#: The form in which a text is indexed: upper case, with each non-ASCII byte as a number after a lower-case `q`, which
#: cannot otherwise occur. pg_trgm recognizes letters by the database's locale, which is ASCII in the embedded database.
_INDEXED_FORM: LiteralString = "replace(encode(convert_to(upper({}), 'UTF8'), 'escape'), '\\', 'q')"


def search_expression(*columns: LiteralString) -> LiteralString:
    """Returns SQL for the indexed form of these columns, separated by commas."""
    return ", ".join(_INDEXED_FORM.replace("{}", column) for column in columns)


class SearchableText(Func):
    """The indexed form of a search text, for conditions on indexed columns."""

    template = _INDEXED_FORM.replace("{}", "%(expressions)s")
    output_field = TextField()

    def __init__(self, text: str) -> None:
        super().__init__(Value(text))


class TrigramIndex(GinIndex):
    """A GIN index with the operator class `gin_trgm_ops`, which also creates the extension.

    On a server that lacks the extension or refuses to create it, no index is created. A search then finds the same rows
    by scanning the table.
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
