"""A year of handoffs in four zones, compared with an independent minute-by-minute calculation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from tests.support.schedule_strategies import ALICE, BOB, CAROL, plan, schedule
from tocsin.oncall.calculation import final_schedule

ZONES = ("Europe/Zurich", "America/Chicago", "Australia/Lord_Howe", "Asia/Kathmandu")
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
USERS = [ALICE, BOB, CAROL]


@cache
def quarters(zone: str) -> list[tuple[datetime, datetime]]:
    """Every quarter of an hour of the year, with what clocks in the zone then show: no arithmetic with local times."""
    place = ZoneInfo(zone)
    count = int((END - BEGIN) / timedelta(minutes=15))
    moments = [BEGIN + n * timedelta(minutes=15) for n in range(count)]
    return [(moment, moment.astimezone(place).replace(tzinfo=None)) for moment in moments]


def first_occurrences(zone: str, hour: int, minute: int) -> list[datetime]:
    """For each day the first moment at which clocks show that time; where they skip it, it is as much later."""
    results: dict[object, datetime] = {}
    before: datetime | None = None
    for moment, shown in quarters(zone):
        expected = shown.replace(hour=hour, minute=minute)
        if shown == expected:
            results.setdefault(shown.date(), moment)
        elif before is not None and before < expected < shown and shown - before < timedelta(hours=12):
            # The wanted time lies in what was skipped: so long after the change as it would have come after it.
            results.setdefault(shown.date(), moment + (expected - before) - timedelta(minutes=15))
        before = shown
    return sorted(results.values())


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("at", ["02:15", "02:30", "09:00", "23:45"])
def test_daily_rotation_hands_off_once_a_day_at_local_time(zone: str, at: str) -> None:
    shift = {
        "name": "D",
        "rotate": {"every": "1d", "at": at, "users": USERS, "roles": ["primary"]},
        "start": "2025-12-20",
    }
    segments = final_schedule.timeline(plan(schedule(shift, zone=zone)), BEGIN, END).segments
    expected = first_occurrences(zone, int(at[:2]), int(at[3:]))
    assert [segment.since for segment in segments if segment.since and segment.since >= BEGIN] == expected
    assert 364 <= len(expected) <= 366
    # Nobody is passed over, and nobody has two turns running: it never drifts.
    order = [segment.user_id for segment in segments]
    start = USERS.index(order[0])
    assert order == [USERS[(start + n) % 3] for n in range(len(order))]
    assert all(one.until == other.since for one, other in pairwise(segments))


@pytest.mark.parametrize("zone", ZONES)
def test_weekly_rotation_keeps_its_day_across_clock_changes(zone: str) -> None:
    attempt = {
        "every": "2w",
        "at": "08:30",
        "on": "thursday",
        "users": USERS,
        "roles": ["primary", "secondary"],
        "move": 2,
    }
    shift = {"name": "W", "rotate": attempt, "start": "2026-01-05"}
    segments = final_schedule.timeline(plan(schedule(shift, zone=zone)), BEGIN, END).segments
    days = [
        moment
        for moment, shown in quarters(zone)
        if shown.weekday() == 3 and (shown.hour, shown.minute) == (8, 30) and shown >= datetime(2026, 1, 5)
    ]
    primaries = [segment for segment in segments if segment.role == "primary"]
    assert [segment.since for segment in primaries] == days[::2]
    # Two move at each hand-off: of three users the primary goes back by one.
    assert [segment.user_id for segment in primaries[:4]] == [ALICE, CAROL, BOB, ALICE]
    assert [segment.user_id for segment in segments if segment.role == "secondary"][:4] == [BOB, ALICE, CAROL, BOB]


@pytest.mark.parametrize("zone", ZONES)
def test_monthly_rotation_uses_last_day_of_shorter_months(zone: str) -> None:
    attempt = {"every": "1 month", "at": "07:00", "on": 31, "users": USERS, "roles": ["primary"]}
    shift = {"name": "M", "rotate": attempt, "start": "2025-12-01"}
    segments = final_schedule.timeline(plan(schedule(shift, zone=zone)), BEGIN, END).segments
    last: dict[int, datetime] = {}
    for moment, shown in quarters(zone):
        if (shown.hour, shown.minute) == (7, 0) and shown.year == 2026:
            last[shown.month] = moment
    expected = sorted(last.values())
    assert [segment.since for segment in segments if segment.since and segment.since >= BEGIN] == expected
    assert len(expected) == 12
    order = [segment.user_id for segment in segments]
    assert order == [USERS[(USERS.index(order[0]) + n) % 3] for n in range(len(order))]


@pytest.mark.parametrize("zone", ZONES)
def test_night_shift_is_active_exactly_by_local_clock(zone: str) -> None:
    window = {"days": ["mon", "fri"], "from": "22:00", "to": "06:00"}
    shift = {"name": "Nights", "fixed": {"windows": [window], "users": [ALICE], "roles": ["primary"]}}
    segments = final_schedule.timeline(plan(schedule(shift, zone=zone)), BEGIN, END).segments
    on = {moment for moment, shown in quarters(zone) if _is_night(shown)}
    covered = {
        moment
        for segment in segments
        for moment, _ in quarters(zone)[_number(segment.since or BEGIN) : _number(segment.until or END)]
    }
    assert covered == on


def _is_night(shown: datetime) -> bool:
    evening = shown.hour >= 22 and shown.weekday() in (0, 4)
    return evening or (shown.hour < 6 and shown.weekday() in (1, 5))


def _number(moment: datetime) -> int:
    return max(0, int((moment - BEGIN) / timedelta(minutes=15)))
