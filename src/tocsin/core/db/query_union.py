"""Rows selected by several queries, each served by its own index. No single index can answer an OR of their conditions.

A page of a list consists of the first rows of all parts, merged in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice

from django.db.models import Model, QuerySet

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
