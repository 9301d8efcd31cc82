"""Assigning an alert to somebody else pages them, and escalation restarts if they do not accept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.escalation_run import ALICE, BOB, CAROL, DAVE, NAMES, T0, EscalationRun, actor, minutes, plan, roster
from tocsin.alerts.commands import Acknowledge, Assign, Close, Command, Hold, PagingMode, Reply, Resume, Unassign, Undo
from tocsin.alerts.states import AlertStatus, CommandChannel, EventKind
from tocsin.escalation.run.run_state import ActivePause, RunStatus
from tocsin.escalation.run.target_resolution import TargetContext

STANDARD = (("primary", 0), ("secondary", 5))


def assign(to: int, by: int = CAROL, via: CommandChannel = CommandChannel.WEB) -> Assign:
    return Assign(actor=actor(by), user_id=to, name=NAMES[to], via=via)


def assigned(to: int = DAVE, at: float = 1, **options: object) -> EscalationRun:
    world = EscalationRun(plan(*STANDARD), **options).to(at)  # type: ignore[arg-type]
    world.act(assign(to))
    return world.to(at)


def test_assignee_is_paged_at_once() -> None:
    world = assigned()
    assert world.paged == [(0, ALICE), (1, DAVE)]
    assert world.sentences(EventKind.ASSIGNEE_PAGED) == [
        "Paged Dave. Escalation restarts if they do not accept within 30 minutes."
    ]
    assert world.run.status is RunStatus.STOPPED
    assert world.run.due_at == T0 + minutes(31)


def test_unaccepted_assignment_ends_and_escalation_restarts() -> None:
    world = assigned().to(30.9)
    assert world.alert.status is AlertStatus.ASSIGNED
    world.to(31)
    assert world.alert.status is AlertStatus.OPEN
    assert world.sentences(EventKind.UNASSIGNED) == ["Tocsin unassigned Dave: Dave did not accept within 30 minutes"]
    assert world.to(36).paged == [(0, ALICE), (1, DAVE), (31, ALICE), (36, BOB)]


@pytest.mark.parametrize(
    "command",
    [
        Acknowledge(actor=actor(DAVE)),
        Assign(actor=actor(DAVE), user_id=DAVE, name="Dave"),
        Reply(actor=actor(DAVE), text="on my way"),
    ],
    ids=["acknowledge", "assign-to-me", "note"],
)
def test_any_command_of_the_assignee_accepts(command: Command) -> None:
    world = assigned().to(5)
    world.act(command)
    assert not world.alert.awaits_acceptance
    assert world.cancels[-1].user_ids == {DAVE}
    assert world.to(600).paged == [(0, ALICE), (1, DAVE)]
    assert world.alert.status is AlertStatus.ASSIGNED


def test_accepting_twice_is_one_event() -> None:
    world = assigned().to(2)
    take = Assign(actor=actor(DAVE), user_id=DAVE, name="Dave")
    assert str(world.act(take).answer) == "You accepted alert 42."
    assert not world.act(take).is_change
    assert world.sentences(EventKind.ACCEPTED) == ["Dave accepted the assignment"]


def test_assigning_to_oneself_pages_and_asks_nobody() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(assign(DAVE, by=DAVE))
    assert world.run.due_at is None
    assert world.to(600).paged == [(0, ALICE)]


def test_assignment_by_a_source_pages_nobody() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(assign(DAVE, via=CommandChannel.INBOUND))
    assert world.to(600).paged == [(0, ALICE)]


def test_policy_can_leave_the_assignee_unpaged() -> None:
    policy = replace(plan(*STANDARD), pages_assignee=False)
    world = EscalationRun(policy).to(1)
    world.act(assign(DAVE))
    assert world.to(600).paged == [(0, ALICE)]


def test_reassignment_asks_the_new_assignee_only() -> None:
    world = assigned().to(20)
    world.act(assign(BOB))
    assert world.to(49).paged == [(0, ALICE), (1, DAVE), (20, BOB)]
    assert world.to(50).alert.status is AlertStatus.OPEN


@pytest.mark.parametrize(
    "command", [Unassign(actor=actor(CAROL)), Undo(actor=actor(CAROL)), Close(actor=actor(CAROL))], ids=type
)
def test_ended_assignment_cancels_the_assignees_pages(command: Command) -> None:
    world = assigned()
    world.act(command)
    assert world.cancels[-1].user_ids in ({DAVE}, None)
    assert not world.alert.awaits_acceptance
    assert world.run.progress.accept_by is None or world.run.status is RunStatus.TERMINATED


def test_snooze_pages_at_once_and_extends_the_timeout() -> None:
    world = EscalationRun(plan(*STANDARD)).to(1)
    world.act(Hold(actor=actor(CAROL), until=T0 + minutes(61)))
    world.act(assign(DAVE))
    assert world.to(1).paged == [(0, ALICE), (1, DAVE)]
    world.to(60)
    world.act(Resume(actor=actor(CAROL)))
    assert world.to(89).alert.status is AlertStatus.ASSIGNED
    assert world.to(90).alert.status is AlertStatus.OPEN


def test_pause_of_all_paging_delays_the_end() -> None:
    world = assigned()
    world.pause = ActivePause(T0 + minutes(60), "maintenance")
    assert world.at(31).alert.status is AlertStatus.ASSIGNED
    assert world.run.due_at == T0 + minutes(60)
    world.pause = None
    assert world.to(60).alert.status is AlertStatus.OPEN


def test_dry_run_names_the_assignee_and_pages_nobody() -> None:
    world = assigned(mode=PagingMode.DRY_RUN)
    assert world.would[-1] == (1, DAVE)
    assert world.paged == []
    assert world.to(600).alert.status is AlertStatus.ASSIGNED


def test_log_only_alert_pages_its_assignee_without_timeout() -> None:
    world = assigned(mode=PagingMode.LOG_ONLY)
    assert world.paged == [(1, DAVE)]
    assert world.to(600).alert.status is AlertStatus.ASSIGNED


def test_deactivated_assignee_is_reported_and_the_timeout_runs() -> None:
    people: TargetContext = roster()
    people = replace(people, active_users={user: one for user, one in people.active_users.items() if user != DAVE})
    world = assigned(people=people)
    assert world.sentences(EventKind.PAGE_FAILED) == ["Dave cannot be paged: the account is deactivated."]
    assert world.to(31).alert.status is AlertStatus.OPEN
