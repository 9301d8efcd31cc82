"""The period covered by a report, and the buckets of its trend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import AT_PATH, NOT_AFTER_FROM

_TOO_LONG = ReasonType("report.too_long", "a report covers at most {maximum}.")

#: The longest period; longer reports have to be requested year by year.
MAX_PERIOD = timedelta(days=366)

_DAY = timedelta(days=1)

#: The longest periods whose trend is by day and by week.
_MAX_BY_DAY, _MAX_BY_WEEK = timedelta(days=32), timedelta(days=190)


class Bucket(StrEnum):
    """The unit of a trend. A week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


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
        if until.astimezone(UTC) - since.astimezone(UTC) > MAX_PERIOD:
            raise Rejected("invalid", AT_PATH(path="to", problem=_TOO_LONG(maximum=MAX_PERIOD)), "to")
        return cls(since, until, zone)

    @classmethod
    def last_days(cls, days: int, now: datetime, zone: ZoneInfo) -> Period:
        """The last `days` days in `zone`, including today so far."""
        return cls(_midnight(now.astimezone(zone).date() - (days - 1) * _DAY, zone), now, zone)

    @classmethod
    def last_month(cls, now: datetime, zone: ZoneInfo) -> Period:
        """The calendar month before the current one in `zone`."""
        this_month = now.astimezone(zone).date().replace(day=1)
        return cls(_midnight(_add_months(this_month, -1), zone), _midnight(this_month, zone), zone)

    @classmethod
    def days(cls, first: date, last: date, zone: ZoneInfo) -> Period:
        """The days from `first` to `last`, both included. Raises Rejected like `between`."""
        return cls.between(_midnight(first, zone), _midnight(last + _DAY, zone), zone)

    def before(self) -> Period:
        """The period of the same length that ends where this one begins; for whole months as many months."""
        since, until = (at.astimezone(self.zone).replace(tzinfo=None) for at in (self.since, self.until))
        if _begins_month(since) and _begins_month(until):
            months = 12 * (until.year - since.year) + until.month - since.month
            return Period(_midnight(_add_months(since.date(), -months), self.zone), self.since, self.zone)
        # By local time, so that whole days stay whole when the clocks change.
        return Period((since - (until - since)).replace(tzinfo=self.zone), self.since, self.zone)

    @property
    def first_day(self) -> date:
        """The day on which it begins in `zone`."""
        return self.since.astimezone(self.zone).date()

    @property
    def last_day(self) -> date:
        """The last day of which it covers a part in `zone`."""
        return (self.until.astimezone(UTC) - timedelta(microseconds=1)).astimezone(self.zone).date()

    @property
    def bucket(self) -> Bucket:
        """The unit that suits its length: days of a month, weeks of half a year, else months."""
        length = self.until.astimezone(UTC) - self.since.astimezone(UTC)
        return Bucket.DAY if length <= _MAX_BY_DAY else Bucket.WEEK if length <= _MAX_BY_WEEK else Bucket.MONTH

    def midnight(self, day: date) -> datetime:
        """The beginning of a day in `zone`."""
        return _midnight(day, self.zone)

    def bucket_starts(self, bucket: Bucket) -> list[date]:
        """The first day of every bucket that overlaps the period, in order. The first may begin before the period."""
        day = self.first_day
        match bucket:
            case Bucket.DAY:
                pass
            case Bucket.WEEK:
                day -= day.weekday() * _DAY
            case Bucket.MONTH:
                day = day.replace(day=1)
        starts = []
        while day <= self.last_day:
            starts.append(day)
            day = _add_months(day, 1) if bucket is Bucket.MONTH else day + (7 if bucket is Bucket.WEEK else 1) * _DAY
        return starts


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _begins_month(local: datetime) -> bool:
    return local.day == 1 and local.time() == datetime.min.time()


def _add_months(first_of_month: date, months: int) -> date:
    number = 12 * first_of_month.year + first_of_month.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)
