"""Recurring maintenance windows in local time, across clock changes, month ends and leap years."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.inbound import maintenance as maintenance_times
from tocsin.inbound.maintenance import Recurrence, Repeat, WindowTimesSpec, month_day

ZONES = [ZoneInfo(name) for name in ("Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")]


def times(**given: object) -> Recurrence:
    spec = WindowTimesSpec.read({key.rstrip("_"): value for key, value in given.items()})
    return maintenance_times.recurrence(spec.times())


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "cover"),
    [
        ({"repeat": "daily", "from": "00:00", "to": "00:00"}, timedelta(days=28)),
        ({"repeat": "daily", "from": "00:00", "to": "23:59"}, timedelta(days=28) - timedelta(minutes=28)),
        ({"repeat": "daily", "from": "22:00", "lasts": "48h"}, timedelta(days=28)),
        ({"repeat": "daily", "from": "22:00", "to": "00:00"}, timedelta(hours=56)),
        ({"repeat": "daily", "from": "00:00", "to": "00:00", "last_day": "2026-12-04"}, timedelta(days=2, hours=12)),
        ({"repeat": "weekly", "days": ["sat"], "from": "00:00", "lasts": "2d"}, timedelta(days=8)),
        ({"starts": "2026-11-01 00:00", "ends": "2027-10-01 00:00"}, timedelta(days=28)),
        ({"starts": "2027-03-01 00:00", "ends": "2027-03-03 00:00"}, timedelta(days=2)),
        ({"starts": "2026-11-01 00:00", "ends": "2026-12-01 00:00"}, timedelta()),
    ],
)
def test_cover_is_the_part_of_four_weeks_within_occurrences(given: dict[str, object], cover: timedelta) -> None:
    assert times(**given).cover(utc("2026-12-02 12:00")) == cover


@st.composite
def recurrences(draw: st.DrawFn) -> Recurrence:
    zone = draw(st.sampled_from(ZONES))
    repeat = draw(st.sampled_from([Repeat.DAILY, Repeat.WEEKLY, Repeat.MONTHLY]))
    begin = datetime.combine(date(2024, 1, 1), datetime.min.time()) + timedelta(minutes=draw(st.integers(0, 1439)))
    names = draw(st.lists(st.sampled_from(["1", "29", "31", "last day", "2nd tue", "last sun", "5th fri"]), min_size=1))
    return Recurrence(
        repeat,
        zone,
        begin,
        timedelta(minutes=draw(st.integers(1, 7 * 24 * 60))),
        days=frozenset(draw(st.sets(st.integers(0, 6), min_size=1))),
        month_days=tuple(month_day(one) for one in names),
    )


@given(recurrences(), st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)))
def test_occurrence_is_nonempty_and_active_at_each_of_its_moments(one: Recurrence, at: datetime) -> None:
    now = at.replace(tzinfo=UTC)
    upcoming = one.next_occurrences(now, 3)
    assert len(upcoming) == 3
    assert upcoming == sorted(upcoming)
    for start, end in upcoming:
        assert start < end
        for moment in (start, start + (end - start) / 2, end - timedelta(seconds=1)):
            span = one.occurrence_at(moment)
            assert span is not None
            assert span[0] <= moment < span[1]
    # Between now and the first that comes, none is.
    if one.occurrence_at(now) is None:
        assert one.occurrence_at(upcoming[0][0] - timedelta(seconds=1)) is None


@given(recurrences(), st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)))
def test_window_follows_local_wall_clock_time(one: Recurrence, at: datetime) -> None:
    """Except where that time does not exist: then it is less than a day's change away."""
    for start, end in one.next_occurrences(at.replace(tzinfo=UTC), 2):
        local = start.astimezone(one.zone)
        skew = abs((local.hour * 60 + local.minute) - (one.begin.hour * 60 + one.begin.minute))
        assert min(skew, 1440 - skew) <= 60
        lasted = end.astimezone(one.zone).replace(tzinfo=None) - local.replace(tzinfo=None)
        assert abs(lasted - one.length) <= timedelta(hours=1)


