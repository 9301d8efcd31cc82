"""The drawing of lanes neither loses nor duplicates a decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tests.support.schedule_strategies import rotate, schedule
from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import final_schedule, schedules
from tocsin.oncall.calculation.final_schedule import GroupPlan, SnapshotMember, SnapshotUser
from tocsin.oncall.calculation.lanes import lanes
from tocsin.web.oncall.lanes import DESK, PHONE, SIDE, Canvas, Drawing, RowKind, View, agenda, draw, range_of

PEOPLE = {1: SnapshotUser("Alice Andersson"), 2: SnapshotUser("Bob Brown"), 3: SnapshotUser("Carol Clark")}
#: By turns of a few hours, only in the evenings: with gaps, over midnights and changes of clocks.
EVENINGS: Mapping[str, Any] = {
    "shifts": [
        {
            "name": "Evenings",
            "rotate": {
                "every": "5h", "at": "07:00", "users": [1, 2, 3], "roles": ["primary"],
                "windows": [{"days": ["mon", "tue", "thu", "sat", "sun"], "from": "17:00", "to": "02:30"}],
            },
            "start": "2026-01-05",
        }
    ]
}  # fmt: skip
ZURICH = ZoneInfo("Europe/Zurich")
VIEWS = st.sampled_from([View.DAY, View.WEEKS, View.MONTH])


def plan(zone: str) -> GroupPlan:
    evenings = schedules.load("Desk 24x7", zone, EVENINGS)
    return GroupPlan(1, "Desk", (SnapshotMember(9, "Dave", frozenset()),), (evenings,), PEOPLE)


def drawn(group_plan: GroupPlan, day: date, view: View, zone: ZoneInfo, canvas: Canvas = DESK) -> Drawing:
    shown = range_of(view, day, zone)
    return draw(lanes([group_plan], shown.since, shown.until, zone), shown.since, zone, canvas, of_one_group=True)


@examples(60)
@given(
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    VIEWS,
    st.sampled_from(["Europe/Zurich", "Australia/Lord_Howe", "America/Chicago", "Asia/Kathmandu"]),
)
def test_a_lane_is_gapless_and_shows_decisions(day: date, view: View, zone_name: str) -> None:
    zone, group_plan = ZoneInfo(zone_name), plan(zone_name)
    shown = range_of(view, day, zone)
    drawing = drawn(group_plan, day, view, zone)
    lane = next(row for row in drawing.rows if row.kind is RowKind.LANE and row.role == "primary")
    assert lane.levels == 1, "turns follow one another"
    bars = sorted(lane.bars, key=lambda bar: bar.x)
    assert bars[0].x == 0
    assert sum(bar.width for bar in bars) == pytest.approx(100, abs=0.02)
    for bar in bars:
        middle = shown.since + (shown.until - shown.since) * (bar.x + bar.width / 2) / 100
        names = [one.name for one in final_schedule.on_call(group_plan, middle) if one.role is MemberRole.PRIMARY]
        assert bar.tone == "gap" if not names else bar.words.startswith(f"{names[0]}, primary")
    assert sum(tick.width for tick in drawing.ticks) == pytest.approx(100, abs=0.02)
    assert len(drawing.midnights.split()) == len({*shown_days(shown.first, shown.end)}) + 1


def shown_days(first: date, end: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((end - first).days)]


@examples(60)
@given(st.dates(date(2026, 1, 1), date(2027, 12, 31)), st.sampled_from(View))
def test_ranges_are_consecutive_and_contain_the_requested_day(day: date, view: View) -> None:
    shown = range_of(view, day, ZURICH)
    assert shown.first <= day < shown.end
    assert range_of(view, shown.end, ZURICH).earlier == shown.first
    assert shown.on_phone.first == shown.first
    assert shown.name


def test_a_person_has_one_colour_whatever_is_shown() -> None:
    tones: dict[str, set[str]] = {}
    for days in range(14):
        day = date(2026, 3, 2) + timedelta(days=days)
        for row in drawn(plan("UTC"), day, View.DAY, ZoneInfo("UTC")).rows:
            for bar in row.bars:
                if bar.initials:
                    tones.setdefault(bar.initials, set()).add(bar.tone.removesuffix(" hidden"))
    assert {name: len(several) for name, several in tones.items()} == {"AA": 1, "BB": 1, "CC": 1}


@pytest.mark.parametrize(
    ("view", "canvas", "text"),
    [
        (View.WEEKS, DESK, "Bob Brown"),
        (View.MONTH, PHONE, "Bob"),
        (View.COVERAGE, SIDE, ""),
        (View.DAY, SIDE, "Bob Brown"),
    ],
)
def test_bars_say_what_fits(view: View, canvas: Canvas, text: str) -> None:
    group_plan = GroupPlan(1, "Desk", (), (schedule(rotate("Weekly", [1, 2])),), PEOPLE)
    drawing = drawn(group_plan, date(2026, 12, 1), view, ZURICH, canvas)
    first = drawing.rows[0].bars[0]
    assert (first.initials, first.text) == ("BB", text)
    assert "Bob Brown, primary. " in first.words


def test_the_groups_own_order_is_one_bar() -> None:
    members = tuple(
        SnapshotMember(number, one.name, frozenset({MemberRole.PRIMARY}), number) for number, one in PEOPLE.items()
    )
    (row,) = drawn(GroupPlan(1, "Desk", members, (), PEOPLE), date(2026, 12, 1), View.WEEKS, ZURICH).rows
    assert [(bar.tone, bar.text) for bar in row.bars] == [("order", "Alice Andersson → Bob Brown → Carol Clark")]


def test_the_agenda_has_each_assignment_once() -> None:
    zone, group_plan = ZoneInfo("UTC"), plan("UTC")
    begin = datetime(2026, 3, 2, tzinfo=zone)
    shown = lanes([group_plan], begin, begin + timedelta(days=14), zone)
    entries = [entry for day in agenda(shown, begin, zone) for entry in day.entries]
    assert len(entries) == len(shown.lanes[0].segments) + len(shown.lanes[0].gaps)
    starts = [max(entry.since or begin, begin) for entry in entries]
    assert starts == sorted(starts)
