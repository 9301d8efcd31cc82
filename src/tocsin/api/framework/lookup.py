"""Finding the object that an address names: by number, or by name, ignoring case."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from django.db.models import Model, QuerySet
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from tocsin.core.errors import Rejected

_MAX_BIGINT = 2**63 - 1


def find[M: Model](rows: QuerySet[M], text: str, *, what: str, by: str = "name") -> M:
    """The object whose id is `text`, or whose name (the column `by`) is. Raises Rejected ("not_found")."""
    number = _number(text)
    wanted = {"pk": number} if number is not None else {f"{by}__iexact": text}
    found = rows.filter(**wanted).first() if number is None or number <= _MAX_BIGINT else None
    if found is None:
        raise Rejected("not_found", f"There is no {what} {'number ' if number is not None else ''}{text}.")
    return found


def find_named[M: Model](rows: QuerySet[M], text: str, *, what: str, field: str, by: str = "name") -> M:
    """As `find`, for a filter or a field of a body: what is missing is the sender's error, named by `field`."""
    try:
        return find(rows, text, what=what, by=by)
    except Rejected as error:
        raise Rejected("invalid", error.detail, field) from error


def find_by_uuid[M: Model](rows: QuerySet[M], text: str, *, what: str) -> M:
    """The object whose UUID is `text`. Raises Rejected ("not_found")."""
    try:
        found = rows.filter(pk=UUID(text)).first()
    except ValueError:
        found = None
    if found is None:
        raise Rejected("not_found", f"There is no {what} {text}.")
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 100 else None


def _moment(value: object) -> object:
    """Mends `…T03:00:00 01:00`, which is what a plus sign becomes in an address when it was not encoded. A bare number
    would be read as seconds since 1970, which nobody means."""
    if not isinstance(value, str) or "-" not in value:
        raise ValueError("must be a moment, such as 2026-12-25T03:00:00Z")
    return f"{value[:-6]}+{value[-5:]}" if len(value) > 6 and value[-6] == " " else value


#: A moment in a query, with its time zone.
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


def _in_reach(value: datetime) -> datetime:
    if not 1970 < value.year < 2200:
        raise ValueError("must be a moment between 1970 and 2200")
    return value


#: One that schedules are asked about: around the ends of the calendar there is no day before or after.
ScheduleMoment = Annotated[Moment, AfterValidator(_in_reach)]
