"""The final schedule: order, layers, overrides, absences, holidays and rotations across clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.schedule_strategies import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    LEAD,
    PRIMARY,
    SECONDARY,
    ZONES,
    fixed,
    local,
    plan,
    rotate,
    schedule,
)
from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, SnapshotMember
from tocsin.oncall.calculation.schedules import CompiledOverride, ImportedShifts
from tocsin.oncall.calculation.weekly_windows import CustomHoliday, HolidayDays, load_holiday_calendar

ALL_WEEK = (["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "00:00", "24:00")
MEMBERS = (
    SnapshotMember(BOB, "Bob", frozenset({SECONDARY}), 1),
    SnapshotMember(ALICE, "Alice", frozenset({PRIMARY}), 0),
    SnapshotMember(CAROL, "Carol", frozenset({LEAD, PRIMARY}), 2),
)


def assignments(group: GroupPlan, at: str, fold: int = 0) -> list[tuple[str, str, str]]:
    return [(str(p.role), p.name, str(p.reason)) for p in final_schedule.on_call(group, local(at, fold=fold))]


def names(group: GroupPlan, at: str, role: MemberRole = PRIMARY, fold: int = 0) -> list[str]:
    return [person.name for person in final_schedule.on_call(group, local(at, fold=fold)) if person.role is role]


def test_group_order_applies_without_a_schedule() -> None:
    assert assignments(plan(members=MEMBERS), "2026-03-01T12:00") == [
        ("primary", "Alice", "primary of Desk; the group has no schedule"),
        ("primary", "Carol", "primary of Desk; the group has no schedule"),
        ("secondary", "Bob", "secondary of Desk; the group has no schedule"),
        ("lead", "Carol", "lead of Desk; the group has no schedule"),
    ]
    person = final_schedule.on_call(plan(members=MEMBERS), local("2026-03-01T12:00"))[0]
    assert (person.since, person.until) == (None, None)


def test_group_order_fills_only_roles_and_times_without_shift() -> None:
    group = plan(schedule(fixed("Days", [DAVE], (["mon"], "08:00", "18:00"))), members=MEMBERS)
    assert assignments(group, "2026-03-02T12:00") == [
        ("primary", "Dave", "shift Days of Desk 24x7"),
        ("secondary", "Bob", "secondary of Desk; no shift has this role"),
        ("lead", "Carol", "lead of Desk; no shift has this role"),
    ]
    assert assignments(group, "2026-03-02T18:00")[0] == ("primary", "Alice", "primary of Desk; no active shift")
    evening = final_schedule.on_call(group, local("2026-03-03T12:00"))[0]
    assert (evening.since, evening.until) == (local("2026-03-02T18:00"), local("2026-03-09T08:00"))


@pytest.mark.parametrize(
    ("at", "primary", "secondary"),
    [
        ("2026-01-05T09:00", "Alice", "Bob"),
        ("2026-01-12T08:59:59", "Alice", "Bob"),
        ("2026-01-12T09:00", "Bob", "Carol"),
        ("2026-03-30T08:59:59", "Carol", "Alice"),
        ("2026-03-30T09:00", "Alice", "Bob"),
        ("2036-01-07T09:00", "Alice", "Bob"),
    ],
)
def test_first_is_primary_second_is_secondary_and_both_rotate(at: str, primary: str, secondary: str) -> None:
    group = plan(schedule(rotate("Weekly", [ALICE, BOB, CAROL], roles=["primary", "secondary"])))
    assert names(group, at) == [primary]
    assert names(group, at, SECONDARY) == [secondary]
    assert final_schedule.on_call(group, local("2026-01-05T08:59:59")) == ()


def test_higher_layer_wins_and_lower_one_is_shown_hidden() -> None:
    group = plan(
        schedule(
            fixed("Base", [ALICE], ALL_WEEK),
            fixed("Nights", [BOB, CAROL], (["mon"], "22:00", "06:00"), layer=2),
        )
    )
    assert names(group, "2026-03-02T21:59") == ["Alice"]
    assert names(group, "2026-03-02T22:00") == ["Bob", "Carol"]
    assert names(group, "2026-03-03T06:00") == ["Alice"]
    drawn = final_schedule.timeline(group, local("2026-03-02T12:00"), local("2026-03-03T12:00"))
    assert [(bar.shift, bar.name, str(bar.hidden_by)) for bar in drawn.layer_segments] == [
        ("Base", "Alice", ""),
        ("Base", "Alice", "shift Nights of Desk 24x7"),
        ("Nights", "Bob", ""),
        ("Nights", "Carol", ""),
        ("Base", "Alice", ""),
    ]
    assert drawn.layer_segments[1].until == local("2026-03-03T06:00")


def test_shift_with_only_disabled_users_is_inactive() -> None:
    shifts = (fixed("Base", [ALICE], ALL_WEEK), fixed("Top", [DAVE], ALL_WEEK, layer=2))
    assert names(plan(schedule(*shifts), gone=DAVE), "2026-03-02T12:00") == ["Alice"]


def test_user_in_two_layers_is_paged_once_per_independent_role() -> None:
    own = fixed("Own", [BOB, DAVE], ALL_WEEK, roles=["own"])
    group = plan(schedule(fixed("A", [ALICE], ALL_WEEK), fixed("B", [ALICE, CAROL], ALL_WEEK), own), members=MEMBERS)
    assert names(group, "2026-03-02T12:00") == ["Alice", "Carol", "Dave"]
    assert names(group, "2026-03-02T12:00", SECONDARY) == ["Bob"]


def override(user: int, since: str, until: str, **rest: object) -> CompiledOverride:
    return CompiledOverride(9, str(rest.pop("name", "")), user, local(since), local(until), **rest)  # type: ignore[arg-type]


WEEKLY = rotate("Weekly", [ALICE, BOB], roles=["primary", "secondary"])
DAY = ("2026-01-06T08:00", "2026-01-06T20:00")


@pytest.mark.parametrize(
    ("change", "primary", "secondary"),
    [
        (override(CAROL, *DAY, role=PRIMARY), ["Carol"], ["Bob"]),
        (override(CAROL, *DAY), ["Carol"], ["Carol"]),
        (override(CAROL, *DAY, shift="Weekly"), ["Carol"], ["Carol"]),
        (override(CAROL, *DAY, shift="Weekly", role=SECONDARY), ["Alice"], ["Carol"]),
        (override(CAROL, *DAY, instead_of=BOB), ["Alice"], ["Carol"]),
        (override(CAROL, *DAY, instead_of=DAVE), ["Alice"], ["Bob"]),
        (override(CAROL, *DAY, role=LEAD), ["Alice"], ["Bob"]),
        (override(BOB, *DAY, instead_of=ALICE), ["Bob"], ["Bob"]),
    ],
)
def test_override_applies_to_shift_role_user_or_all(
    change: CompiledOverride, primary: list[str], secondary: list[str]
) -> None:
    group = plan(schedule(WEEKLY, overrides=[change]))
    assert names(group, "2026-01-06T12:00") == primary
    assert names(group, "2026-01-06T12:00", SECONDARY) == secondary
    assert names(group, "2026-01-06T20:00") == ["Alice"]
    assert names(group, "2026-01-06T07:59") == ["Alice"]
    assert names(group, "2026-01-06T12:00", LEAD) == (["Carol"] if change.role is LEAD else [])


def test_override_exposes_window_and_origin() -> None:
    change = override(CAROL, *DAY, name="Xmas swap", instead_of=ALICE)
    person = final_schedule.on_call(plan(schedule(WEEKLY, overrides=[change])), local("2026-01-06T12:00"))[0]
    assert (person.since, person.until) == (local(DAY[0]), local(DAY[1]))
    assert str(person.reason) == "override Xmas swap"
    assert tuple(map(str, person.reasons)) == ("shift Weekly of Desk 24x7: Alice", "override Xmas swap: Carol instead")
    assert person.override_id == 9


def test_later_override_wins_and_disabled_users_override_is_ignored() -> None:
    first, second = override(CAROL, *DAY, role=PRIMARY), override(DAVE, *DAY, role=PRIMARY)
    both = schedule(WEEKLY, overrides=[first, second])
    assert names(plan(both), "2026-01-06T12:00") == ["Dave"]
    assert names(plan(both, gone=DAVE), "2026-01-06T12:00") == ["Carol"]


@pytest.mark.parametrize(
    ("absences", "name", "is_absent"),
    [
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB),), "Bob", False),
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB, {7: CAROL}),), "Carol", False),
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB, {8: CAROL}),), "Bob", False),
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), None, {8: CAROL}),), "Alice", True),
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), DAVE),), "Alice", True),
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB, {7: DAVE}),), "Bob", False),
        ((Absence(ALICE, local(DAY[0]), local(DAY[1]), DAVE, {7: BOB}),), "Bob", False),
        (
            (
                Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB),
                Absence(BOB, local(DAY[0]), local("2026-01-06T13:00"), CAROL),
            ),
            "Carol",
            False,
        ),
        (
            (
                Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB),
                Absence(BOB, local(DAY[0]), local("2026-01-06T13:00"), ALICE),
            ),
            "Bob",
            True,
        ),
    ],
)
def test_absent_user_is_covered_per_group_then_globally_or_marked(
    absences: tuple[Absence, ...], name: str, is_absent: bool
) -> None:
    group = plan(schedule(rotate("Weekly", [ALICE])), absences=absences, gone=DAVE)
    (person,) = final_schedule.on_call(group, local("2026-01-06T12:00"))
    assert (person.name, person.is_absent) == (name, is_absent)
    assert names(group, DAY[1]) == ["Alice"]


AWAY = Absence(ALICE, local(DAY[0]), local(DAY[1]), BOB)


@pytest.mark.parametrize(
    ("change", "absences", "name", "is_absent"),
    [
        (override(CAROL, *DAY, instead_of=BOB), (AWAY,), "Carol", False),
        (override(CAROL, *DAY, instead_of=BOB, role=PRIMARY), (AWAY,), "Carol", False),
        (override(CAROL, *DAY, instead_of=BOB, shift="Weekly"), (AWAY,), "Carol", False),
        (override(CAROL, *DAY, instead_of=BOB, role=SECONDARY), (AWAY,), "Bob", False),
        (override(ALICE, *DAY, instead_of=BOB), (AWAY,), "Bob", False),
        (override(CAROL, *DAY, instead_of=BOB), (AWAY, Absence(CAROL, AWAY.starts_at, AWAY.ends_at)), "Carol", True),
        (override(CAROL, *DAY, instead_of=BOB), (AWAY, Absence(CAROL, AWAY.starts_at, AWAY.ends_at, DAVE)), "Dave", 0),
    ],
)
def test_cover_can_be_overridden_but_not_by_covered_user(
    change: CompiledOverride, absences: tuple[Absence, ...], name: str, is_absent: bool
) -> None:
    group = plan(schedule(rotate("Weekly", [ALICE]), overrides=[change]), absences=absences)
    (person,) = final_schedule.on_call(group, local("2026-01-06T12:00"))
    assert (person.name, person.is_absent) == (name, is_absent)
    assert (person.since, person.until) == (local(DAY[0]), local(DAY[1]))
    assert final_schedule.timeline(group, local("2026-01-06T12:00"), local("2026-01-06T13:00")).segments == (person,)


def test_skip_and_only_share_a_holiday_from_midnight_to_midnight() -> None:
    days = HolidayDays(
        "Own", custom_days=(CustomHoliday(12, 25, "Christmas"), CustomHoliday(12, 26, "Boxing Day", 2026))
    )
    usual = fixed("Usual", [ALICE], ALL_WEEK, holidays="skip")
    feast = fixed("Feast", [BOB], ALL_WEEK, holidays="only")
    group = plan(schedule(usual, feast, calendars=[days]))
    begin, end = local("2026-12-25T00:00"), local("2026-12-27T00:00")
    drawn = final_schedule.timeline(group, begin - timedelta(days=3), end + timedelta(days=3))
    assert [(segment.name, segment.until) for segment in drawn.segments[:2]] == [("Alice", begin), ("Bob", end)]
    assert drawn.gaps == ()
    assert names(group, "2027-12-26T12:00") == ["Alice"], "a day with a year comes once"


def test_the_holidays_of_a_region_are_known() -> None:
    zurich = load_holiday_calendar("Zurich", "CH", "ZH", [{"date": "02-29", "name": "Leap day"}])
    assert zurich.holiday_on(datetime(2026, 5, 1).date()) is not None
    assert zurich.holiday_on(datetime(2026, 5, 2).date()) is None
    assert zurich.holiday_on(datetime(2028, 2, 29).date()) == "Leap day"


def test_handoff_at_skipped_time_is_shifted_and_repeated_uses_first() -> None:
    group = plan(schedule(rotate("N", [ALICE, BOB], every="1d", at="02:30", on=None, start="2026-03-28")))
    before, after = local("2026-03-29T03:30") - timedelta(seconds=1), local("2026-03-29T03:30")
    assert [final_schedule.on_call(group, moment)[0].name for moment in (before, after)] == ["Alice", "Bob"]
    group = plan(schedule(rotate("N", [ALICE, BOB], every="1d", at="02:30", on=None, start="2026-10-24")))
    assert names(group, "2026-10-25T02:29:59") == ["Alice"]
    assert names(group, "2026-10-25T02:30") == ["Bob"]
    assert names(group, "2026-10-25T02:15", fold=1) == ["Bob"]


def test_one_unbroken_stretch_and_windows_that_touch_are_one_stretch() -> None:
    group = plan(schedule(fixed("Weekend", [ALICE], ("fri 17:00", "mon 08:00"))))
    (person,) = final_schedule.on_call(group, local("2026-03-29T12:00"))
    assert (person.since, person.until) == (local("2026-03-27T17:00"), local("2026-03-30T08:00"))
    both = fixed("All", [ALICE], ("fri 17:00", "mon 08:00"), ("mon 08:00", "fri 17:00"))
    (person,) = final_schedule.on_call(plan(schedule(both)), local("2026-03-29T12:00"))
    assert (person.since, person.until) == (None, None)


def test_biweekly_shift_counts_from_the_week_of_its_start() -> None:
    group = plan(schedule(fixed("Even", [ALICE], (["sat"], "08:00", "18:00"), every="2w", start="2026-01-07")))
    on = [
        day
        for day in range(1, 60)
        if names(group, (datetime(2026, 1, 1) + timedelta(days=day - 1)).isoformat()[:10] + "T12:00")
    ]
    assert on == [10, 24, 38, 52]


@given(
    zone=st.sampled_from(ZONES),
    hours=st.sampled_from([1, 3, 8, 12, 24, 25, 100, 168, 24 * 14]),
    users=st.integers(1, 4),
    move=st.integers(1, 3),
    minute=st.integers(0, 1439),
    day=st.sampled_from(["2011-12-28", "2026-03-27", "2026-10-02", "2026-10-23", "2016-10-14", "2028-02-27"]),
)
def test_rotation_has_no_gaps_or_overlaps_and_keeps_order(
    zone: str, hours: int, users: int, move: int, minute: int, day: str
) -> None:
    attempt = {"every": f"{hours}h", "at": f"{minute // 60:02}:{minute % 60:02}", "users": list(range(1, users + 1))}
    shift = {"name": "R", "rotate": {**attempt, "move": move, "roles": ["primary"]}, "start": day}
    group = plan(schedule(shift, zone=zone))
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=2)
    drawn = final_schedule.timeline(group, begin, begin + timedelta(days=6))
    assert drawn.gaps == ()
    assert all(one.until == other.since for one, other in pairwise(drawn.segments))
    assert all((s.since or begin) < (s.until or begin + timedelta(days=9)) for s in drawn.segments)


def test_calendar_event_over_a_year_ends_in_visible_gap() -> None:
    since, until = local("2025-01-01T00:00"), local("2026-12-01T00:00")
    feed = {"name": "Feed", "calendar": {"url": "https://example.org/a.ics", "roles": ["primary"]}}
    read = ImportedShifts(((ALICE, since, until), (BOB, local("2026-12-08T00:00"), local("2026-12-09T00:00"))))
    group = plan(schedule(feed, imported={"Feed": read}))
    drawn = final_schedule.timeline(group, local("2026-11-24T09:00"), local("2026-12-20T09:00"))
    assert [(one.name, one.until) for one in drawn.segments] == [("Alice", until), ("Bob", local("2026-12-09T00:00"))]
    assert (drawn.gaps[0].since, drawn.gaps[0].until) == (until, local("2026-12-08T00:00"))
