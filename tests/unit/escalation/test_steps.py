"""Sequential steps, retries, required acknowledgements, groups in sequence, waiting steps and final actions."""

from __future__ import annotations

from dataclasses import replace

from tests.support.escalation_run import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DESK,
    ERIN,
    NETWORK,
    EscalationRun,
    actor,
    plan,
    roster,
)
from tocsin.alerts.commands import Acknowledge, Assign, Escalate
from tocsin.alerts.states import EventKind
from tocsin.escalation import explain
from tocsin.escalation.run.run_state import NoticeReason, RunStatus
from tocsin.escalation.run.target_resolution import HandoverPolicy, ScheduleOnCall, TargetContext, TargetFacts

EVERYBODY = {"everybody": True}


def crew(**more: object) -> TargetContext:
    people = roster(primary=(ALICE, DAVE), network=(ERIN,))
    duties = {DESK: replace(people.groups[DESK], members=(ALICE, BOB, CAROL)), NETWORK: people.groups[NETWORK]}
    return replace(people, groups=duties, **more)  # type: ignore[arg-type]


def test_sequential_step_pages_full_order_before_the_next_step() -> None:
    world = EscalationRun(plan(("primary secondary", 0, {"sequential": "5m"}), ("lead", 4)), crew()).to(60)
    assert world.paged == [(0, ALICE), (5, DAVE), (10, BOB), (14, CAROL)]
    assert "The next user is paged in 5 minutes." in world.sentences(EventKind.STEP_FIRED)[0]


def test_manual_escalation_pages_the_next_user_in_order() -> None:
    world = EscalationRun(plan(("primary secondary", 0, {"sequential": "5m"})), crew()).to(1)
    world.act(Escalate(actor=actor(CAROL)))
    world.run_once()
    assert world.paged == [(0, ALICE), (1, DAVE)]


def test_all_users_assignee_schedule_and_previous_targets_can_be_paged() -> None:
    people = crew(
        schedules={20: ScheduleOnCall("Nights", (DAVE,))},
        facts={42: TargetFacts(assignee_id=ERIN, assignee="erin@example.org")},
    )
    desk = replace(people.groups[DESK], previous=dict.fromkeys(people.groups[DESK].roles, (BOB,)))
    people = replace(people, groups={**people.groups, DESK: desk})
    notify = {"schedules": ["Nights"], "assignee": True, "previous_on_call": True}
    world = EscalationRun(plan((notify, 0), (EVERYBODY, 5)), people).to(5)
    assert world.paged == [(0, BOB), (0, DAVE), (0, ERIN), (5, ALICE), (5, BOB), (5, CAROL)]


def test_further_tries_keep_a_person_busy() -> None:
    tries = {"retries": {"times": 2, "every": "5m"}}
    world = EscalationRun(plan(("primary", 0, tries), ("primary", 5), ("primary", 6)), crew()).to(30)
    assert world.paged == [(0, ALICE), (5, DAVE), (11, ALICE)]


def test_policy_stops_after_required_number_of_acknowledgements() -> None:
    policy = plan(("primary", 0), ("secondary", 5), ("lead", 5), acknowledge={"effect": "stop", "people": 2})
    world = EscalationRun(policy).to(1)
    world.act(Acknowledge(actor=actor(ALICE)))
    assert world.run.status is RunStatus.ACTIVE
    assert world.sentences(EventKind.ESCALATION_CONTINUED) == [
        "1 of 2 required users have acknowledged the alert. Escalation continues until all have."
    ]
    world.to(6).act(Acknowledge(actor=actor(BOB)))
    assert world.run.status is RunStatus.STOPPED
    assert world.to(20).paged == [(0, ALICE), (5, BOB)]


def test_until_acknowledged_step_is_skipped_and_its_pages_cancelled() -> None:
    soft = {"only_until_acknowledged": True}
    policy = plan(("primary", 0, soft), ("secondary", 5, soft), ("lead", 5), acknowledge={"effect": "continue"})
    world = EscalationRun(policy).to(1)
    world.act(Acknowledge(actor=actor(BOB)))
    assert world.cancels[-1].user_ids == frozenset({ALICE, BOB})
    assert world.to(20).paged == [(0, ALICE), (10, CAROL)]


def test_until_acknowledged_pages_are_cancelled_even_after_restart() -> None:
    policy = plan(("primary", 0, {"only_until_acknowledged": True}), acknowledge={"effect": "continue"})
    world = EscalationRun(policy, roster(offsets={ALICE: (0, 30)})).to(6)
    world.act(Escalate(actor=actor(CAROL)))
    world.to(7).act(Acknowledge(actor=actor(BOB)))
    assert world.cancels[-1].user_ids == frozenset({ALICE, BOB})


def test_recipient_groups_sequential_go_through_all_steps_each() -> None:
    policy = plan(("primary", 0), ("secondary", 5), groups_sequential="15m", repeat={"times": 1, "every": "30m"})
    world = EscalationRun(policy, crew(), groups=(DESK, NETWORK)).to(200)
    assert world.paged == [(0, ALICE), (5, BOB), (20, ERIN), (55, ALICE), (60, BOB), (75, ERIN)]
    assert "group 2 of 2 (Network), round 1 of 2" in world.sentences(EventKind.STEP_FIRED)[2]


def test_empty_step_can_wait_for_an_on_call_user() -> None:
    world = EscalationRun(plan(("primary", 0, {"if_empty": "wait"}), ("lead", 5)), roster(primary=())).to(20)
    assert world.paged == []
    assert [send_notice.notice_reason for _minute, send_notice in world.told] == [NoticeReason.NOBODY_TO_PAGE]
    assert len(world.sentences(EventKind.STEP_EMPTY)) == 1
    coming = explain.forecast_next_action(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert (coming.summary, coming.is_recheck) == (explain.WILL_WAIT(step=1, steps=2), True)
    world.roster = roster()
    assert world.to(30).paged == [(21, ALICE), (26, CAROL)]


def test_last_step_can_repeat_until_acknowledged() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 5), end={"then": "keep_last_step", "every": "10m"})).to(31)
    assert world.paged == [(0, ALICE), (5, BOB), (10, BOB), (20, BOB), (30, BOB)]
    assert world.told == []
    world.act(Assign(actor=actor(BOB), user_id=BOB, name="Bob"))
    assert len(world.to(120).paged) == 5


def test_exhausted_policy_continues_with_fallback_for_same_recipients() -> None:
    other = HandoverPolicy("Other", 7, plan(("lead", 2)))
    world = EscalationRun(
        plan(("primary", 0), end={"then": "hand_over", "policy": "Other"}), crew(handover_policies={40: other})
    )
    world.to(60)
    assert world.paged == [(0, ALICE), (7, CAROL)]
    assert world.sentences(EventKind.ESCALATION_EXHAUSTED)[0].endswith("Policy Other takes over.")
    assert [send_notice.notice_reason for _minute, send_notice in world.told] == [NoticeReason.NOBODY_ANSWERED]


def test_missing_fallback_policy_notifies_managers() -> None:
    world = EscalationRun(plan(("primary", 0), end={"then": "hand_over", "policy": "Other"})).to(60)
    assert [send_notice.user_ids for _minute, send_notice in world.told] == [(CAROL,)]


def test_at_the_end_nothing_more_can_be_wanted() -> None:
    world = EscalationRun(plan(("primary", 0), end={"then": "nothing"})).to(60)
    assert (world.run.status, world.told) == (RunStatus.EXHAUSTED, [])
