"""Handovers: who follows whom in a schedule, and when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tests.support.schedule_strategies import ALICE, BOB, CAROL, fixed, local, plan, rotate, schedule, some_plan
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import GroupPlan, Handover, handovers
from tocsin.oncall.calculation.schedules import CompiledOverride

CASES = st.sampled_from([date(2026, 3, 29), date(2026, 10, 25), date(2026, 7, 1)]).flatmap(
    lambda day: st.tuples(st.just(day), some_plan(day))
)


def of_december(group_plan: GroupPlan) -> tuple[Handover, ...]:
    return handovers(group_plan, "Desk 24x7", local("2026-12-01T00:00"), local("2026-12-15T00:00"))


def test_a_weekly_rotation_hands_over_each_week() -> None:
    first, second = of_december(plan(schedule(rotate("Weekly", [ALICE, BOB]))))
    assert first == Handover(local("2026-12-07T09:00"), local("2026-11-30T09:00"), (BOB,), (ALICE,))
    assert (second.at, second.outgoing) == (local("2026-12-14T09:00"), (ALICE,))


def test_a_user_who_returns_after_a_gap_hands_nothing_over() -> None:
    nights = rotate(
        "Nights", [ALICE, BOB], windows=[{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "18:00", "to": "08:00"}]
    )
    first, *_rest = found = of_december(plan(schedule(nights)))
    assert [one.at for one in found] == [local("2026-12-07T18:00"), local("2026-12-14T18:00")]
    assert first.outgoing == (BOB,)


def test_roles_that_change_together_are_one_handover() -> None:
    both = rotate("Weekly", [ALICE, BOB, CAROL], roles=["primary", "secondary"])
    (first, _second) = of_december(plan(schedule(both)))
    assert len(first.outgoing) == len(first.incoming) == 2
    assert set(first.outgoing) & set(first.incoming)


def test_an_override_hands_over_twice() -> None:
    override = CompiledOverride(1, "", CAROL, local("2026-12-02T08:00"), local("2026-12-02T20:00"))
    first, second, *_rest = of_december(plan(schedule(rotate("Weekly", [ALICE, BOB]), overrides=[override])))
    assert (first.outgoing, first.incoming, second.outgoing, second.incoming) == ((BOB,), (CAROL,), (CAROL,), (BOB,))
    assert second.since == first.at


def test_nobody_and_a_user_who_joins_are_no_handover() -> None:
    shifts = rotate("Always", [ALICE]), fixed("Busy hours", [BOB], (["wed"], "08:00", "18:00"))
    assert of_december(plan(schedule(*shifts))) == ()
    assert of_december(plan(schedule(fixed("Once a week", [BOB], (["wed"], "08:00", "18:00"))))) == ()


@examples(40)
@given(case=CASES, days=st.integers(1, 20))
def test_users_of_a_handover_are_on_call_around_it(case: tuple[date, GroupPlan], days: int) -> None:
    day, group_plan = case
    since = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=days / 2)
    until = since + timedelta(days=days)
    for one in (one for item in group_plan.schedules for one in handovers(group_plan, item.name, since, until)):
        now = {person.user_id for person in final_schedule.on_call(group_plan, one.at) if person.schedule}
        assert set(one.incoming) <= now
        assert one.since < one.at
        assert one.outgoing
        assert one.incoming
