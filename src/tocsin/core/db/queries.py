"""`value = ANY(array)` for Django's queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice
from typing import Any, LiteralString

from django.contrib.postgres.indexes import GinIndex
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.models import BooleanField, Func, Model, Q, QuerySet, TextField, Value


def any_of(value: Any, array: Any, array_type: str = "bigint[]") -> Q:
    """Returns whether `value`, an expression or a field's name, is in `array`, an expression or a list.

    A list is one parameter. psycopg parses a statement with more than 50 parameters each time it runs.
    """
    if array == []:
        return Q(pk__in=())  # no query at all
    values = Value(array) if isinstance(array, list) else array
    template = f"%(expressions)s::{array_type})"
    return Q(Func(value, values, template=template, arg_joiner=" = ANY(", output_field=BooleanField()))


# ---------- query union
# Rows selected by several queries, each served by its own index. No single index can answer an OR of their conditions.
#
# A page of a list consists of the first rows of all parts, merged in the order of their keys.


#: A queryset, or several whose union is meant. A row may occur in more than one.
type QueryUnion[M: Model] = QuerySet[M] | Sequence[QuerySet[M]]


def narrow[M: Model](rows: QueryUnion[M], narrow: Callable[[QuerySet[M]], QuerySet[M]]) -> QueryUnion[M]:
    """Applies `narrow` to every part."""
    return narrow(rows) if isinstance(rows, QuerySet) else [narrow(part) for part in rows]


def first[M: Model](rows: QueryUnion[M], limit: int, *, descending: bool = True) -> list[M]:
    """Returns the first `limit` rows in the order of their primary keys, without duplicates."""
    parts = [rows] if isinstance(rows, QuerySet) else rows
    lists = [list(part.order_by("-pk" if descending else "pk")[:limit]) for part in parts]
    if len(lists) == 1:
        return lists[0]
    in_order = merge(*lists, key=lambda row: row.pk, reverse=descending)
    return list(islice({row.pk: row for row in in_order}.values(), limit))


# ---------- trigram index
# Trigram indexes for substring search, by PostgreSQL's extension pg_trgm. Servers without it get no index.


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
