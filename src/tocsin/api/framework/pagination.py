"""Keyset pagination: `?limit=&cursor=` → `{"items": […], "next": …|null}`. Never uses OFFSET and never counts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.core.db.query_union import QueryUnion, first, narrow
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_INVALID_CURSOR = ReasonType("api.invalid_cursor", "Invalid cursor. Pass the previous page's `next` value unchanged.")

#: The positive range of PostgreSQL's bigint.
Number = Annotated[int, Field(ge=1, le=2**63 - 1)]


class PaginationQuery(Schema):
    """The parameters of every list. Each resource adds its own filters."""

    limit: int = Field(default=50, ge=1, le=500, description="How many items at most.")
    cursor: str | None = Field(default=None, max_length=200, description="The `next` of the page before.")


class PaginatedList[Item](BaseModel):
    """One page of a list. `next` is the cursor of the following page, or null at the end."""

    items: list[Item]
    next: str | None


def page[M: Model, Item](
    rows: QueryUnion[M],
    query: PaginationQuery,
    show: Callable[[Sequence[M]], list[Item]],
    *,
    newest_first: bool = False,
) -> dict[str, Any]:
    """Return one page of `rows` in primary key order. `show` formats all rows of the page at once.

    Raises Rejected for an invalid cursor.
    """
    if query.cursor is not None:
        key = _key(rows.model if isinstance(rows, QuerySet) else rows[0].model, query.cursor)
        rows = narrow(rows, lambda part: part.filter(**{"pk__lt" if newest_first else "pk__gt": key}))
    matches = first(rows, query.limit + 1, descending=newest_first)
    page_rows = matches[: query.limit]
    next_cursor = _cursor(page_rows[-1].pk) if len(matches) > query.limit else None
    return {"items": show(page_rows), "next": next_cursor}


def _cursor(key: object) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def _key(model: type[Model], cursor: str) -> object:
    rejection = Rejected("invalid", _INVALID_CURSOR(), "cursor")
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        key: object = model._meta.pk.to_python(text)
    except (binascii.Error, UnicodeError, ValueError, ValidationError) as error:
        raise rejection from error
    if isinstance(key, int) and not 0 <= key < 2**63:
        raise rejection
    return key
