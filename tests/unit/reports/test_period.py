"""Periods of reports, and the buckets of their trends."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tocsin.core.errors import Rejected
from tocsin.reports.counted_alerts import Bucket, Period

ZURICH = ZoneInfo("Europe/Zurich")


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH)


def test_report_period_is_positive_and_at_most_a_year(now: datetime) -> None:
    for until in (now, now - timedelta(minutes=1), now + timedelta(days=367)):
        with pytest.raises(Rejected) as refused:
            Period.between(now, until, ZURICH)
        assert refused.value.field == "to"


def test_days_are_whole_days_of_the_readers_zone() -> None:
    period = Period.days(date(2026, 10, 24), date(2026, 10, 25), ZURICH)
    assert period.since.astimezone(UTC).isoformat() == "2026-10-23T22:00:00+00:00"
    assert period.until.astimezone(UTC).isoformat() == "2026-10-25T23:00:00+00:00"
    assert (period.first_day, period.last_day) == (date(2026, 10, 24), date(2026, 10, 25))


@pytest.mark.parametrize(
    ("since", "until", "before"),
    [
        ("2026-03-01", "2026-04-01", "2026-02-01"),
        ("2026-01-01", "2026-04-01", "2025-10-01"),
        ("2026-03-02", "2026-04-01", "2026-01-31"),
        ("2026-11-18T00:00", "2026-11-24T10:15", "2026-11-11T13:45"),
        # Whole days stay whole although the clocks change in between.
        ("2026-10-26", "2026-10-28", "2026-10-24"),
    ],
)
def test_period_before_is_as_long_or_as_many_months(since: str, until: str, before: str) -> None:
    period = Period(local(since), local(until), ZURICH)
    assert (period.before().since, period.before().until) == (local(before), local(since))


def test_last_month_is_the_calendar_month_before(now: datetime) -> None:
    period = Period.last_month(now, ZURICH)
    assert (period.since, period.until) == (local("2026-10-01"), local("2026-11-01"))


@pytest.mark.parametrize(
    ("bucket", "starts"),
    [
        (Bucket.DAY, ["2026-11-29", "2026-11-30", "2026-12-01", "2026-12-02"]),
        (Bucket.WEEK, ["2026-11-23", "2026-11-30"]),
        (Bucket.MONTH, ["2026-11-01", "2026-12-01"]),
    ],
)
def test_buckets_cover_the_period_without_gaps(bucket: Bucket, starts: list[str]) -> None:
    period = Period(local("2026-11-29T12:00"), local("2026-12-03"), ZURICH)
    assert [day.isoformat() for day in period.bucket_starts(bucket)] == starts


@pytest.mark.parametrize(
    ("days", "bucket"), [(7, Bucket.DAY), (31, Bucket.DAY), (90, Bucket.WEEK), (365, Bucket.MONTH)]
)
def test_bucket_suits_the_length(now: datetime, days: int, bucket: Bucket) -> None:
    assert Period.last_days(days, now, ZURICH).bucket is bucket
