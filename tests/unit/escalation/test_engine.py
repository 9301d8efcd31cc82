"""Escalation without responses: steps, repetitions, pending pages, empty steps, exhaustion, dry run and log only."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.escalation_run import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DESK,
    ERIN,
    NETWORK,
    T0,
    EscalationRun,
    minutes,
    plan,
    roster,
)
from tocsin.alerts.commands import PagingMode
from tocsin.alerts.states import EventKind
from tocsin.escalation import reasons
from tocsin.escalation.explain import forecast_next_action, forecast_run
from tocsin.escalation.run.run_state import ActivePause, NoticeReason, RunStatus

STANDARD = (("primary", 0), ("secondary", 5), ("primary secondary", 10))


def test_steps_fire_one_after_another_each_after_its_wait() -> None:
    world = EscalationRun(plan(*STANDARD)).to(14.99)
    assert world.paged == [(0, ALICE), (5, BOB)]
    world.to(15)
    assert world.paged == [(0, ALICE), (5, BOB), (15, ALICE), (15, BOB)]
    assert world.sentences(EventKind.STEP_FIRED)[1] == "Step 2 of 3 pages Bob (secondary, Desk)."


def test_waits_are_kept_down_to_a_second() -> None:
    world = EscalationRun(plan(("primary", 0.5), ("secondary", 1.25))).to(10)
    assert world.paged == [(0.5, ALICE), (1.75, BOB)]


def test_run_without_due_work_changes_nothing() -> None:
    world = EscalationRun(plan(*STANDARD)).to(2)
    before = world.run
    world.run_once()
    assert world.run == before
    assert world.paged == [(0, ALICE)]


def test_repetitions_are_spaced_from_start_of_last_step() -> None:
    world = EscalationRun(plan(("primary", 1), ("secondary", 5), repeat={"times": 2, "every": "10m"})).to(60)
    assert world.paged == [(1, ALICE), (6, BOB), (16, ALICE), (21, BOB), (31, ALICE), (36, BOB)]
    assert "Step 1 of 2, round 2 of 3 pages Alice" in world.sentences(EventKind.STEP_FIRED)[2]


def test_without_repeat_there_is_one_pass() -> None:
    assert EscalationRun(plan(("primary", 0))).to(300).paged == [(0, ALICE)]


# The end


def test_exhaustion_follows_five_minutes_after_the_last_step() -> None:
    world = EscalationRun(plan(("primary", 0), repeat={"times": 1, "every": "10m"})).to(14.9)
    assert not world.told
    world.to(15)
    assert world.run.status is RunStatus.EXHAUSTED
    assert world.run.due_at is None
    ((minute, send_notice),) = world.told
    assert (minute, send_notice.user_ids, send_notice.notice_reason) == (15, (CAROL,), NoticeReason.NOBODY_ANSWERED)
    assert world.sentences(EventKind.ESCALATION_EXHAUSTED) == ["No one responded, and escalation is exhausted."]


def test_final_action_is_configurable_and_falls_back_to_administrators() -> None:
    world = EscalationRun(plan(("primary", 0), end_after="90s"), roster(lead=())).to(1.5)
    assert [send_notice.user_ids for _minute, send_notice in world.told] == [(ERIN,)]


def test_all_managers_are_notified() -> None:
    world = EscalationRun(plan(("primary", 0)), roster(lead=(CAROL, DAVE))).to(5)
    assert world.sentences(EventKind.NOTICE_SENT) == [
        "Carol and Dave are notified: No one responded, and escalation is exhausted."
    ]


def test_missing_recipients_are_noted_on_the_timeline() -> None:
    world = EscalationRun(plan(("primary", 0)), roster(lead=(), admins=())).to(5)
    assert world.told == []
    assert world.sentences(EventKind.NOTICE_SENT) == [
        "No one responded, and escalation is exhausted. No lead or administrator can be notified."
    ]


# Who is taken


def test_step_pages_each_user_once_and_distinct_users_per_role() -> None:
    people = roster(primary=(ALICE,), secondary=(ALICE, BOB))
    assert EscalationRun(plan(("primary secondary", 0)), people).to(0).paged == [(0, ALICE), (0, BOB)]


def test_user_on_call_for_two_groups_is_paged_only_once() -> None:
    people = roster(primary=(ALICE, BOB), network=(ALICE, DAVE))
    world = EscalationRun(plan(("primary", 0)), people, groups=(DESK, NETWORK)).to(0)
    assert world.paged == [(0, ALICE)]


def test_each_recipient_group_is_paged() -> None:
    world = EscalationRun(plan(("primary", 0)), roster(network=(DAVE,)), groups=(DESK, NETWORK)).to(0)
    assert world.paged == [(0, ALICE), (0, DAVE)]


def test_recipient_group_alone_pages_no_user() -> None:
    world = EscalationRun(plan(({"users": ["dave"]}, 0))).to(0)
    assert world.paged == [(0, DAVE)]


def test_steps_own_groups_replace_the_recipients() -> None:
    world = EscalationRun(plan(({"roles": ["primary"], "groups": ["Network"]}, 0)), roster(network=(DAVE,))).to(0)
    assert world.paged == [(0, DAVE)]


def test_recipient_users_join_the_first_step_not_skipped() -> None:
    night = {"when": {"priority": ["critical"]}}
    world = EscalationRun(plan(("secondary", 0, night), ("primary", 5)), users=(DAVE,)).to(0)
    assert world.paged == [(0, ALICE), (0, DAVE)]


def test_recipient_users_are_paged_beside_first_steps_targets() -> None:
    world = EscalationRun(plan(("primary", 2), ("secondary", 5)), users=(DAVE, ALICE)).to(10)
    assert world.paged == [(2, ALICE), (2, DAVE), (7, BOB)]


def test_group_contacts_are_reached_by_their_label() -> None:
    world = EscalationRun(plan(({"group_contacts": ["chat"]}, 0), ("primary", 5))).to(0)
    assert world.contacts == [(0, "Chat")]
    assert world.sentences(EventKind.STEP_FIRED) == ["Step 1 of 2 pages Chat of Desk."]


def test_user_with_pending_pages_is_skipped_for_next_in_role() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3, 6, 9)})
    world = EscalationRun(plan(("primary", 0), ("primary", 5)), people).to(5)
    assert world.paged == [(0, ALICE), (5, DAVE)]
    assert "Alice is still being paged by an earlier step" in world.sentences(EventKind.STEP_FIRED)[1]


def test_fully_tried_user_is_paged_again_by_later_steps() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3)})
    world = EscalationRun(plan(("primary", 0), ("primary", 5), repeat={"times": 1, "every": "5m"}), people).to(15)
    assert world.users() == [ALICE, ALICE, ALICE, ALICE]


def test_step_with_only_users_still_being_paged_waits() -> None:
    people = roster(offsets={ALICE: (0, 9)})
    world = EscalationRun(plan(("primary", 0), ("primary", 5), ("secondary", 5)), people).to(10)
    assert world.paged == [(0, ALICE), (10, BOB)]
    assert "pages no one else: Alice is still being paged" in world.sentences(EventKind.STEP_EMPTY)[0]
    assert [event.data["busy"] for event in world.events if event.kind is EventKind.STEP_EMPTY] == [True]


def test_user_without_contact_method_is_skipped_with_a_reason() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: ()})
    world = EscalationRun(plan(("primary", 0)), people).to(0)
    assert world.paged == [(0, DAVE)]
    assert "Not paged: Alice has no enabled contact method." in world.sentences(EventKind.STEP_FIRED)[0]


# Steps with nobody


def test_empty_step_advances_immediately_with_a_reason() -> None:
    world = EscalationRun(plan(*STANDARD), roster(primary=())).to(0)
    assert world.paged == [(0, BOB)]
    assert world.sentences(EventKind.STEP_EMPTY) == [
        "Step 1 of 3 has no one to page: no primary on call in Desk. The next step fires immediately."
    ]


def test_next_delay_counts_from_the_immediately_fired_step() -> None:
    world = EscalationRun(plan(*STANDARD), roster(primary=())).to(10)
    assert world.paged == [(0, BOB), (10, BOB)]


def test_fully_empty_pass_notifies_managers_immediately_and_repeats_continue() -> None:
    policy = plan(("primary", 0), ("secondary", 5), repeat={"times": 1, "every": "10m"})
    world = EscalationRun(policy, roster(primary=(), secondary=())).to(0)
    assert [(minute, send_notice.notice_reason) for minute, send_notice in world.told] == [
        (0, NoticeReason.NOBODY_TO_PAGE)
    ]
    world.roster = roster()
    world.to(20)
    assert world.paged == [(10, ALICE), (15, BOB)]
    world.to(25)
    assert [send_notice.notice_reason for _minute, send_notice in world.told] == [
        NoticeReason.NOBODY_TO_PAGE,
        NoticeReason.NOBODY_ANSWERED,
    ]


def test_unpageable_policy_still_exhausts_and_is_reported_once() -> None:
    world = EscalationRun(plan(("primary", 0)), roster(primary=())).to(60)
    assert world.run.status is RunStatus.EXHAUSTED
    assert [send_notice.notice_reason for _minute, send_notice in world.told] == [NoticeReason.NOBODY_TO_PAGE]


# Late turns


def test_policy_delays_are_kept_after_an_outage() -> None:
    world = EscalationRun(plan(*STANDARD)).at(60)
    assert world.paged == [(60, ALICE)]
    world.to(80)
    assert world.paged == [(60, ALICE), (65, BOB), (75, ALICE), (75, BOB)]


def test_slightly_late_run_does_not_shift_later_steps() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 5)))
    world.now = T0 + timedelta(seconds=1)
    world.run_once()
    assert world.run.due_at == T0 + minutes(5)


# Dry run and record


def test_dry_run_pages_no_user_and_lists_would_be_targets() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.DRY_RUN).to(20)
    assert (world.paged, world.contacts, world.told) == ([], [], [])
    assert world.would == EscalationRun(plan(*STANDARD)).to(20).paged
    assert world.sentences(EventKind.STEP_FIRED)[0] == "Step 1 of 3 would page Alice (primary, Desk)."
    assert "Carol would be notified" in world.sentences(EventKind.NOTICE_SENT)[0]


def test_a_recorded_alert_has_no_timer_and_says_why() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.LOG_ONLY, why="Route 1: priority is low.").to(600)
    assert (world.run.status, world.run.due_at) == (RunStatus.STOPPED, None)
    assert str(world.run.reason) == "Log only: no one is paged. Route 1: priority is low."
    assert world.events == []


# The pause of all paging


def test_pause_delays_steps_and_fires_due_step_at_its_end() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.pause = ActivePause(T0 + minutes(40), "moving the data centre")
    world.to(39)
    assert world.paged == [(0, ALICE)]
    assert (world.run.status, world.run.due_at) == (RunStatus.PAUSED, T0 + minutes(40))
    assert world.run.reason == reasons.PAGING_PAUSED(why="moving the data centre")
    (waits,) = world.sentences(EventKind.ESCALATION_PAUSED)
    assert "moving the data centre" in waits
    world.to(50)
    assert world.paged == [(0, ALICE), (40, BOB), (50, ALICE), (50, BOB)]


def test_pages_delayed_by_pause_do_not_restart_their_user() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3)})
    world = EscalationRun(plan(("primary", 0), ("primary", 2)), people)
    world.to(1)
    world.pause = ActivePause(T0 + minutes(40), "maintenance")
    world.to(40)
    assert world.paged == [(0, ALICE), (40, DAVE)], "the call to Alice, due at 3, leaves now"


# What comes next


def test_next_step_is_forecast_with_names_and_time() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    coming = forecast_next_action(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert (coming.at, str(coming.summary)) == (T0 + minutes(5), "pages Bob (secondary, Desk)")
    paused = forecast_next_action(world.run, world.alert, world.roster, world.now, ActivePause(T0 + minutes(9), "x"))
    assert paused is not None
    assert (paused.at, str(paused.summary)) == (
        T0 + minutes(9),
        "paging is paused until then; then pages Bob (secondary, Desk)",
    )


def test_exhaustion_is_forecast_as_next_action() -> None:
    world = EscalationRun(plan(("primary", 0))).to(1)
    coming = forecast_next_action(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert str(coming.summary) == "notifies Carol that no one responded"
    world.to(9)
    assert forecast_next_action(world.run, world.alert, world.roster, world.now) is None


@pytest.mark.parametrize("mode", [PagingMode.LOG_ONLY])
def test_a_run_without_a_timer_has_no_next_step(mode: PagingMode) -> None:
    world = EscalationRun(plan(*STANDARD), mode=mode)
    assert forecast_next_action(world.run, world.alert, world.roster, world.now) is None


def test_a_whole_run_is_played_through_without_anybody_acting() -> None:
    world = EscalationRun(plan(*STANDARD, repeat={"times": 1, "every": "10m"}))
    rounds = forecast_run(
        world.run, world.alert, lambda _run, at: roster(primary=(ALICE,) if at < T0 + minutes(15) else (DAVE,))
    ).decisions
    assert [((at - T0) / minutes(1), [start.target.name for start in decision.pages]) for at, decision in rounds] == [
        (0, ["Alice"]),
        (5, ["Bob"]),
        (15, ["Dave", "Bob"]),
        (25, ["Dave"]),
        (30, ["Bob"]),
        (40, ["Dave", "Bob"]),
        (45, []),
    ]
    assert rounds[-1][1].run.status is RunStatus.EXHAUSTED


def test_forecast_of_too_many_decisions_is_truncated() -> None:
    world = EscalationRun(plan(*STANDARD))
    forecast = forecast_run(world.run, world.alert, lambda _run, _at: world.roster, max_decisions=1)
    assert (len(forecast.decisions), forecast.truncation_reason.code) == (
        1,
        "Only the first action of the policy is shown.",
    )


def test_forecast_of_a_waiting_step_is_cut_off() -> None:
    world = EscalationRun(plan(("primary", 0, {"if_empty": "wait"})), roster(primary=()))
    forecast = forecast_run(world.run, world.alert, lambda _run, _at: world.roster, max_decisions=5)
    assert forecast.truncation_reason.code == "No one is on call for hours: the step keeps waiting."


def test_dry_run_alert_forecasts_would_be_targets() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.DRY_RUN)
    coming = forecast_next_action(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert str(coming.summary) == "would page Alice (primary, Desk)"
