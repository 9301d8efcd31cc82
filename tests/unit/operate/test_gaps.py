"""Where a schedule leaves a role to nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.oncall import schedules
from tocsin.oncall.schedules import Schedule
from tocsin.operate.gaps import gaps
from tocsin.people.members import MemberRole

#: A Monday.
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
WEEK = timedelta(days=7)


def fixed(*windows: dict[str, Any], users: tuple[int, ...] = (1,), roles: tuple[str, ...] = ("primary",)) -> Schedule:
    shift = {"name": "days", "fixed": {"users": list(users), "roles": list(roles), "windows": list(windows)}}
    return schedules.load("Rota", "UTC", {"shifts": [shift]})


def rotation(users: tuple[int, ...], roles: tuple[str, ...] = ("primary",)) -> Schedule:
    rotate = {"users": list(users), "roles": list(roles), "every": "1w", "at": "08:00", "on": "mon"}
    return schedules.load("Rota", "UTC", {"shifts": [{"name": "weeks", "start": "2026-01-05", "rotate": rotate}]})


ALWAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def test_a_rotation_without_end_has_no_gap() -> None:
    assert gaps([rotation((1, 2))], {1, 2}, MONDAY, MONDAY + 2 * WEEK) == {MemberRole.PRIMARY: ()}


def test_the_turns_of_somebody_who_was_switched_off_are_gaps_from_hand_off_to_hand_off() -> None:
    hand_off = MONDAY + timedelta(hours=8)
    found = gaps([rotation((1, 2))], {1}, hand_off, hand_off + 4 * WEEK)[MemberRole.PRIMARY]
    assert [gap.until - gap.since for gap in found] == [WEEK, WEEK]


def test_nights_of_a_day_shift_are_gaps_with_exact_ends() -> None:
    days = [{"days": list(ALWAYS), "from": "08:00", "to": "18:00"}]
    found = gaps([fixed(*days)], {1}, MONDAY, MONDAY + timedelta(days=2))[MemberRole.PRIMARY]
    hours = [(gap.since - MONDAY, gap.until - MONDAY) for gap in found]
    assert hours == [
        (timedelta(hours=0), timedelta(hours=8)),
        (timedelta(hours=18), timedelta(hours=32)),
        (timedelta(hours=42), timedelta(hours=48)),
    ]


def test_a_second_schedule_fills_the_first_ones_gap() -> None:
    day = fixed({"days": list(ALWAYS), "from": "08:00", "to": "18:00"})
    night = fixed({"days": list(ALWAYS), "from": "18:00", "to": "08:00"}, users=(2,))
    assert gaps([day, night], {1, 2}, MONDAY, MONDAY + WEEK) == {MemberRole.PRIMARY: ()}


def test_roles_that_no_schedule_names_are_not_its_business() -> None:
    assert set(gaps([rotation((1,))], {1}, MONDAY, MONDAY + WEEK)) == {MemberRole.PRIMARY}


@given(st.integers(0, 23), st.integers(1, 23), st.integers(0, 10_000))
def test_inside_a_gap_nobody_has_the_role_and_outside_somebody_does(begin: int, length: int, minute: int) -> None:
    end = (begin + length) % 24
    schedule = fixed({"days": list(ALWAYS), "from": f"{begin:02}:00", "to": f"{end:02}:00"})
    at = MONDAY + timedelta(minutes=minute)
    found = gaps([schedule], {1}, MONDAY, MONDAY + WEEK)[MemberRole.PRIMARY]
    is_gap = any(gap.since <= at < gap.until for gap in found)
    assert is_gap != bool(schedule.turns(at))


@pytest.mark.parametrize("active", [(), (9,)])
def test_a_schedule_of_nobody_is_one_gap(active: tuple[int, ...]) -> None:
    (gap,) = gaps([rotation((1,))], active, MONDAY, MONDAY + WEEK)[MemberRole.PRIMARY]
    assert (gap.since, gap.until) == (MONDAY, MONDAY + WEEK)
