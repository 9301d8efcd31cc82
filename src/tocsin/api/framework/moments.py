"""Moments in query strings and bodies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator


def _moment(value: object) -> object:
    """Repair `…T03:00:00 01:00`, which results from an unencoded plus sign in a URL.

    A bare number is rejected, because it would be parsed as seconds since 1970.
    """
    if not isinstance(value, str) or "-" not in value:
        raise ValueError("must be a moment, such as 2026-12-25T03:00:00Z")
    return f"{value[:-6]}+{value[-5:]}" if len(value) > 6 and value[-6] == " " else value


def _in_utc(value: datetime) -> datetime:
    """PostgreSQL takes no offset of 16 hours or more, and UTC has no year 0."""
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment, such as 2026-12-25T03:00:00Z") from error


#: A date and time with time zone in a body.
UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
#: A date and time with time zone in a query string.
Moment = Annotated[UtcDatetime, BeforeValidator(_moment)]


def _in_range(value: datetime) -> datetime:
    if not 1970 < value.year < 2200:
        raise ValueError("must be a moment between 1970 and 2200")
    return value


#: A moment for schedule queries, limited to years with a day before and after.
ScheduleMoment = Annotated[Moment, AfterValidator(_in_range)]
