"""The effect of commands on a running escalation."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.escalation_run import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DESK,
    NAMES,
    T0,
    EscalationRun,
    actor,
    minutes,
    plan,
    roster,
)
from tocsin.alerts.commands import (
    Acknowledge,
    Acknowledged,
    Actor,
    Assign,
    Cancel,
    Close,
    Command,
    Escalate,
    Hold,
    Merge,
    PagingMode,
    Reopen,
    Reply,
    Resume,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.lifecycle import TicketAgent, apply, apply_agent_change
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind, Priority
from tocsin.core.reasons import Person, Term, as_reason
from tocsin.escalation import reasons
from tocsin.escalation.explain import forecast_next_action
from tocsin.escalation.run.run_state import (
    ActivePause,
    NoticeReason,
    RunDecision,
    RunStatus,
    apply_transition,
    begin_run,
    raise_priority,
    reroute,
)

STANDARD = (("primary", 0), ("secondary", 5), ("primary secondary", 10))
STOP = {"acknowledge": {"effect": "stop"}}
PAUSE = {"acknowledge": {"effect": "pause", "pause": "10m"}}
CONTINUE = {"acknowledge": {"effect": "continue"}}


def ack(user: int) -> Acknowledge:
    return Acknowledge(actor=actor(user))


def take(user: int) -> Assign:
    return Assign(actor=actor(user), user_id=user, name=NAMES[user])


# Acknowledging


def test_stop_mode_acknowledgement_cancels_all_unsent_pages() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(1)
    world.act(ack(ALICE))
    assert world.run.status is RunStatus.STOPPED
    assert [cancel.user_ids for cancel in world.cancels] == [None]
    assert str(world.cancels[0].reason) == "Alice acknowledged the alert"
    assert world.sentences(EventKind.ESCALATION_STOPPED) == [
        "Escalation stops. The acknowledgement reminder is sent in 30 minutes unless the alert is assigned or closed."
    ]
    assert world.to(30.9).paged == [(0, ALICE)]


def test_pause_mode_acknowledgement_pauses_then_spares_the_acknowledger() -> None:
    world = EscalationRun(plan(*STANDARD, **PAUSE)).to(1)
    world.act(ack(ALICE))
    assert world.run.status is RunStatus.PAUSED
    assert [cancel.user_ids for cancel in world.cancels] == [None]
    world.to(21)
    assert world.paged == [(0, ALICE), (11, BOB), (21, BOB)]
    assert "Alice has acknowledged the alert" in world.sentences(EventKind.STEP_FIRED)[2]


def test_continue_mode_acknowledgement_cancels_only_that_users_pages() -> None:
    world = EscalationRun(plan(*STANDARD, **CONTINUE)).to(1)
    world.act(ack(ALICE))
    assert [cancel.user_ids for cancel in world.cancels] == [frozenset({ALICE})]
    assert world.run.status is RunStatus.ACTIVE
    assert world.to(15).paged == [(0, ALICE), (5, BOB), (15, BOB)]


def test_next_step_fires_immediately_after_all_users_of_step_responded() -> None:
    world = EscalationRun(plan(("primary", 0), ("primary", 5), ("secondary", 20), **CONTINUE)).to(1)
    world.act(ack(ALICE))
    assert world.to(5).paged == [(0, ALICE), (5, BOB)]


def test_unanswered_acknowledgement_reminder_restarts_escalation() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(1)
    world.act(ack(ALICE))
    world.to(31)
    assert world.asked == [(31, ALICE)]
    assert world.alert.reminded_user_ids == {ALICE}
    world.to(35.9)
    assert world.paged == [(0, ALICE)]
    world.to(36)
    assert world.alert.acknowledged == {}
    assert world.paged == [(0, ALICE), (36, ALICE)]
    assert world.to(41).paged[-1] == (41, BOB)
    assert "reminder was not answered" in world.sentences(EventKind.ACKNOWLEDGEMENT_EXPIRED)[0]


def test_the_timeout_is_the_policys() -> None:
    world = EscalationRun(plan(*STANDARD, acknowledge={"effect": "stop", "timeout": "90s"})).to(0)
    world.act(ack(ALICE))
    assert world.to(2).asked == [(1.5, ALICE)]


@pytest.mark.parametrize(
    "answer", [ack(ALICE), Reply(actor=actor(ALICE), text="still at it"), Escalate(actor=actor(ALICE))]
)
def test_any_command_of_the_reminded_user_restarts_the_timeout(answer: Command) -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    world.to(33)
    world.act(answer)
    world.to(62)
    assert ALICE in world.alert.acknowledged
    assert world.asked == [(30, ALICE)]
    assert world.to(63).asked == [(30, ALICE), (63, ALICE)]


def test_another_users_reply_does_not_answer_the_reminder() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    world.to(33)
    world.act(Reply(actor=actor(BOB), text="hello?"))
    assert world.to(35).users() == [ALICE, ALICE]


def test_while_another_acknowledgement_stands_one_that_expires_starts_nothing() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    world.to(20)
    world.act(ack(BOB))
    world.to(54.9)
    assert set(world.alert.acknowledged) == {BOB}
    assert world.users() == [ALICE]
    assert world.to(55).users() == [ALICE, ALICE]


@pytest.mark.parametrize("done", [take(BOB), Close(actor=actor(BOB)), Cancel(actor=actor(BOB))])
def test_assigned_or_closed_alert_sends_no_reminder(done: Command) -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    world.to(10)
    world.act(done)
    assert world.run.due_at is None
    assert world.to(120).asked == []


def test_an_acknowledgement_after_the_end_still_has_its_timeout() -> None:
    world = EscalationRun(plan(("primary", 0))).to(6)
    assert world.run.status is RunStatus.EXHAUSTED
    world.act(ack(ALICE))
    world.to(41)
    assert world.asked == [(36, ALICE)]
    assert world.users() == [ALICE, ALICE]


def test_taking_an_acknowledgement_back_lets_the_step_then_due_fire() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(1)
    world.act(ack(ALICE))
    world.to(2)
    world.act(Unacknowledge(actor=actor(ALICE)))
    assert world.run.due_at == T0 + minutes(5), "not due yet: it comes when it would have come"
    world.act(ack(ALICE))
    world.to(9)
    world.act(Unacknowledge(actor=actor(ALICE)))
    assert world.to(9).paged == [(0, ALICE), (9, BOB)]
    assert world.sentences(EventKind.ESCALATION_CONTINUED) == ["Escalation continues with the due step."] * 2


def test_unacknowledging_after_exhaustion_starts_again() -> None:
    world = EscalationRun(plan(("primary", 0))).to(6)
    world.act(ack(ALICE))
    world.act(Unacknowledge(actor=actor(ALICE)))
    assert world.to(6).users() == [ALICE, ALICE]


def test_undoing_an_acknowledgement_is_followed_like_taking_it_back() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(4.5)
    world.act(ack(ALICE))
    world.to(5.2)
    world.act(Undo(actor=actor(ALICE)))
    assert world.to(5.2).paged == [(0, ALICE), (5.2, BOB)]


# Who has it


def test_assigning_stops_escalation_and_cancels_every_unsent_page() -> None:
    for effect in (STOP, PAUSE, CONTINUE):
        world = EscalationRun(plan(*STANDARD, **effect)).to(1)
        world.act(Assign(actor=actor(ALICE), name="Vendor hotline"))
        assert (world.run.status, world.run.due_at) == (RunStatus.STOPPED, None)
        assert world.run.reason == reasons.ALERT_ASSIGNED(user=Person("Vendor hotline"))
        assert [cancel.user_ids for cancel in world.cancels] == [None]
        assert world.to(600).users() == [ALICE]


def test_giving_it_back_starts_again_at_step_one_with_everybody() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(1)
    world.act(ack(BOB))
    world.act(take(ALICE))
    world.to(50)
    world.act(Unassign(actor=actor(ALICE)))
    assert world.to(55).paged == [(0, ALICE), (50, ALICE), (55, BOB)]
    assert "restarts at step 1" in world.sentences(EventKind.ESCALATION_STARTED)[0]


def test_unassignment_by_source_restarts_escalation() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    halo, alice = Actor(ActorKind.INTEGRATION, "HaloITSM"), TicketAgent("alice@example.org", ALICE, "Alice")
    for before, after, minute in ((TicketAgent(), alice, 1), (alice, TicketAgent(), 9)):
        world.to(minute)
        was = world.alert
        done = apply_agent_change(was, before, after, halo, world.now)
        world._changed(done)
        world._keep(apply_transition(world._reread(), was, done.state, done.events, world.now))
    assert world.to(14).paged == [(0, ALICE), (9, ALICE), (14, BOB)]


def test_undone_assignment_resumes_without_restart() -> None:
    world = EscalationRun(plan(*STANDARD)).to(4)
    world.act(take(ALICE))
    world.to(4.5)
    world.act(Undo(actor=actor(ALICE)))
    assert world.to(15).paged == [(0, ALICE), (5, BOB), (15, ALICE), (15, BOB)]


def test_undone_assignment_restores_pages_of_manually_escalated_users() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    for command in (take(ALICE), Escalate(actor=actor(CAROL)), take(DAVE)):
        world.act(command)
    cancelled = len(world.cancels)
    world.act(Undo(actor=actor(DAVE)))
    assert world.alert.owner_id == ALICE
    assert world.cancels[cancelled:] == []


def test_undone_unassignment_stops_again_and_cancels_its_pages() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(take(ALICE))
    world.to(9)
    world.act(Unassign(actor=actor(ALICE)))
    world.to(9.5)
    world.act(Undo(actor=actor(ALICE)))
    assert world.run.status is RunStatus.STOPPED
    assert world.cancels[-1].user_ids is None
    assert world.to(60).users() == [ALICE, ALICE]


def test_handing_it_over_cancels_pages_and_stays_stopped() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(take(ALICE))
    world.to(9)
    world.act(take(BOB))
    assert world.run.reason == reasons.ALERT_ASSIGNED(user=Person("Bob", BOB))
    assert len(world.cancels) == 2


# The end of the alert


@pytest.mark.parametrize(
    "command",
    [
        Close(actor=actor(BOB)),
        Cancel(actor=actor(BOB)),
        Merge(actor=actor(BOB), into=replace(EscalationRun(plan(*STANDARD)).alert, id=7)),
    ],
)
def test_closing_cancelling_and_merging_stop_escalation_and_unsent_pages(command: Command) -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(command)
    assert (world.run.status, world.run.due_at) == (RunStatus.TERMINATED, None)
    assert [cancel.user_ids for cancel in world.cancels] == [None]
    assert world.to(600).users() == [ALICE]
    world.run_once()
    assert world.users() == [ALICE]


def test_undoing_a_closing_goes_on_where_it_was() -> None:
    world = EscalationRun(plan(*STANDARD)).to(4.9)
    world.act(Close(actor=actor(BOB)))
    world.to(5.5)
    world.act(Undo(actor=actor(BOB)))
    assert world.to(15.5).paged == [(0, ALICE), (5.5, BOB), (15.5, ALICE), (15.5, BOB)]


def test_reopening_restarts_without_counted_responders() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(ack(ALICE))
    world.act(Close(actor=actor(ALICE)))
    world.to(90)
    world.act(Reopen(actor=actor(BOB)))
    assert world.to(95).paged == [(0, ALICE), (90, ALICE), (95, BOB)]


def test_a_closed_merged_alert_changes_nothing_more() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Merge(actor=actor(BOB), into=replace(world.alert, id=7)))
    cancels = len(world.cancels)
    world.act(Close(actor=actor(BOB)))
    assert world.run.status is RunStatus.TERMINATED
    assert len(world.cancels) == cancels


# Hold


def test_hold_stops_timers_and_fires_due_step_at_its_end() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(31)))
    assert (world.run.status, world.run.due_at) == (RunStatus.PAUSED, T0 + minutes(31))
    world.to(30.9)
    assert world.paged == [(0, ALICE)]
    world.to(41)
    assert world.alert.status is AlertStatus.OPEN
    assert world.paged == [(0, ALICE), (31, BOB), (41, ALICE), (41, BOB)]
    assert world.sentences(EventKind.RESUMED) == ["The snooze ended"]


def test_resume_fires_due_step_and_otherwise_waits() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(300)))
    world.to(2)
    world.act(Resume(actor=actor(ALICE)))
    assert world.to(5).paged == [(0, ALICE), (5, BOB)]
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(300)))
    world.to(40)
    world.act(Resume(actor=actor(BOB)))
    assert world.to(40).paged[2:] == [(40, ALICE), (40, BOB)]


def test_hold_of_assigned_alert_ends_assigned_without_pages() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(take(ALICE))
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(31)))
    world.to(60)
    assert world.alert.status is AlertStatus.ASSIGNED
    assert world.users() == [ALICE]


def test_a_hold_stops_the_acknowledge_timeout_too() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    world.to(31)
    world.act(Hold(actor=actor(BOB), until=T0 + minutes(90)))
    world.to(89)
    assert ALICE in world.alert.acknowledged
    world.to(90)
    assert world.asked == [(30, ALICE), (90, ALICE)], "asked again: nobody could await the answer meanwhile"
    assert world.to(95).users() == [ALICE, ALICE]


def test_hold_after_exhaustion_restarts_at_its_end() -> None:
    world = EscalationRun(plan(("primary", 0))).to(6)
    world.act(Hold(actor=actor(CAROL), until=T0 + minutes(60)))
    assert world.to(60).paged == [(0, ALICE), (60, ALICE)]


def test_a_recorded_alert_comes_back_from_hold_too() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.LOG_ONLY)
    world.act(Hold(actor=actor(CAROL), until=T0 + minutes(60)))
    world.to(61)
    assert world.alert.status is AlertStatus.OPEN
    assert world.run.due_at is None
    assert world.paged == []


def test_pages_delayed_by_hold_do_not_restart_their_user() -> None:
    people = roster(primary=(ALICE, DAVE), offsets={ALICE: (0, 3)})
    world = EscalationRun(plan(("primary", 0), ("primary", 2)), people).to(1)
    world.act(Hold(actor=actor(BOB), until=T0 + minutes(40)))
    assert world.to(40).paged == [(0, ALICE), (40, DAVE)]


# Escalate


def test_manual_escalation_fires_next_step_and_restarts_its_delay() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Escalate(actor=actor(CAROL)))
    assert world.run.due_at == world.now
    world.to(11)
    assert world.paged == [(0, ALICE), (1, BOB), (11, ALICE), (11, BOB)]
    assert world.sentences(EventKind.STEP_FIRED)[1].startswith("Step 2 of 3 (requested) pages Bob")


def test_escalating_past_the_end_starts_at_step_one_again() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 5))).to(6)
    world.act(Escalate(actor=actor(CAROL)))
    assert world.to(6).paged == [(0, ALICE), (5, BOB), (6, ALICE)]
    world.to(30)
    assert world.run.status is RunStatus.EXHAUSTED
    world.act(Escalate(actor=actor(CAROL)))
    assert world.to(35).paged[-2:] == [(30, ALICE), (35, BOB)]


def test_escalating_between_passes_begins_the_next_pass() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 5), repeat={"times": 1, "every": "20m"})).to(6)
    world.act(Escalate(actor=actor(CAROL)))
    world.to(40)
    assert world.paged == [(0, ALICE), (5, BOB), (6, ALICE), (11, BOB)]


def test_escalating_assigned_alert_pages_next_user_and_keeps_owner() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(take(ALICE))
    world.to(10)
    world.act(Escalate(actor=actor(ALICE)))
    world.to(60)
    assert world.paged == [(0, ALICE), (10, BOB)]
    assert world.alert.owner_id == ALICE
    assert world.run.status is RunStatus.STOPPED


def test_escalating_acknowledged_alert_pages_next_user_and_keeps_acknowledgement() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(1)
    world.act(ack(ALICE))
    world.act(Escalate(actor=actor(ALICE)))
    world.to(20)
    assert world.paged == [(0, ALICE), (1, BOB)]
    assert ALICE in world.alert.acknowledged


def test_manual_escalation_skips_steps_without_targets() -> None:
    world = EscalationRun(plan(("primary", 0), ("primary", 5), ("secondary", 5))).to(1)
    world.act(take(ALICE))
    world.act(Escalate(actor=actor(ALICE)))
    assert world.to(1).paged == [(0, ALICE), (1, BOB)]


def test_requester_is_not_paged_by_manual_escalation() -> None:
    world = EscalationRun(plan(*STANDARD)).to(6)
    world.act(Escalate(actor=actor(BOB)))
    assert world.to(6).paged == [(0, ALICE), (5, BOB), (6, ALICE)]


def test_escalation_without_further_users_is_noted_on_timeline() -> None:
    world = EscalationRun(plan(("primary", 0))).to(1)
    world.act(take(ALICE))
    world.act(Escalate(actor=actor(ALICE)))
    world.to(1)
    assert world.users() == [ALICE]
    assert "No one left to page" in world.sentences(EventKind.STEP_EMPTY)[-1]
    assert world.run.due_at is None


def test_escalating_on_hold_pages_next_user_and_keeps_hold() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(60)))
    world.act(Escalate(actor=actor(ALICE)))
    world.to(30)
    assert world.paged == [(0, ALICE), (1, BOB)]
    assert world.alert.status is AlertStatus.ON_HOLD
    assert world.to(60).paged[2:] == [(60, ALICE), (60, BOB)]


def test_escalating_a_recorded_alert_pages_from_step_one() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.LOG_ONLY)
    world.act(Escalate(actor=actor(CAROL)))
    assert world.to(5).paged == [(0, ALICE), (5, BOB)]


def test_manual_escalation_of_dry_run_alert_pages_no_user() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.DRY_RUN).to(0)
    world.act(Escalate(actor=actor(CAROL)))
    world.to(0)
    assert world.paged == []
    assert world.would == [(0, ALICE), (0, BOB)]


# The priority


def rise(
    world: EscalationRun, priority: Priority, fresh_plan: object = None, mode: PagingMode = PagingMode.PAGE
) -> RunDecision:
    world.alert = replace(world.alert, priority=priority)
    fresh = None
    if fresh_plan is not None:
        fresh = begin_run(
            42,
            fresh_plan,  # type: ignore[arg-type]
            mode,
            priority,
            world.now,
            recipient_groups=(DESK,),
            policy_reason=as_reason("Route 2."),
        )
    decision = raise_priority(world._reread(), world.alert, fresh, world.now)
    world._keep(decision)
    return decision


def test_raised_priority_restarts_escalation_once_by_current_routes() -> None:
    world = EscalationRun(plan(*STANDARD)).to(2)
    decision = rise(world, Priority.CRITICAL, plan(("primary secondary", 0), ("primary secondary", 5)))
    assert decision.run.status is RunStatus.TERMINATED
    assert [cancel.user_ids for cancel in decision.cancellations] == [None]
    assert world.to(3).paged == [(0, ALICE), (2, ALICE), (2, BOB)]
    assert rise(world, Priority.CRITICAL).successor is None, "once"
    assert rise(world, Priority.LOW).successor is None
    assert rise(world, Priority.CRITICAL).successor is None, "it was started for this priority already"
    assert world.to(7).users()[3:] == [ALICE, BOB]


def test_without_a_new_route_policy_and_recipients_stay() -> None:
    world = EscalationRun(plan(*STANDARD)).to(6)
    rise(world, Priority.CRITICAL)
    assert world.run.priority is Priority.CRITICAL
    assert world.to(11).paged[2:] == [(6, ALICE), (11, BOB)]


def test_owner_is_notified_of_raised_priority_without_pages() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(take(ALICE))
    rise(world, Priority.CRITICAL, plan(("secondary", 0)))
    assert world.to(60).users() == [ALICE]
    ((_minute, send_notice),) = world.told
    assert (send_notice.user_ids, send_notice.notice_reason) == ((ALICE,), NoticeReason.PRIORITY_ROSE)
    assert send_notice.why == reasons.PRIORITY_ROSE(before=Term("high"), after=Term("critical"))
    world.act(Unassign(actor=actor(ALICE)))
    assert world.to(60).users() == [ALICE, BOB], "given back, the new route's policy is at work"


def test_acknowledger_is_notified_of_raised_priority_and_keeps_timeout() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    world.to(31)
    rise(world, Priority.CRITICAL)
    assert [send_notice.user_ids for _minute, send_notice in world.told] == [(ALICE,)]
    assert world.to(34.9).users() == [ALICE]
    assert world.to(35).users() == [ALICE, ALICE]


def test_external_owner_cannot_be_notified_as_timeline_shows() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Assign(actor=actor(ALICE), name="Vendor hotline"))
    rise(world, Priority.CRITICAL)
    assert world.told == []
    assert "Vendor hotline, who cannot be notified" in world.sentences(EventKind.NOTICE_SENT)[0]


def test_log_only_alert_with_raised_priority_pages_by_current_routes() -> None:
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.LOG_ONLY)
    assert rise(world, Priority.CRITICAL).successor is None
    world = EscalationRun(plan(*STANDARD), mode=PagingMode.LOG_ONLY)
    rise(world, Priority.CRITICAL, plan(("primary", 0)))
    assert world.to(1).users() == [ALICE]


@pytest.mark.parametrize("mode", [PagingMode.LOG_ONLY, PagingMode.DRY_RUN])
def test_raised_priority_or_team_without_route_keeps_paged_users(
    mode: PagingMode,
) -> None:
    world = EscalationRun(plan(*STANDARD)).to(6)
    rise(world, Priority.CRITICAL, plan(("secondary", 0)), mode)
    assert world.run.mode is PagingMode.PAGE
    assert world.to(6).users() == [ALICE, BOB, ALICE], "it starts again by the policy that it had"
    assert move(world, plan(("secondary", 0)), mode=mode).successor is None


# Another team


def move(
    world: EscalationRun, fresh_plan: object, *, mode: PagingMode = PagingMode.PAGE, groups: tuple[int, ...] = (DESK,)
) -> RunDecision:
    fresh = begin_run(
        42,
        fresh_plan,  # type: ignore[arg-type]
        mode,
        world.alert.priority,
        world.now,
        recipient_groups=groups,
        policy_reason=as_reason("Route 2."),
    )
    decision = reroute(world._reread(), world.alert, fresh, as_reason("Moved from 1st Line to Network"), world.now)
    world._keep(decision)
    return decision


def test_ticket_moved_to_another_team_restarts_with_current_targets() -> None:
    world = EscalationRun(plan(*STANDARD)).to(2)
    decision = move(world, plan(("secondary", 0)))
    assert decision.run.status is RunStatus.TERMINATED
    assert [cancel.user_ids for cancel in decision.cancellations] == [None]
    assert world.sentences(EventKind.ESCALATION_STARTED)[-1] == (
        "Moved from 1st Line to Network, and the routes select other recipients. Escalation restarts at step 1."
    )
    assert world.to(3).paged == [(0, ALICE), (2, BOB)]


def test_move_with_same_or_no_targets_keeps_escalation() -> None:
    world = EscalationRun(plan(*STANDARD)).to(2)
    same = world.run
    assert move(world, plan(*STANDARD), groups=same.recipient_groups).successor is None
    assert move(world, plan(("secondary", 0)), mode=PagingMode.LOG_ONLY).successor is None, (
        "who is paged is not dropped"
    )
    assert world.to(6).users() == [ALICE, BOB]


def test_owner_of_moved_ticket_is_notified_without_pages() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(take(ALICE))
    move(world, plan(("secondary", 0)))
    assert world.to(60).users() == [ALICE]
    ((_minute, send_notice),) = world.told
    assert (send_notice.user_ids, send_notice.notice_reason) == ((ALICE,), NoticeReason.MOVED)
    world.act(Unassign(actor=actor(ALICE)))
    assert world.to(60).users() == [ALICE, BOB]


# What comes next


def test_forecast_is_given_when_acknowledged_on_hold_or_assigned() -> None:
    world = EscalationRun(plan(*STANDARD, **STOP)).to(0)
    world.act(ack(ALICE))
    coming = forecast_next_action(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert (coming.at, str(coming.summary)) == (T0 + minutes(30), "sends an acknowledgement reminder to Alice")
    world.act(Unacknowledge(actor=actor(ALICE)))
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(40)))
    coming = forecast_next_action(world.run, world.alert, world.roster, world.now)
    assert coming is not None
    assert (coming.at, str(coming.summary)) == (T0 + minutes(40), "pages Bob (secondary, Desk)")
    world.act(take(ALICE))
    world.act(Resume(actor=actor(ALICE)))
    assert forecast_next_action(world.run, world.alert, world.roster, world.now) is None
    assert world.run.reason == reasons.ALERT_ASSIGNED(user=Person("Alice", ALICE))


def test_pause_does_not_delay_manual_escalation() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.pause = ActivePause(T0 + minutes(40), "maintenance")
    world.act(Escalate(actor=actor(CAROL)))
    world.run_once()
    assert world.users() == [ALICE, BOB], "the outbox still holds the pages until the pause ends"


def test_message_without_state_change_keeps_the_run() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    done = apply(world.alert, Reply(actor=actor(BOB), text="seen"), world.now)
    decision = apply_transition(world.run, world.alert, done.state, done.events, world.now)
    assert decision == RunDecision(world.run)
    assert Acknowledged(world.now, "Bob") not in world.alert.acknowledged.values()
