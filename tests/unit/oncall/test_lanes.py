"""The lanes of the on-call calendar: days, gaps, collisions, bands, and their agreement with each moment."""

from __future__ import annotations

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
    LEAD,
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
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, SnapshotMember
from tocsin.oncall.calculation.lanes import Lanes, lanes
from tocsin.oncall.calculation.weekly_windows import CustomHoliday, HolidayDays

ZURICH = ZoneInfo("Europe/Zurich")
#: Months in which clocks change somewhere, or a day was skipped, and one of no note.
AROUND = [date(2026, 3, 29), date(2026, 10, 25), date(2011, 12, 30), date(2026, 7, 1)]
CASES = st.sampled_from(AROUND).flatmap(lambda day: st.tuples(st.just(day), some_plan(day)))
NETWORK = {"id": 8, "name": "Network"}


def december(*plans: GroupPlan) -> Lanes:
    return lanes(plans, local("2026-12-01T00:00"), local("2027-01-01T00:00"), ZURICH)


def clashes(shown: Lanes) -> list[tuple[str, list[tuple[str, str]], str]]:
    """Who, for what, and from when until when."""
    return [
        (one.name, [(duty.group, str(duty.role)) for duty in one.duties], f"{_clock(one.since)} – {_clock(one.until)}")
        for one in shown.collisions
    ]


def _clock(at: datetime | None) -> str:
    return f"{at.astimezone(ZURICH):%d %H:%M}" if at else "…"


def test_a_handoff_divides_a_lane() -> None:
    (lane,) = december(plan(schedule(rotate("Weekly", [ALICE, BOB])))).lanes
    assert (lane.duty.group, lane.duty.role, lane.is_scheduled, lane.gaps) == ("Desk", PRIMARY, True, ())
    assert [(one.name, _clock(one.since)) for one in lane.segments[:3]] == [
        ("Bob", "30 09:00"), ("Alice", "07 09:00"), ("Bob", "14 09:00"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "hours"), [("2026-03-28", [24, 23, 24]), ("2026-10-24", [24, 25, 24]), ("2026-12-01", [24, 24, 24])]
)
def test_days_have_as_many_hours_as_the_clocks_say(first: str, hours: list[int]) -> None:
    begin = date.fromisoformat(first)
    until = weekly_windows.midnight(begin + timedelta(days=3), ZURICH)
    shown = lanes((), weekly_windows.midnight(begin, ZURICH), until, ZURICH)
    assert [(day.until - day.since) / timedelta(hours=1) for day in shown.days] == hours


def test_two_roles_of_one_group_collide() -> None:
    shifts = (
        fixed("Day", [ALICE], (["tue"], "08:00", "24:00"), roles=["primary"]),
        fixed("Both", [ALICE], (["tue"], "12:00", "24:00"), roles=["secondary"]),
    )
    shown = december(plan(schedule(*shifts)))
    assert clashes(shown)[0] == ("Alice", [("Desk", "primary"), ("Desk", "secondary")], "01 12:00 – 02 00:00")
    assert len(shown.collisions) == 5
    assert shown.lanes[0].gaps[0].until == local("2026-12-01T08:00")


def test_primary_of_two_groups_collides_and_secondary_does_not() -> None:
    desk = plan(schedule(rotate("Weekly", [ALICE, BOB])))
    nights = fixed("Nights", [ALICE], (["tue"], "20:00", "24:00"))
    network = replace(plan(schedule(nights)), **NETWORK)
    found = clashes(december(desk, network))
    assert found[0] == ("Alice", [("Desk", "primary"), ("Network", "primary")], "08 20:00 – 09 00:00")
    assert len(found) == 2, "in Alice's weeks only"
    second = replace(plan(schedule({**nights, "fixed": {**nights["fixed"], "roles": ["secondary"]}})), **NETWORK)  # type: ignore[dict-item]
    assert not december(desk, second).collisions


