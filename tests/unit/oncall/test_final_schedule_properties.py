"""A timeline agrees with each of its instants for all shift types, zones and clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tests.support.schedule_strategies import some_plan
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall, OnCallResolver, Timeline

#: Days around which clocks change somewhere, one that a zone skipped, the end of a February, and one of no note.
AROUND = [
    date(2026, 3, 29),
    date(2026, 10, 25),
    date(2026, 11, 1),
    date(2011, 12, 30),
    date(2028, 2, 29),
    date(2026, 7, 1),
]
CASES = st.sampled_from(AROUND).flatmap(lambda day: st.tuples(st.just(day), some_plan(day)))
MINUTES = st.integers(-14 * 1440, 14 * 1440)


def at(day: date, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)


def holding(timeline: Timeline, moment: datetime) -> set[OnCall]:
    return {
        segment
        for segment in timeline.segments
        if (segment.since is None or segment.since <= moment) and (segment.until is None or moment < segment.until)
    }


@examples(60)
@given(case=CASES, begin=MINUTES, length=st.integers(1, 10 * 1440), moments=st.lists(st.integers(0, 999), max_size=6))
def test_a_range_says_at_each_moment_what_the_moment_says(
    case: tuple[date, GroupPlan], begin: int, length: int, moments: list[int]
) -> None:
    day, plan = case
    since, until = at(day, begin), at(day, begin + length)
    timeline = final_schedule.timeline(plan, since, until)
    edges = [edge for segment in timeline.segments for edge in (segment.since, segment.until) if edge]
    inside = [edge for edge in edges if since <= edge < until][:10]
    for moment in [since, *(since + (until - since) * part / 1000 for part in moments), *inside]:
        people = final_schedule.on_call(plan, moment)
        assert holding(timeline, moment) == set(people), moment
        member_roles = {person.role for person in people}
        for role in OnCallResolver(plan).scheduled:
            open_gap = any(gap.role is role and gap.since <= moment < gap.until for gap in timeline.gaps)
            assert open_gap == (role not in member_roles)
        assert len({(person.role, person.user_id) for person in people}) == len(people)


@examples(60)
@given(
    case=CASES,
    begin=MINUTES,
    length=st.integers(1, 5 * 1440),
    earlier=st.integers(1, 10 * 1440),
    later=st.integers(0, 1440),
)
def test_result_of_a_range_is_independent_of_its_bounds(
    case: tuple[date, GroupPlan], begin: int, length: int, earlier: int, later: int
) -> None:
    day, plan = case
    since, until = at(day, begin), at(day, begin + length)
    short = final_schedule.timeline(plan, since, until)
    longer = final_schedule.timeline(plan, since - timedelta(minutes=earlier), until + timedelta(minutes=later))
    touching = [
        segment
        for segment in longer.segments
        if (segment.since is None or segment.since < until) and (segment.until is None or segment.until > since)
    ]
    assert set(short.segments) == set(touching)
