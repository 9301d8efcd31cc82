"""Workloads: hours, nights, weekends, holidays, and the even share."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tests.support.schedule_strategies import (
    ALICE,
    BOB,
    CAROL,
    NAMES,
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
from tocsin.core.validation.inputs import NightHours
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.coverage_checks import OnCallTime, Workload, workloads
from tocsin.oncall.calculation.final_schedule import GroupPlan, SnapshotMember
from tocsin.oncall.calculation.schedules import CompiledOverride
from tocsin.oncall.calculation.weekly_windows import CustomHoliday, HolidayDays

HOUR = timedelta(hours=1)
NIGHT = NightHours(time(22), time(7))
ZURICH = {user: ZoneInfo("Europe/Zurich") for user in NAMES}
#: Days around which clocks change somewhere, one that a zone skipped, and one of no note.
AROUND = [date(2026, 3, 29), date(2026, 10, 25), date(2011, 12, 30), date(2026, 7, 1)]
CASES = st.sampled_from(AROUND).flatmap(lambda day: st.tuples(st.just(day), some_plan(day)))


def of_month(month: str, *plans: GroupPlan, **options: object) -> dict[str, Workload]:
    since = local(f"{month}-01T00:00")
    until = local((date.fromisoformat(f"{month}-01") + timedelta(days=32)).strftime("%Y-%m-01T00:00"))
    return {load.name: load for load in workloads(plans, since, until, NIGHT, ZURICH, **options)}  # type: ignore[arg-type]


def hours(time_on_call: OnCallTime) -> tuple[float, float, float, float]:
    times = (time_on_call.total, time_on_call.night, time_on_call.weekend, time_on_call.holiday)
    return tuple(one / HOUR for one in times)  # type: ignore[return-value]


def test_month_with_clock_change_has_an_hour_more() -> None:
    (alice,) = of_month("2026-10", plan(schedule(rotate("Weekly", [ALICE])))).values()
    # 31 nights of nine hours, and the second 02:00 to 03:00 of Sunday 25 October.
    assert hours(alice.time) == (745, 280, 217, 0)
    assert hours(alice.difference) == (0, 0, 0, 0)


def test_even_share_divides_the_time_of_a_group() -> None:
    shifts = fixed("Nights", [BOB], (["mon"], "18:00", "08:00")), fixed("Days", [CAROL], (["tue"], "09:00", "12:00"))
    loads = of_month("2027-02", plan(schedule(*shifts)))
    assert hours(loads["Bob"].time) == (56, 36, 0, 0)
    assert hours(loads["Carol"].time) == (12, 0, 0, 0)
    assert hours(loads["Bob"].even_share) == (34, 18, 0, 0)
    assert hours(loads["Carol"].difference) == (-22, -18, 0, 0)


def test_users_without_a_turn_have_an_even_share() -> None:
    rota = rotate("Monthly", [ALICE, BOB, CAROL], every="1 month", on=1, at="00:00", start="2026-12-01")
    loads = of_month("2026-12", plan(schedule(rota), gone=CAROL))
    assert {name: load.difference.total / HOUR for name, load in loads.items()} == {"Alice": 372, "Bob": -372}


def test_holidays_of_the_group_are_counted() -> None:
    calendars = [HolidayDays("Zürich", "", "", (CustomHoliday(12, 25, "Christmas Day"),))]
    (alice,) = of_month("2026-12", plan(schedule(rotate("Weekly", [ALICE]), calendars=calendars))).values()
    assert alice.time.holiday == 24 * HOUR


def test_roles_count_once_and_groups_each() -> None:
    both = fixed("Both", [ALICE], (["wed"], "08:00", "18:00"), roles=["primary", "secondary"])
    desk = plan(schedule(both))
    assert of_month("2026-12", desk)["Alice"].time.total == 50 * HOUR
    assert of_month("2026-12", desk, replace(desk, id=8))["Alice"].time.total == 100 * HOUR


def test_role_filter_leaves_out_other_roles() -> None:
    shifts = rotate("First", [ALICE]), rotate("Second", [BOB], roles=["secondary"])
    assert of_month("2026-12", plan(schedule(*shifts)), role=PRIMARY).keys() == {"Alice"}
    assert of_month("2026-12", plan(schedule(*shifts)), role=SECONDARY).keys() == {"Bob"}


def test_group_order_without_a_schedule_is_not_counted() -> None:
    members = (SnapshotMember(ALICE, "Alice", frozenset({PRIMARY})),)
    assert of_month("2026-12", plan(members=members)) == {}


def test_group_order_counts_while_no_shift_is_on() -> None:
    """As the calendar shows it."""
    members = (SnapshotMember(ALICE, "Alice", frozenset({PRIMARY, SECONDARY})),)
    loads = of_month("2026-12", plan(schedule(rotate("Weekly", [BOB], start="2026-12-11")), members=members))
    assert {name: load.time.total / HOUR for name, load in loads.items()} == {"Alice": 321, "Bob": 423}
    assert {load.even_share.total for load in loads.values()} == {372 * HOUR}
    # Her other role is hers every day, and not counted.
    assert of_month("2026-12", plan(schedule(rotate("Weekly", [BOB])), members=members), role=SECONDARY) == {}


def test_user_who_only_replaces_others_has_no_share() -> None:
    begin = local("2026-12-08T17:00")
    evening = CompiledOverride(1, "Concert", CAROL, begin, begin + 4 * HOUR, role=PRIMARY)
    loads = of_month("2026-12", plan(schedule(rotate("Weekly", [ALICE, BOB]), overrides=(evening,))))
    assert loads["Carol"].difference.total == 4 * HOUR
    assert loads["Alice"].even_share.total == loads["Bob"].even_share.total == 372 * HOUR


@examples(40)
@given(case=CASES, days=st.integers(1, 20), zone=st.sampled_from(ZONES))
def test_hours_add_up_to_the_covered_time(case: tuple[date, GroupPlan], days: int, zone: str) -> None:
    day, group_plan = case
    since = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC) - days * 12 * HOUR
    until = since + days * 24 * HOUR
    loads = workloads([group_plan], since, until, NIGHT, {user: ZoneInfo(zone) for user in NAMES})
    own = sum((load.time for load in loads), OnCallTime())
    share = sum((load.even_share for load in loads), OnCallTime())
    assert own.total == person_time(group_plan, since, until)
    # Shares are rounded to microseconds.
    assert abs(own.total - share.total) < timedelta(milliseconds=1)
    for load in loads:
        assert load.time.total <= until - since
        assert max(load.time.night, load.time.weekend, load.time.holiday) <= load.time.total


def person_time(group_plan: GroupPlan, since: datetime, until: datetime) -> timedelta:
    """The time of all users on call in the roles that schedules assign, from what each moment says."""
    timeline = final_schedule.timeline(group_plan, since, until)
    segments, roles = timeline.segments, timeline.scheduled_roles
    edges = {edge for segment in segments for edge in (segment.since, segment.until) if edge and since < edge < until}
    bounds = [since, *sorted(edges), until]
    return sum(
        (
            (end - begin) * len({one.user_id for one in final_schedule.on_call(group_plan, begin) if one.role in roles})
            for begin, end in itertools.pairwise(bounds)
        ),
        timedelta(),
    )