def test_the_order_of_two_groups_is_no_collision() -> None:
    members = (SnapshotMember(CAROL, "Carol", frozenset({PRIMARY, LEAD})),)
    shown = december(plan(members=members), replace(plan(members=members), **NETWORK))
    assert [(lane.duty.group, lane.duty.role, lane.is_scheduled) for lane in shown.lanes] == [
        ("Desk", PRIMARY, False), ("Desk", LEAD, False), ("Network", PRIMARY, False), ("Network", LEAD, False),
    ]  # fmt: skip
    assert not shown.collisions


def test_holidays_and_absences_stand_beside_the_lanes() -> None:
    calendars = [HolidayDays("Zürich", "", "", (CustomHoliday(12, 25, "Christmas Day"),))]
    covered = Absence(BOB, local("2026-12-02T00:00"), local("2026-12-04T00:00"), ALICE)
    uncovered = Absence(ALICE, local("2026-12-30T00:00"), local("2027-02-01T00:00"))
    over = Absence(ALICE, local("2026-11-01T00:00"), local("2026-12-01T00:00"))
    shown = december(
        plan(schedule(rotate("Weekly", [ALICE, BOB]), calendars=calendars), absences=(covered, uncovered, over))
    )
    assert [(one.name, one.day.day.day, one.group) for one in shown.holidays] == [("Christmas Day", 25, "Desk")]
    assert [(one.name, one.cover, one.cover_id) for one in shown.absences] == [
        ("Bob", "Alice", ALICE),
        ("Alice", "", None),
    ]


def test_a_users_part_has_nothing_of_others() -> None:
    shown = december(
        plan(schedule(rotate("Weekly", [ALICE, BOB]))), replace(plan(schedule(rotate("Net", [CAROL]))), **NETWORK)
    )
    own = shown.of_user(ALICE)
    assert {lane.duty.group for lane in own.lanes} == {"Desk"}
    assert {one.user_id for lane in own.lanes for one in lane.segments} == {ALICE}
    assert not shown.only(lambda duty: duty.role is SECONDARY).lanes


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-12-01", "1969-12", "9999-12", "20261-2", "２０２６-12"])
def test_a_month_is_a_year_and_a_month(text: str) -> None:
    with pytest.raises(Rejected) as rejected:
        weekly_windows.parse_month(text)
    assert rejected.value.field == "month"


@examples(40)
@given(
    case=CASES,
    other=some_plan(AROUND[0]),
    zone=st.sampled_from(ZONES),
    moments=st.lists(st.integers(0, 999), max_size=8),
)
def test_lanes_say_what_each_moment_says(
    case: tuple[date, GroupPlan], other: GroupPlan, zone: str, moments: list[int]
) -> None:
    day, group_plan = case
    plans = (group_plan, replace(other, **NETWORK))
    begin = weekly_windows.midnight(day - timedelta(days=5), ZoneInfo(zone))
    end = weekly_windows.midnight(day + timedelta(days=9), ZoneInfo(zone))
    shown = lanes(plans, begin, end, ZoneInfo(zone))
    assert [one.since for one in shown.days] == [begin, *(one.until for one in shown.days[:-1])]
    assert shown.days[-1].until == end
    for moment in [begin, *(begin + (end - begin) * part / 1000 for part in moments)]:
        for one in plans:
            assert at_moment(shown, one.id, moment) == set(final_schedule.on_call(one, moment))
        primaries = [
            (one.id, person) for one in plans for person in final_schedule.on_call(one, moment)
            if person.role is PRIMARY and person.schedule
        ]  # fmt: skip
        both = {person.user_id for number, person in primaries if number == plans[0].id}
        both &= {person.user_id for number, person in primaries if number == plans[1].id}
        assert both <= {
            one.user_id for one in shown.collisions
            if (one.since is None or one.since <= moment) and (one.until is None or moment < one.until)
            and len({duty.group_id for duty in one.duties}) == 2
        }  # fmt: skip


def at_moment(shown: Lanes, group_id: int, moment: datetime) -> set[object]:
    return {
        one
        for lane in shown.lanes
        if lane.duty.group_id == group_id
        for one in lane.segments
        if (one.since is None or one.since <= moment) and (one.until is None or moment < one.until)
    }
