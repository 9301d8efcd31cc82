"""One by one, tries, several acknowledgements, groups in sequence, waiting for somebody, and what comes at the end."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.escalation.world import ALICE, BOB, CAROL, DAVE, DESK, ERIN, NETWORK, World, actor, plan, roster
from tocsin.alerts.commands import Acknowledge, Assign, Escalate
from tocsin.alerts.states import EventKind
from tocsin.escalation.actions import forecast
from tocsin.escalation.run.run_state import NoticeReason, RunStatus
from tocsin.escalation.run.target_resolution import HandoverPolicy, ScheduleOnCall, TargetContext, TargetFacts

EVERYBODY = {"everybody": True}


def crew(**more: object) -> TargetContext:
    people = roster(primary=(ALICE, DAVE), network=(ERIN,))
    duties = {DESK: replace(people.duties[DESK], members=(ALICE, BOB, CAROL)), NETWORK: people.duties[NETWORK]}
    return replace(people, duties=duties, **more)  # type: ignore[arg-type]


def test_sequential_step_goes_through_the_whole_order_and_the_next_step_counts_from_the_last() -> None:
    world = World(plan(("primary secondary", 0, {"sequential": "5m"}), ("manager", 4)), crew()).to(60)
    assert world.paged == [(0, ALICE), (5, DAVE), (10, BOB), (14, CAROL)]
    assert "The next in line follows in 5 minutes." in world.sentences(EventKind.STEP_FIRED)[0]


def test_whoever_is_woken_on_request_is_the_next_in_line() -> None:
    world = World(plan(("primary secondary", 0, {"sequential": "5m"})), crew()).to(1)
    world.act(Escalate(actor=actor(CAROL)))
    world.turn()
    assert world.paged == [(0, ALICE), (1, DAVE)]


def test_everybody_the_assignee_a_schedule_and_who_was_before_can_be_paged() -> None:
    people = crew(
        schedules={20: ScheduleOnCall("Nights", (DAVE,))},
        facts={42: TargetFacts(assignee_id=ERIN, assignee="erin@example.org")},
    )
    desk = replace(people.duties[DESK], previous=dict.fromkeys(people.duties[DESK].roles, (BOB,)))
    people = replace(people, duties={**people.duties, DESK: desk})
    notify = {"schedules": ["Nights"], "assignee": True, "previous_on_call": True}
    world = World(plan((notify, 0), (EVERYBODY, 5)), people).to(5)
    assert world.paged == [(0, BOB), (0, DAVE), (0, ERIN), (5, ALICE), (5, BOB), (5, CAROL)]


def test_further_tries_keep_a_person_busy() -> None:
    tries = {"retries": {"times": 2, "every": "5m"}}
    world = World(plan(("primary", 0, tries), ("primary", 5), ("primary", 6)), crew()).to(30)
    assert world.paged == [(0, ALICE), (5, DAVE), (11, ALICE)]


def test_it_stops_once_so_many_people_have_acknowledged() -> None:
    policy = plan(("primary", 0), ("secondary", 5), ("manager", 5), acknowledge={"effect": "stop", "people": 2})
    world = World(policy).to(1)
    world.act(Acknowledge(actor=actor(ALICE)))
    assert world.run.status is RunStatus.ACTIVE
    assert world.sentences(EventKind.ESCALATION_GOES_ON) == [
        "1 of 2 people have acknowledged it; escalation goes on until 2 have."
    ]
    world.to(6).act(Acknowledge(actor=actor(BOB)))
    assert world.run.status is RunStatus.STOPPED
    assert world.to(20).paged == [(0, ALICE), (5, BOB)]


def test_a_step_that_counts_only_until_acknowledged_is_left_out_and_its_pages_withdrawn() -> None:
    soft = {"only_until_acknowledged": True}
    policy = plan(("primary", 0, soft), ("secondary", 5, soft), ("manager", 5), acknowledge={"effect": "continue"})
    world = World(policy).to(1)
    world.act(Acknowledge(actor=actor(BOB)))
    assert world.cancels[-1].user_ids == frozenset({ALICE, BOB})
    assert world.to(20).paged == [(0, ALICE), (10, CAROL)]


def test_pages_of_such_a_step_are_withdrawn_also_after_the_escalation_began_anew() -> None:
    policy = plan(("primary", 0, {"only_until_acknowledged": True}), acknowledge={"effect": "continue"})
    world = World(policy, roster(offsets={ALICE: (0, 30)})).to(6)
    world.act(Escalate(actor=actor(CAROL)))
    world.to(7).act(Acknowledge(actor=actor(BOB)))
    assert world.cancels[-1].user_ids == frozenset({ALICE, BOB})


def test_recipient_groups_sequential_go_through_all_steps_each() -> None:
    policy = plan(("primary", 0), ("secondary", 5), groups_sequential="15m", repeat={"times": 1, "every": "30m"})
    world = World(policy, crew(), groups=(DESK, NETWORK)).to(200)
    assert world.paged == [(0, ALICE), (5, BOB), (20, ERIN), (55, ALICE), (60, BOB), (75, ERIN)]
    assert "group 2 of 2 (Network), pass 1 of 2" in world.sentences(EventKind.STEP_FIRED)[2]


def test_an_empty_step_can_wait_until_somebody_is_on_call() -> None:
    world = World(plan(("primary", 0, {"if_empty": "wait"}), ("manager", 5)), roster(primary=())).to(20)
    assert world.paged == []
    assert [tell.why for _minute, tell in world.told] == [NoticeReason.NOBODY_TO_PAGE]
    assert len(world.sentences(EventKind.STEP_EMPTY)) == 1
    coming = forecast.next_step(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert (coming.summary, coming.waits) == ("step 1 of 2 has nobody, and waits until somebody is on call", True)
    world.roster = roster()
    assert world.to(30).paged == [(21, ALICE), (26, CAROL)]


def test_the_last_step_can_go_on_until_somebody_takes_it() -> None:
    world = World(plan(("primary", 0), ("secondary", 5), end={"then": "keep_last_step", "every": "10m"})).to(31)
    assert world.paged == [(0, ALICE), (5, BOB), (10, BOB), (20, BOB), (30, BOB)]
    assert world.told == []
    world.act(Assign(actor=actor(BOB), user_id=BOB, name="Bob"))
    assert len(world.to(120).paged) == 5


def test_at_the_end_another_policy_goes_on_for_the_same_recipients() -> None:
    other = HandoverPolicy("Other", 7, plan(("manager", 2)))
    world = World(plan(("primary", 0), end={"then": "hand_over", "policy": "Other"}), crew(successors={40: other}))
    world.to(60)
    assert world.paged == [(0, ALICE), (7, CAROL)]
    assert world.sentences(EventKind.ESCALATION_FINISHED)[0].endswith("Policy Other goes on.")
    assert [tell.why for _minute, tell in world.told] == [NoticeReason.NOBODY_ANSWERED]


def test_a_policy_to_hand_over_to_that_is_gone_tells_the_managers() -> None:
    world = World(plan(("primary", 0), end={"then": "hand_over", "policy": "Other"})).to(60)
    assert [tell.user_ids for _minute, tell in world.told] == [(CAROL,)]


def test_at_the_end_nothing_more_can_be_wanted() -> None:
    world = World(plan(("primary", 0), end={"then": "nothing"})).to(60)
    assert (world.run.status, world.told) == (RunStatus.FINISHED, [])
