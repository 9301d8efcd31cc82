"""Rows asked for in several parts, each by the index that fits it; an OR of their conditions is answered by none.

The first rows of all parts together, in the order of their keys, are what a page of a list is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice

from django.db.models import Model, QuerySet

#: Rows, or parts whose rows together are meant. A row may be in several of them.
type QueryUnion[M: Model] = QuerySet[M] | Sequence[QuerySet[M]]


def narrowed[M: Model](rows: QueryUnion[M], narrow: Callable[[QuerySet[M]], QuerySet[M]]) -> QueryUnion[M]:
    """The same rows, each part narrowed."""
    return narrow(rows) if isinstance(rows, QuerySet) else [narrow(part) for part in rows]


def first[M: Model](rows: QueryUnion[M], most: int, *, descending: bool = True) -> list[M]:
    """The first so many rows in the order of their primary keys, each once."""
    parts = [rows] if isinstance(rows, QuerySet) else rows
    found = [list(part.order_by("-pk" if descending else "pk")[:most]) for part in parts]
    if len(found) == 1:
        return found[0]
    in_order = merge(*found, key=lambda row: row.pk, reverse=descending)
    return list(islice({row.pk: row for row in in_order}.values(), most))
