"""The month calendar: days, gaps, double roles, and its agreement with each moment."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tests.support.schedule_strategies import (
    ALICE,
    BOB,
    CAROL,
    MANAGER,
    PRIMARY,
    SECONDARY,
    ZONES,
    fixed,
    local,
    plan,
    rotate,
    schedule,
    some_plan,
)
from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import final_schedule, month_calendar
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, SnapshotMember
from tocsin.oncall.calculation.month_calendar import CalendarDay, days_of_month
from tocsin.oncall.calculation.weekly_windows import CustomHoliday, HolidayDays

ZURICH = ZoneInfo("Europe/Zurich")
#: Months in which clocks change somewhere, or a day was skipped, and one of no note.
AROUND = [date(2026, 3, 29), date(2026, 10, 25), date(2011, 12, 30), date(2026, 7, 1)]
CASES = st.sampled_from(AROUND).flatmap(lambda day: st.tuples(st.just(day), some_plan(day)))


def entries(day: CalendarDay) -> list[tuple[str, str, str]]:
    """Role, user and local times of each entry."""
    return [
        (role.role, entry.name or "nobody", f"{_clock(entry.since)}–{_clock(entry.until)}")
        for role in day.roles
        for entry in role.entries
    ]


def _clock(at: datetime) -> str:
    return f"{at.astimezone(ZURICH):%H:%M}"


def december(*plans: GroupPlan) -> tuple[CalendarDay, ...]:
    return days_of_month(plans, date(2026, 12, 17), ZURICH)


def test_a_handoff_divides_the_day() -> None:
    days = december(plan(schedule(rotate("Weekly", [ALICE, BOB]))))
    assert [day.day for day in days] == [date(2026, 12, number) for number in range(1, 32)]
    assert entries(days[5]) == [("primary", "Bob", "00:00–00:00")]
    assert entries(days[6]) == [("primary", "Bob", "00:00–09:00"), ("primary", "Alice", "09:00–00:00")]


def test_consecutive_shifts_of_one_user_are_one_entry() -> None:
    days = december(plan(schedule(rotate("Daily", [ALICE], every="1d"))))
    assert entries(days[9]) == [("primary", "Alice", "00:00–00:00")]


def test_gaps_double_roles_and_absences_are_marked() -> None:
    shifts = (
        fixed("Day", [ALICE], (["tue"], "08:00", "24:00"), roles=["primary"]),
        fixed("Both", [ALICE], (["tue"], "12:00", "24:00"), roles=["secondary"]),
    )
    away = Absence(ALICE, local("2026-12-08T20:00"), local("2026-12-09T00:00"))
    tuesday = december(plan(schedule(*shifts), absences=(away,)))[7]
    primary, secondary = tuesday.roles
    assert [(one.user_id, one.is_absent, one.double_roles) for one in primary.entries] == [
        (None, False, ()),
        (ALICE, False, (SECONDARY,)),
        (ALICE, True, (SECONDARY,)),
    ]
    assert [one.double_roles for one in secondary.entries] == [(), (PRIMARY,), (PRIMARY,)]


def test_only_scheduled_roles_and_groups_are_shown() -> None:
    members = (SnapshotMember(CAROL, "Carol", frozenset({MANAGER})),)
    days = december(plan(schedule(rotate("Weekly", [BOB])), members=members), replace(plan(members=members), id=8))
    assert {(role.group_id, role.role) for day in days for role in day.roles} == {(7, PRIMARY)}


def test_holidays_of_the_schedules_are_named() -> None:
    calendars = [HolidayDays("Zürich", "", "", (CustomHoliday(12, 25, "Christmas Day"),))]
    days = december(plan(schedule(rotate("Weekly", [BOB]), calendars=calendars)))
    assert {day.day.day: day.holidays for day in days if day.holidays} == {25: ("Christmas Day",)}


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-12-01", "1969-12", "9999-12", "20261-2", "２０２６-12"])
def test_a_month_is_a_year_and_a_month(text: str) -> None:
    with pytest.raises(Rejected) as rejected:
        month_calendar.parse_month(text)
    assert rejected.value.field == "month"


@examples(30)
@given(case=CASES, zone=st.sampled_from(ZONES), moments=st.lists(st.integers(0, 999), max_size=8))
def test_the_calendar_says_what_each_moment_says(case: tuple[date, GroupPlan], zone: str, moments: list[int]) -> None:
    month, group_plan = case
    days = days_of_month([group_plan], month, ZoneInfo(zone))
    assert all(first.until == second.since for first, second in itertools.pairwise(days))
    begin, end = days[0].since, days[-1].until
    for moment in (begin + (end - begin) * part / 1000 for part in moments):
        shown = on_call_at(days, moment)
        people = final_schedule.on_call(group_plan, moment)
        scheduled = {role for role, _user, _absent in shown}
        assert shown == {(one.role, one.user_id, one.is_absent) for one in people if one.role in scheduled} | {
            (role, None, False) for role in scheduled - {one.role for one in people}
        }
        assert {one.role for one in people if one.schedule} <= scheduled


def on_call_at(days: tuple[CalendarDay, ...], moment: datetime) -> set[tuple[str, int | None, bool]]:
    day = next(day for day in days if day.since <= moment < day.until)
    assert day.until - day.since <= timedelta(hours=25, minutes=1)
    return {
        (role.role, entry.user_id, entry.is_absent)
        for role in day.roles
        for entry in role.entries
        if entry.since <= moment < entry.until
    }
