"""What escalation does while nobody acts: steps, passes, busy people, empty steps, the end, dry run and record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.escalation.world import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DESK,
    ERIN,
    NETWORK,
    T0,
    World,
    minutes,
    plan,
    roster,
)
from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.states import EventKind
from tocsin.escalation.actions.forecast import next_step, play
from tocsin.escalation.run.run_state import ActivePause, NoticeReason, RunStatus

STANDARD = (("primary", 0), ("secondary", 5), ("primary secondary", 10))


def test_steps_fire_one_after_another_each_after_its_wait() -> None:
    world = World(plan(*STANDARD)).to(14.99)
    assert world.paged == [(0, ALICE), (5, BOB)]
    world.to(15)
    assert world.paged == [(0, ALICE), (5, BOB), (15, ALICE), (15, BOB)]
    assert world.sentences(EventKind.STEP_FIRED)[1] == "Step 2 of 3 pages Bob (secondary, Desk)."


def test_waits_are_kept_down_to_a_second() -> None:
    world = World(plan(("primary", 0.5), ("secondary", 1.25))).to(10)
    assert world.paged == [(0.5, ALICE), (1.75, BOB)]


def test_a_turn_with_nothing_due_changes_nothing() -> None:
    world = World(plan(*STANDARD)).to(2)
    before = world.run
    world.turn()
    assert world.run == before
    assert world.paged == [(0, ALICE)]


def test_further_passes_come_apart_from_the_beginning_of_the_last_step() -> None:
    world = World(plan(("primary", 1), ("secondary", 5), repeat={"times": 2, "every": "10m"})).to(60)
    assert world.paged == [(1, ALICE), (6, BOB), (16, ALICE), (21, BOB), (31, ALICE), (36, BOB)]
    assert "Step 1 of 2, pass 2 of 3 pages Alice" in world.sentences(EventKind.STEP_FIRED)[2]


def test_without_repeat_there_is_one_pass() -> None:
    assert World(plan(("primary", 0))).to(300).paged == [(0, ALICE)]


# The end


def test_the_end_comes_five_minutes_after_the_last_step_of_the_last_pass_began() -> None:
    world = World(plan(("primary", 0), repeat={"times": 1, "every": "10m"})).to(14.9)
    assert not world.told
    world.to(15)
    assert world.run.status is RunStatus.FINISHED
    assert world.run.due_at is None
    ((minute, tell),) = world.told
    assert (minute, tell.user_ids, tell.why) == (15, (CAROL,), NoticeReason.NOBODY_ANSWERED)
    assert world.sentences(EventKind.ESCALATION_FINISHED) == ["Nobody answered, and the escalation is at its end."]


def test_the_end_can_be_set_and_without_managers_the_administrators_hear() -> None:
    world = World(plan(("primary", 0), end_after="90s"), roster(manager=())).to(1.5)
    assert [tell.user_ids for _minute, tell in world.told] == [(ERIN,)]


def test_several_managers_are_all_told() -> None:
    world = World(plan(("primary", 0)), roster(manager=(CAROL, DAVE))).to(5)
    assert world.sentences(EventKind.TOLD) == [
        "Carol and Dave are told: Nobody answered, and the escalation is at its end."
    ]


def test_with_nobody_to_tell_the_timeline_says_so() -> None:
    world = World(plan(("primary", 0)), roster(manager=(), admins=())).to(5)
    assert world.told == []
    assert world.sentences(EventKind.TOLD) == [
        "Nobody answered, and the escalation is at its end. There is no manager or administrator to tell."
    ]


# Who is taken


def test_within_a_step_nobody_is_paged_twice_and_a_second_role_wants_a_second_person() -> None:
    people = roster(primary=(ALICE,), secondary=(ALICE, BOB))
    assert World(plan(("primary secondary", 0)), people).to(0).paged == [(0, ALICE), (0, BOB)]


def test_somebody_on_call_for_two_groups_is_paged_once_and_nobody_is_woken_in_their_place() -> None:
    people = roster(primary=(ALICE, BOB), network=(ALICE, DAVE))
    world = World(plan(("primary", 0)), people, groups=(DESK, NETWORK)).to(0)
    assert world.paged == [(0, ALICE)]


def test_each_recipient_group_is_paged() -> None:
    world = World(plan(("primary", 0)), roster(network=(DAVE,)), groups=(DESK, NETWORK)).to(0)
    assert world.paged == [(0, ALICE), (0, DAVE)]


def test_a_recipient_group_pages_nobody_by_itself() -> None:
    world = World(plan(({"users": ["dave"]}, 0))).to(0)
    assert world.paged == [(0, DAVE)]


def test_a_steps_own_groups_are_asked_instead_of_the_recipients() -> None:
    world = World(plan(({"roles": ["primary"], "groups": ["Network"]}, 0)), roster(network=(DAVE,))).to(0)
    assert world.paged == [(0, DAVE)]


def test_recipient_users_are_paged_beside_the_first_step_that_is_not_left_out() -> None:
    night = {"when": {"priority": ["critical"]}}
    world = World(plan(("secondary", 0, night), ("primary", 5)), users=(DAVE,)).to(0)
    assert world.paged == [(0, ALICE), (0, DAVE)]


def test_recipient_users_are_paged_when_the_first_step_fires_beside_its_targets() -> None:
    world = World(plan(("primary", 2), ("secondary", 5)), users=(DAVE, ALICE)).to(10)
    assert world.paged == [(2, ALICE), (2, DAVE), (7, BOB)]


def test_group_contacts_are_reached_by_their_label() -> None:
    world = World(plan(({"group_contacts": ["chat"]}, 0), ("primary", 5))).to(0)
    assert world.contacts == [(0, "Chat")]
    assert world.sentences(EventKind.STEP_FIRED) == ["Step 1 of 2 pages Chat of Desk."]


def test_whoever_has_pages_to_come_is_not_started_again_and_the_next_of_the_role_is_taken() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3, 6, 9)})
    world = World(plan(("primary", 0), ("primary", 5)), people).to(5)
    assert world.paged == [(0, ALICE), (5, DAVE)]
    assert "Alice is still being paged by an earlier step" in world.sentences(EventKind.STEP_FIRED)[1]


def test_whoevers_methods_have_all_been_tried_is_paged_again_by_later_steps_and_passes() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3)})
    world = World(plan(("primary", 0), ("primary", 5), repeat={"times": 1, "every": "5m"}), people).to(15)
    assert world.users() == [ALICE, ALICE, ALICE, ALICE]


def test_a_step_whose_people_are_all_still_being_paged_waits_for_them() -> None:
    people = roster(offsets={ALICE: (0, 9)})
    world = World(plan(("primary", 0), ("primary", 5), ("secondary", 5)), people).to(10)
    assert world.paged == [(0, ALICE), (10, BOB)]
    assert "waits for those already paged" in world.sentences(EventKind.STEP_EMPTY)[0]
    assert [event.data["busy"] for event in world.events if event.kind is EventKind.STEP_EMPTY] == [True]


def test_somebody_without_a_contact_method_is_passed_over_with_the_reason() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: ()})
    world = World(plan(("primary", 0)), people).to(0)
    assert world.paged == [(0, DAVE)]
    assert "Alice has no contact method in use." in world.sentences(EventKind.STEP_FIRED)[0]


# Steps with nobody


def test_a_step_with_nobody_lets_the_next_fire_at_once_and_says_so() -> None:
    world = World(plan(*STANDARD), roster(primary=())).to(0)
    assert world.paged == [(0, BOB)]
    assert world.sentences(EventKind.STEP_EMPTY) == [
        "Step 1 of 3 has nobody. Nobody is primary in Desk. The next step fires at once."
    ]


def test_the_next_step_counts_from_the_one_that_fired_at_once() -> None:
    world = World(plan(*STANDARD), roster(primary=())).to(10)
    assert world.paged == [(0, BOB), (10, BOB)]


def test_when_a_whole_pass_finds_nobody_the_managers_hear_at_once_and_further_passes_still_come() -> None:
    policy = plan(("primary", 0), ("secondary", 5), repeat={"times": 1, "every": "10m"})
    world = World(policy, roster(primary=(), secondary=())).to(0)
    assert [(minute, tell.why) for minute, tell in world.told] == [(0, NoticeReason.NOBODY_TO_PAGE)]
    world.roster = roster()
    world.to(20)
    assert world.paged == [(10, ALICE), (15, BOB)]
    world.to(25)
    assert [tell.why for _minute, tell in world.told] == [NoticeReason.NOBODY_TO_PAGE, NoticeReason.NOBODY_ANSWERED]


def test_when_nobody_can_ever_be_paged_the_end_still_comes_and_is_told_once() -> None:
    world = World(plan(("primary", 0)), roster(primary=())).to(60)
    assert world.run.status is RunStatus.FINISHED
    assert [tell.why for _minute, tell in world.told] == [NoticeReason.NOBODY_TO_PAGE]


# Late turns


def test_after_an_outage_people_come_as_far_apart_as_the_policy_says_not_all_at_once() -> None:
    world = World(plan(*STANDARD)).at(60)
    assert world.paged == [(60, ALICE)]
    world.to(80)
    assert world.paged == [(60, ALICE), (65, BOB), (75, ALICE), (75, BOB)]


def test_a_turn_that_is_a_little_late_does_not_shift_what_follows() -> None:
    world = World(plan(("primary", 0), ("secondary", 5)))
    world.now = T0 + timedelta(seconds=1)
    world.turn()
    assert world.run.due_at == T0 + minutes(5)


# Dry run and record


def test_dry_run_decides_everything_pages_nobody_and_says_who_would_have_been() -> None:
    world = World(plan(*STANDARD), mode=PagingMode.DRY_RUN).to(20)
    assert (world.paged, world.contacts, world.told) == ([], [], [])
    assert world.would == World(plan(*STANDARD)).to(20).paged
    assert world.sentences(EventKind.STEP_FIRED)[0] == "Step 1 of 3 would page Alice (primary, Desk)."
    assert "Carol would be told" in world.sentences(EventKind.TOLD)[0]


def test_a_recorded_alert_has_no_timer_and_says_why() -> None:
    world = World(plan(*STANDARD), mode=PagingMode.RECORD, why="Route 1: priority is low.").to(600)
    assert (world.run.status, world.run.due_at) == (RunStatus.STOPPED, None)
    assert world.run.reason == "Only recorded, nobody is paged. Route 1: priority is low."
    assert world.events == []


# The pause of all paging


def test_while_all_paging_is_paused_steps_wait_and_at_its_end_the_step_then_due_fires() -> None:
    world = World(plan(*STANDARD)).to(1)
    world.pause = ActivePause(T0 + minutes(40), "moving the data centre")
    world.to(39)
    assert world.paged == [(0, ALICE)]
    assert (world.run.status, world.run.due_at) == (RunStatus.PAUSED, T0 + minutes(40))
    assert world.run.reason == "All paging is paused: moving the data centre"
    (waits,) = world.sentences(EventKind.ESCALATION_WAITS)
    assert "moving the data centre" in waits
    world.to(50)
    assert world.paged == [(0, ALICE), (40, BOB), (50, ALICE), (50, BOB)]


def test_pages_that_waited_for_the_pause_do_not_start_their_person_again() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3)})
    world = World(plan(("primary", 0), ("primary", 2)), people)
    world.to(1)
    world.pause = ActivePause(T0 + minutes(40), "maintenance")
    world.to(40)
    assert world.paged == [(0, ALICE), (40, DAVE)], "the call to Alice, due at 3, leaves now"


# What comes next


def test_the_next_step_is_told_with_real_names_and_its_time() -> None:
    world = World(plan(*STANDARD)).to(1)
    coming = next_step(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert (coming.at, coming.summary) == (T0 + minutes(5), "pages Bob (secondary, Desk)")
    paused = next_step(world.run, world.alert, world.roster, world.now, ActivePause(T0 + minutes(9), "x"))
    assert paused is not None
    assert (paused.at, paused.summary) == (
        T0 + minutes(9),
        "paging is paused until then; then pages Bob (secondary, Desk)",
    )


def test_the_end_is_told_as_what_comes_next() -> None:
    world = World(plan(("primary", 0))).to(1)
    coming = next_step(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert coming.summary == "tells Carol that nobody answered"
    world.to(9)
    assert next_step(world.run, world.alert, world.roster, world.now) is None


@pytest.mark.parametrize("mode", [PagingMode.RECORD])
def test_a_run_without_a_timer_has_no_next_step(mode: PagingMode) -> None:
    world = World(plan(*STANDARD), mode=mode)
    assert next_step(world.run, world.alert, world.roster, world.now) is None


def test_a_whole_run_is_played_through_without_anybody_acting() -> None:
    world = World(plan(*STANDARD, repeat={"times": 1, "every": "10m"}))
    turns = play(
        world.run, world.alert, lambda _run, at: roster(primary=(ALICE,) if at < T0 + minutes(15) else (DAVE,))
    ).turns
    assert [((at - T0) / minutes(1), [start.pick.name for start in decision.starts]) for at, decision in turns] == [
        (0, ["Alice"]),
        (5, ["Bob"]),
        (15, ["Dave", "Bob"]),
        (25, ["Dave"]),
        (30, ["Bob"]),
        (40, ["Dave", "Bob"]),
        (45, []),
    ]
    assert turns[-1][1].run.status is RunStatus.FINISHED


def test_dry_run_alert_says_who_would_be_paged_next() -> None:
    world = World(plan(*STANDARD), mode=PagingMode.DRY_RUN)
    coming = next_step(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert coming.summary == "would page Alice (primary, Desk)"
