"""When announcements are due, over every change of clocks; and what is new about a maintenance window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.people.changes.users import AnnouncementSpec, AnnouncementTopic
from tocsin.reports.announcements import due, last_due, news, next_due

#: Clocks change by an hour or half of one, at midnight, or skip a day.
ZONES = ("Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Pacific/Apia")
MOMENTS = st.datetimes(datetime(2011, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
DAY = timedelta(days=1)


@given(st.sampled_from(ZONES), st.integers(0, 1440), MOMENTS)
def test_each_day_has_one_moment_over_clock_changes(name: str, at: int, start: datetime) -> None:
    zone, moment, days = ZoneInfo(name), start, []
    for _ in range(5):
        later = next_due(AnnouncementTopic.ON_CALL, at, zone, moment)
        assert later > moment
        assert last_due(AnnouncementTopic.ON_CALL, at, zone, later) == later
        assert last_due(AnnouncementTopic.ON_CALL, at, zone, later - timedelta(microseconds=1)) < later
        moment = later
        days.append((moment - timedelta(minutes=at)).astimezone(zone))
    gaps = [after - before for before, after in pairwise(days)]
    # A clock change moves one by an hour at most; a zone that skips a day shows no time of that day.
    assert all(timedelta(hours=22) <= gap <= timedelta(hours=26) for gap in gaps)


@given(st.sampled_from(ZONES), st.integers(0, 1439), MOMENTS, st.lists(st.integers(1, 21_600), max_size=20))
def test_each_moment_is_due_once_however_often_is_looked(name: str, at: int, start: datetime, steps: list[int]) -> None:
    zone, since, found, expected = ZoneInfo(name), start, 0, 0
    spec = AnnouncementSpec.read({"topics": ["on_call"], "at": f"{at // 60:02}:{at % 60:02}"})
    for step in steps:
        topics, missed = due(spec, zone, since, since + timedelta(seconds=step))
        assert missed is None
        found, since = found + len(topics), since + timedelta(seconds=step)
    moment = start
    while (moment := next_due(AnnouncementTopic.ON_CALL, at, zone, moment)) <= since:
        expected += 1
    assert found == expected


@pytest.mark.parametrize(
    ("at", "day", "expected"),
    [
        # 2:30 does not exist on 29 March 2026, and exists twice on 25 October.
        (150, datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (150, datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (480, datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 7, tzinfo=UTC)),
    ],
)
def test_time_that_clocks_skip_or_repeat(at: int, day: datetime, expected: datetime) -> None:
    assert next_due(AnnouncementTopic.ON_CALL, at, ZoneInfo("Europe/Zurich"), day) == expected


WINDOW = {
    "name": "Patch night",
    "times": {"repeat": "once", "starts": "2026-11-27 22:00", "ends": "2026-11-28 02:00", "time_zone": "UTC"},
    "ticket_reference": "",
    "announce_to": [1],
    "announce_to_clients": [],
}
BEGIN = datetime(2026, 11, 27, 22, tzinfo=UTC)


def test_window_missed_as_a_whole_is_not_announced() -> None:
    _news, told = news({}, WINDOW, BEGIN - DAY)
    found, told = news(told or {}, WINDOW, BEGIN + DAY)
    assert found is None
    assert told is not None


def test_end_is_announced_late_for_some_hours_only() -> None:
    _news, told = news({}, WINDOW, BEGIN)
    assert told is not None
    assert news(told, WINDOW, BEGIN + timedelta(hours=9))[0] == "ended"
    assert news(told, WINDOW, BEGIN + timedelta(hours=11))[0] is None


def test_window_that_is_no_longer_announced_is_forgotten_silently() -> None:
    _news, told = news({}, WINDOW, BEGIN - DAY)
    assert news(told or {}, {**WINDOW, "announce_to": []}, BEGIN - DAY) == (None, None)
