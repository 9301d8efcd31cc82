"""Keyset pagination: a cursor holds the key of the last row. Without OFFSET, results stay stable while rows are
added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Model

from tocsin.core.db.query_union import QueryUnion, first, narrow

DEFAULT_LIMIT = 50


@dataclass(frozen=True, slots=True)
class PaginatedRows[M: Model]:
    """One page of results. `next` is the cursor of the following page, or empty at the end."""

    rows: Sequence[M]
    next: str
    #: Whether this is a page after the first.
    is_later: bool = False


def paginate_by_number[M: Model](
    rows: QueryUnion[M], cursor: str, *, descending: bool = True, size: int = DEFAULT_LIMIT
) -> PaginatedRows[M]:
    """Paginate by numeric primary key. An invalid cursor counts as absent."""
    return _paginate(rows, _number(cursor), descending, size)


def paginate_by_uuid[M: Model](rows: QueryUnion[M], cursor: str, *, size: int = DEFAULT_LIMIT) -> PaginatedRows[M]:
    """Paginate by time-ordered UUID, newest first. An invalid cursor counts as absent."""
    return _paginate(rows, _uuid(cursor), True, size)


def _paginate[M: Model](rows: QueryUnion[M], position: object, descending: bool, size: int) -> PaginatedRows[M]:
    if position is not None:
        rows = narrow(rows, lambda part: part.filter(**{"pk__lt" if descending else "pk__gt": position}))
    fetched = first(rows, size + 1, descending=descending)
    page_rows = fetched[:size]
    return PaginatedRows(page_rows, str(page_rows[-1].pk) if len(fetched) > size else "", position is not None)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _uuid(text: str) -> UUID | None:
    return _or_none(lambda: UUID(text))


def _or_none[T](parse: Callable[[], T]) -> T | None:
    try:
        return parse()
    except ValueError:
        return None
