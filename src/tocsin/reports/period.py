"""The period covered by a report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import AT_PATH, NOT_AFTER_FROM

_TOO_LONG = ReasonType("report.too_long", "a report covers at most {maximum}.")

#: The longest period; longer reports have to be requested year by year.
MAX_PERIOD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` (inclusive) until `until` (exclusive). Days and hours are those of `zone`."""

    since: datetime
    until: datetime
    zone: ZoneInfo

    @classmethod
    def between(cls, since: datetime, until: datetime, zone: ZoneInfo) -> Period:
        """Creates a period. Raises Rejected with the field if it ends before it begins or is longer than a year."""
        if until <= since:
            raise Rejected("invalid", AT_PATH(path="to", problem=NOT_AFTER_FROM()), "to")
        if until - since > MAX_PERIOD:
            raise Rejected("invalid", AT_PATH(path="to", problem=_TOO_LONG(maximum=MAX_PERIOD)), "to")
        return cls(since, until, zone)

    @classmethod
    def last_days(cls, days: int, now: datetime, zone: ZoneInfo) -> Period:
        """The last `days` days in `zone`, including today so far."""
        today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(today - timedelta(days=days - 1), now, zone)
