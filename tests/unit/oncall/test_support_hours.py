"""Weekly windows in local time, over midnight and across clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow, is_open
from tocsin.oncall.changes import specs

ZURICH = ZoneInfo("Europe/Zurich")
OFFICE = (WeeklyWindow(frozenset(range(5)), 8 * 60, 18 * 60),)
ALWAYS = (WeeklyWindow(frozenset(range(7)), 0, 24 * 60),)


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("change", "place", "part"),
    [
        ({"windows": []}, "windows", "at least one"),
        ({"windows": [{"days": ["mon"], "from": "8", "to": "18:00"}]}, "windows[0].from", "not a time of day"),
        ({"windows": [{"days": ["mon"], "from": "08:00", "to": "24:01"}]}, "windows[0].to", "not a time of day"),
        ({"windows": [{"days": ["mon"], "from": "08:60", "to": "18:00"}]}, "windows[0].from", "not a time of day"),
        ({"windows": [{"days": ["mon"], "from": 480, "to": "18:00"}]}, "windows[0].from", "quotes"),
        ({"windows": [{"days": ["mon", "moon"], "from": "08:00", "to": "18:00"}]}, "windows[0].days[1]", "not a day"),
        ({"windows": [{"days": [], "from": "08:00", "to": "18:00"}]}, "windows[0].days", "at least one day"),
        ({"windows": [{"days": ["mon"], "from": "08:00", "to": "08:00"}]}, "windows[0].to", "whole day"),
        ({"windows": [{"days": ["mon"], "from": "24:00", "to": "08:00"}]}, "windows[0].from", "next day"),
        ({"windows": [{"day": "mon", "from": "08:00", "to": "18:00"}]}, "windows[0].day", 'did you mean "days"'),
        ({"time_zone": "Zurich"}, "time_zone", "not a time zone"),
        ({"holidays": "Swiss"}, "holidays", "unknown key"),
    ],
)
def test_bad_support_hours_are_refused_with_the_place(change: dict[str, object], place: str, part: str) -> None:
    good = {"name": "Office", "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]}
    with pytest.raises(Rejected) as raised:
        specs.SupportHoursSpec.read({**good, **change})
    assert part in raised.value.fields[place]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-05T07:59:59", False),
        ("2026-01-05T08:00:00", True),
        ("2026-01-05T17:59:59", True),
        ("2026-01-05T18:00:00", False),
        ("2026-01-10T12:00:00", False),
        ("2026-07-06T08:00:00", True),
        ("2026-07-06T07:59:59", False),
    ],
)
def test_office_hours_follow_the_wall_clock_in_winter_and_summer(at: str, expected: bool) -> None:
    assert is_open(OFFICE, ZURICH, local(at)) is expected


def test_overnight_window_belongs_to_its_starting_day() -> None:
    night = (WeeklyWindow(frozenset({0}), 22 * 60, 6 * 60),)
    assert is_open(night, ZURICH, local("2026-01-06T05:59"))
    assert not is_open(night, ZURICH, local("2026-01-05T05:59"))
    assert not is_open(night, ZURICH, local("2026-01-06T22:00"))


def test_ended_window_does_not_reopen_in_repeated_hour() -> None:
    early = (WeeklyWindow(frozenset({6}), 0, 150),)
    assert is_open(early, ZURICH, local("2026-10-25T02:29"))
    assert not is_open(early, ZURICH, local("2026-10-25T02:29", fold=1))


@given(at=st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)))
def test_a_window_of_the_whole_week_is_always_open(at: datetime) -> None:
    assert is_open(ALWAYS, ZURICH, at.replace(tzinfo=UTC))


@given(
    day=st.integers(0, 6),
    start=st.integers(0, 1439),
    end=st.integers(0, 1440),
    at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),
)
def test_window_and_its_complement_never_overlap_or_leave_gaps(day: int, start: int, end: int, at: datetime) -> None:
    if start == end:
        return
    window = WeeklyWindow(frozenset({day}), start, end)
    moment = at.replace(tzinfo=UTC)
    span = weekly_windows.current((window,), ZURICH, moment)
    if span is None:
        return
    assert span[0] <= moment < span[1]
    assert not is_open((window,), ZURICH, span[1])
    assert not is_open((window,), ZURICH, span[0] - timedelta(microseconds=1))


def test_windows_are_written_as_they_were_read() -> None:
    written = [{"days": ["mon", "sun"], "from": "08:00", "to": "24:00"}]
    assert weekly_windows.write(weekly_windows.load(written)) == written