def test_a_night_is_longer_or_shorter_when_clocks_change() -> None:
    night = times(repeat="daily", from_="22:00", to="06:00", time_zone="Europe/Zurich")
    spring, autumn = night.occurrence_at(utc("2026-03-28T23:00")), night.occurrence_at(utc("2026-10-24T23:00"))
    assert spring == (utc("2026-03-28T21:00"), utc("2026-03-29T04:00"))
    assert autumn == (utc("2026-10-24T20:00"), utc("2026-10-25T05:00"))


def test_a_time_that_clocks_skip_still_makes_a_window() -> None:
    recurrence = times(repeat="daily", from_="02:50", to="03:10", time_zone="Europe/Zurich")
    span = recurrence.occurrence_at(utc("2026-03-29T01:05"))
    assert span is not None
    assert span[0] < utc("2026-03-29T01:00") < span[1] == utc("2026-03-29T01:10")


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (["2nd tue"], ["2026-12-08", "2027-01-12", "2027-02-09"]),
        (["last day"], ["2026-11-30", "2026-12-31", "2027-01-31"]),
        (["31"], ["2026-12-31", "2027-01-31", "2027-03-31"]),
        (["5th mon", "last fri"], ["2026-11-27", "2026-11-30", "2026-12-25"]),
    ],
)
def test_days_of_a_month(days: list[str], expected: list[str]) -> None:
    results = times(repeat="monthly", days=days, from_="22:00", lasts="1h").next_occurrences(utc("2026-11-25T09:00"), 3)
    assert [f"{start:%Y-%m-%d}" for start, _ in results] == expected


def test_recurrence_is_limited_by_first_and_last_day() -> None:
    one = times(
        repeat="weekly", days=["fri"], from_="18:00", lasts="62h", first_day="2026-12-04", last_day="2026-12-11"
    )
    assert one.occurrence_at(utc("2026-11-27T20:00")) is None
    assert one.occurrence_at(utc("2026-12-14T07:00")) is not None
    assert one.has_ended(utc("2026-12-14T08:00"))
    assert not one.has_ended(utc("2026-12-05T08:00"))


@pytest.mark.parametrize(
    ("given_times", "place"),
    [
        ({}, "starts"),
        ({"starts": "2026-12-01 22:00", "ends": "2026-12-01 21:00"}, "ends"),
        ({"starts": "2026-12-01T22:00+01:00", "ends": "2026-12-02 01:00"}, "starts"),
        ({"repeat": "weekly", "days": ["someday"], "from": "22:00", "to": "23:00"}, "days"),
        ({"repeat": "monthly", "days": ["32"], "from": "22:00", "to": "23:00"}, "days"),
        ({"repeat": "daily", "from": "22:00"}, "to"),
        ({"repeat": "daily", "from": "22:00", "to": ""}, "to"),
        ({"repeat": "daily", "from": "22:00", "to": "23:00", "lasts": "1h"}, "to"),
        ({"repeat": "daily", "from": "25:00", "to": "23:00"}, "from"),
        ({"repeat": "daily", "from": "22:00", "lasts": "8d"}, "lasts"),
        ({"repeat": "daily", "from": "22:00", "to": "23:00", "starts": "2026-12-01 22:00"}, "starts"),
        ({"repeat": "hourly"}, "repeat"),
        ({"starts": "2026-12-01 22:00", "ends": "2026-12-01 23:00", "time_zone": "Mars/Olympus"}, "time_zone"),
    ],
)
def test_what_is_wrong_is_named(given_times: dict[str, object], place: str) -> None:
    with pytest.raises(Rejected) as refused:
        WindowTimesSpec.read(given_times)
    assert place in refused.value.fields


def test_recurrence_is_described_in_a_sentence() -> None:
    spec = {
        "repeat": "monthly",
        "days": ["2nd tue", "15"],
        "from": "22:00",
        "to": "02:00",
        "time_zone": "Europe/Zurich",
    }
    reason = maintenance_times.describe_times(WindowTimesSpec.read(spec).times())
    assert str(reason) == "On the 2nd Tuesday and 15th of each month from 22:00 to 02:00 (Europe/Zurich)"
