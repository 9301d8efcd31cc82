"""The timeline layout neither loses nor duplicates a decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import final_schedule, schedules
from tocsin.oncall.calculation.final_schedule import GroupPlan, SnapshotMember, SnapshotUser
from tocsin.web.oncall import timeline
from tocsin.web.oncall.timeline import RowKind, TimelineSpan

PEOPLE = {1: SnapshotUser("Alice"), 2: SnapshotUser("Bob"), 3: SnapshotUser("Carol")}
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


def plan(zone: str) -> GroupPlan:
    schedule = schedules.load("Desk 24x7", zone, EVENINGS)
    return GroupPlan(1, "Desk", (SnapshotMember(9, "Dave", frozenset()),), (schedule,), PEOPLE)


@examples(60)
@given(
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    st.sampled_from(TimelineSpan),
    st.sampled_from(["Europe/Zurich", "Australia/Lord_Howe", "America/Chicago", "Asia/Kathmandu"]),
)
def test_final_schedule_row_is_gapless_and_shows_decisions(day: date, span: TimelineSpan, zone: str) -> None:
    shown = timeline.range_of(span, day, ZoneInfo(zone))
    group_plan = plan(zone)
    drawn = timeline.draw(group_plan, final_schedule.timeline(group_plan, shown.since, shown.until), shown, shown.since)
    winner = next(row for row in drawn.rows if row.kind is RowKind.FINAL and row.role == "primary")
    assert winner.lanes == 1, "turns follow one another"
    pieces = sorted(winner.segments, key=lambda piece: piece.x)
    assert pieces[0].x == 0
    assert sum(piece.width for piece in pieces) == pytest.approx(100, abs=0.01)
    for piece in pieces:
        middle = shown.since + (shown.until - shown.since) * (piece.x + piece.width / 2) / 100
        names = [one.name for one in final_schedule.on_call(group_plan, middle) if one.role is MemberRole.PRIMARY]
        assert names == ([] if piece.tone == "gap" else [piece.text])
    # The list in words has the same people on the same days.
    for one in drawn.days:
        noon = datetime.combine(one.day, datetime.min.time(), ZoneInfo(zone)) + timedelta(hours=20)
        lines = {
            piece.text for piece in one.segments if piece.since and piece.until and piece.since <= noon < piece.until
        }
        assert lines - {""} == {person.name for person in final_schedule.on_call(group_plan, noon.astimezone(UTC))}


@examples(60)
@given(st.dates(date(2026, 1, 1), date(2027, 12, 31)), st.sampled_from(TimelineSpan))
def test_ranges_are_consecutive_and_contain_the_requested_day(day: date, span: TimelineSpan) -> None:
    zone = ZoneInfo("Europe/Zurich")
    shown = timeline.range_of(span, day, zone)
    assert shown.first <= day < shown.end
    assert timeline.range_of(span, shown.end, zone).earlier == shown.first
    assert len(shown.midnights) == len(shown.days) + 1
    ticks = timeline.draw(
        plan("UTC"), final_schedule.timeline(plan("UTC"), shown.since, shown.until), shown, shown.since
    ).ticks
    assert sum(tick.width for tick in ticks) == pytest.approx(100, abs=0.01)


def test_a_person_has_one_colour_whatever_is_shown() -> None:
    group_plan, zone = plan("UTC"), ZoneInfo("UTC")
    tones: dict[str, set[str]] = {}
    for weeks in range(8):
        shown = timeline.range_of(TimelineSpan.WEEK, date(2026, 3, 2) + timedelta(weeks=weeks), zone)
        for row in timeline.draw(
            group_plan, final_schedule.timeline(group_plan, shown.since, shown.until), shown, shown.since
        ).rows:
            for piece in row.segments:
                tones.setdefault(piece.text, set()).add(piece.tone.removesuffix(" hidden"))
    assert {name: len(several) for name, several in tones.items()} == {"Alice": 1, "Bob": 1, "Carol": 1, "": 1}
