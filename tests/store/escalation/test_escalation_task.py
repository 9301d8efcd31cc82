"""Escalation on real rows: the task claims, decides and writes; commands are followed in their own transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from psycopg import OperationalError

from tests.support.escalation_harness import STEPS, EscalationHarness, escalation_enabled
from tests.support.people import ACTOR
from tocsin.alerts import store
from tocsin.alerts.commands import (
    Acknowledge,
    AlertChange,
    AlertCreation,
    AlertState,
    Assign,
    Cancel,
    Close,
    Escalate,
    Hold,
    NewAlert,
    NewEvent,
    PagingMode,
    Reopen,
    Resume,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.service import create_alerts, write
from tocsin.alerts.states import ALERT_REFERENCE, EventKind, Priority
from tocsin.core import ids
from tocsin.core.db import database as tocsin_database
from tocsin.core.db.database import BatchRunner
from tocsin.core.reasons import AlertRef, reason_from_json
from tocsin.escalation import commands, explain, reasons
from tocsin.escalation import tasks as escalation_loop
from tocsin.escalation.commands import delete_policy, save_policy
from tocsin.escalation.explain import next_steps
from tocsin.escalation.models import EscalationRun, Policy, PolicyVersion
from tocsin.escalation.run import run_store
from tocsin.inbound.models import Integration
from tocsin.notify import pause as pauses
from tocsin.notify.models import Delivery, Notification
from tocsin.notify.rules.page_planner import ON_HOLD
from tocsin.operate.checks import people
from tocsin.people.changes import groups, users
from tocsin.people.models import User


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[EscalationHarness]:
    with escalation_enabled():
        yield EscalationHarness(now)


def as_priority(desk: EscalationHarness, alert: int, priority: Priority, minute: float, **paging: object) -> None:
    """What ingest does when a message raises the priority."""
    with tocsin_database.transaction() as connection:
        store.lock(connection, [alert])
        before = store.load(connection, [alert])[alert]
        change = AlertChange(before, replace(before, priority=priority), (), paging=desk.paging(**paging))
        write(connection, [change], desk.at(minute))


# Steps


def test_new_alert_starts_run_and_pages_every_contact_method(desk: EscalationHarness) -> None:
    alert = desk.open()
    assert desk.run(alert).due_at == desk.at(0)
    desk.run_until(0)
    assert desk.pages(alert) == [("alice", "email", 0, "queued"), ("alice", "sms", 3, "queued")]
    run = desk.run(alert)
    assert (run.status, run.due_at, run.reason) == ("active", desk.at(5), reasons.NEXT_STEP(step=2, steps=3))
    assert desk.timeline(alert) == [
        "Erin opened it by hand.",
        "Step 1 of 3 pages Alice (primary, Service Desk).",
    ]
    notification = Notification.objects.filter(alert=alert).earliest("id")
    assert notification.run_id == run.pk
    assert str(notification.reason).startswith("Step 1 of 3: Alice is paged as primary, Service Desk.")


def test_steps_follow_in_order_and_exhaustion_mails_managers(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.through(0, 5, 15, 20)
    assert [(who, at) for who, channel, at, _ in desk.pages(alert) if channel == "email"] == [
        ("alice", 0),
        ("bob", 5),
        ("alice", 15),
        ("bob", 15),
    ]
    run = desk.run(alert)
    assert (run.status, run.due_at) == ("finished", None)
    assert desk.pages(alert, "notice") == [("carol", "email", 20, "queued")]
    notification = Notification.objects.get(alert=alert, purpose="notice")
    assert str(notification.title) == f"No response: Acme: VPN down (#{alert})"


def test_before_its_time_nothing_is_claimed(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.through(0, 1, 4.9)
    assert len(desk.pages(alert)) == 2


def test_runs_are_decided_in_batches(desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escalation_loop, "MAX_PAGES", 4)
    alerts = [desk.open() for _ in range(10)]
    assert desk.keeper.run_once(desk.at(0))
    assert sum(bool(desk.pages(alert)) for alert in alerts) == 2, "Alice has two contact methods"
    desk.run_until(0)
    assert all(len(desk.pages(alert)) == 2 for alert in alerts)


def test_flood_lengthens_later_runs(desk: EscalationHarness) -> None:
    desk.keeper.batches = BatchRunner("A batch of runs", 4, 10)
    alerts = [desk.open() for _ in range(20)]
    decided = []
    for _attempt in range(4):
        desk.keeper.run_once(desk.at(0))
        decided.append(sum(bool(desk.pages(alert)) for alert in alerts))
    assert decided == [4, 12, 20, 20]
    assert desk.keeper.batches.size == 4


def make_integrations(desk: EscalationHarness, *names: str) -> list[int]:
    return [
        Integration.objects.create(name=name, kind="api", created_at=desk.start, token_hash=ids.token_hash(name)).pk
        for name in names
    ]


def test_storm_of_one_integration_never_delays_anothers_first_page(desk: EscalationHarness) -> None:
    desk.keeper.batches = BatchRunner("A batch of runs", 10, 10)
    storm, other = make_integrations(desk, "Storm", "Other")
    first = [desk.open(integration=storm) for _ in range(60)]
    late = desk.open(0.001, integration=other)
    by_hand = desk.open(0.001)
    assert desk.keeper.run_once(desk.at(0.01))
    assert desk.pages(late)
    assert desk.pages(by_hand)
    assert sum(bool(desk.pages(alert)) for alert in first) == 4
    desk.run_until(0.01)
    assert all(desk.pages(alert) for alert in first)


def test_integrations_take_turns_where_a_batch_ends_early(
    desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escalation_loop, "MAX_PAGES", 4)
    *storms, other = make_integrations(desk, "Storm 1", "Storm 2", "Storm 3", "Other")
    for storm in storms:
        for _ in range(5):
            desk.open(integration=storm)
    late = desk.open(0.001, integration=other)
    for _batch in range(2):
        desk.keeper.run_once(desk.at(0.01))
    assert desk.pages(late)


def test_session_that_large_batches_end_pages_everybody(desk: EscalationHarness) -> None:
    alerts = [desk.open() for _ in range(8)]
    with tocsin_database.transaction() as connection:
        connection.execute(
            "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF (SELECT count(*) FROM added) > 8 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; "
            "RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER busy AFTER INSERT ON notify_notification REFERENCING NEW TABLE AS added "
            "FOR EACH STATEMENT EXECUTE FUNCTION busy()"
        )
    with pytest.raises(OperationalError):
        desk.run_until(0)
    assert not any(desk.pages(alert) for alert in alerts)
    desk.run_until(0)
    assert all(len(desk.pages(alert)) == 2 for alert in alerts)


def test_without_a_policy_the_recipient_users_are_paged_at_once(desk: EscalationHarness) -> None:
    alert = desk.open(version_id=None, recipient_users=(desk.users["bob"].pk,))
    desk.run_until(0)
    assert desk.pages(alert) == [("bob", "email", 0, "queued")]


def test_dry_run_pages_no_user_and_lists_would_be_targets(desk: EscalationHarness) -> None:
    alert = desk.open(mode=PagingMode.DRY_RUN)
    desk.through(0, 5, 15, 20)
    assert not Notification.objects.exists()
    assert "Step 1 of 3 would page Alice (primary, Service Desk)." in desk.timeline(alert)


def test_a_recorded_alert_has_no_timer_and_says_why(desk: EscalationHarness) -> None:
    alert = desk.open(mode=PagingMode.LOG_ONLY, reason="Route 1 says record.")
    desk.run_until(600)
    run = desk.run(alert)
    assert (run.status, run.due_at) == ("stopped", None)
    assert str(run.reason) == "Log only: no one is paged. Route 1 says record."
    assert not Notification.objects.exists()


def test_a_group_contact_is_paged(desk: EscalationHarness) -> None:
    contacts = [{"label": "Team list", "channel": "email", "address": "desk@example.org"}]
    groups.save_group(
        {**groups.group_spec(desk.group), "contacts": contacts}, existing=desk.group, actor=ACTOR, now=desk.start
    )
    desk.save(steps=[{"notify": {"group_contacts": ["Team list"]}}])
    alert = desk.open()
    desk.run_until(0)
    assert desk.pages(alert) == [("Team list", "email", 0, "queued")]


def test_unreachable_user_is_skipped_with_a_reason(desk: EscalationHarness) -> None:
    desk.users["alice"].contact_methods.update(is_enabled=False)
    alert = desk.open()
    desk.run_until(0)
    assert [who for who, *_ in desk.pages(alert)] == ["bob"]
    assert "Alice has no enabled contact method" in desk.timeline(alert)[1]


# Versions


def test_next_step_pages_user_again_after_advanced_fallback(desk: EscalationHarness) -> None:
    desk.save(steps=[STEPS[0], {"notify": {"roles": ["primary"]}, "after": "2m"}])
    alert = desk.open()
    desk.run_until(0)
    # Her mail came back: the text message that was to wait for 3 minutes left at once, and nothing of hers is to come.
    Delivery.objects.filter(alert=alert).update(status="sent", due_at=desk.at(0), sent_at=desk.at(0))
    with tocsin_database.transaction() as connection:
        assert next_steps(connection, [alert], desk.at(1))[alert].summary.code == explain.WILL_PAGE.code
    desk.run_until(2)
    assert [who for who, _by, minute, _status in desk.pages(alert) if minute >= 2] == ["alice", "alice"]
    assert "still being paged" not in " ".join(desk.timeline(alert))


def test_a_run_goes_on_with_the_version_it_began_with(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.save(steps=[{"notify": {"users": ["carol"]}}])
    desk.run_until(5)
    assert [who for who, *_ in desk.pages(alert)] == ["alice", "alice", "bob"]
    later = desk.open(6)
    desk.run_until(6)
    assert [who for who, *_ in desk.pages(later)] == ["carol"]


def test_a_policy_that_is_deleted_leaves_its_runs_at_work(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    delete_policy(desk.policy, actor=ACTOR, now=desk.start)
    desk.run_until(5)
    assert [who for who, *_ in desk.pages(alert)] == ["alice", "alice", "bob"]


def test_alert_opened_during_policy_deletion_still_pages(desk: EscalationHarness) -> None:
    with tocsin_database.transaction() as connection:
        (alert,) = store.new_ids(connection, 1)
        new = NewAlert(alert, Priority.HIGH, "VPN down", desk.at(0))
        event = NewEvent(alert, EventKind.OPENED, desk.at(0), desk.actor("erin"), "A message opened it.")
        create_alerts(connection, [AlertCreation(new, desk.paging(), event)], desk.at(0))
        delete_policy(desk.policy, actor=ACTOR, now=desk.start)
    run_store._cache.clear()  # another node has never read it
    desk.run_until(0)
    assert [who for who, *_ in desk.pages(alert)] == ["alice", "alice"]


# What people do


def test_acknowledging_stops_escalation_and_cancels_what_is_not_sent(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Acknowledge(actor=desk.actor("bob")), 1)
    assert [state for *_, state in desk.pages(alert)] == ["cancelled", "cancelled"]
    assert str(Delivery.objects.filter(alert=alert).first().reason) == "Bob acknowledged the alert"  # type: ignore[union-attr]
    desk.run_until(20)
    assert len(desk.pages(alert)) == 2
    assert desk.run(alert).due_at == desk.at(31)


def test_acknowledgement_timeout_sends_reminder_then_restarts_escalation(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), 1)
    desk.run_until(31)
    assert [(who, channel) for who, channel, *_ in desk.pages(alert, "still_on_it")] == [("alice", "email")]
    desk.run_until(36)
    assert not desk.alert(alert).acknowledgements.exists()
    assert [(who, at) for who, channel, at, _ in desk.pages(alert) if channel == "email"] == [
        ("alice", 0),
        ("alice", 36),
    ]
    assert any("reminder was not answered" in line for line in desk.timeline(alert))


def test_disabled_user_gets_no_reminder_and_escalation_restarts(
    desk: EscalationHarness,
) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), 1)
    User.objects.filter(username="alice").update(is_active=False)
    desk.run_until(31)
    assert desk.pages(alert, "still_on_it") == []
    assert desk.timeline(alert)[-1] == (
        "Alice acknowledged the alert and cannot be reminded of it: the account is disabled."
    )
    desk.run_until(36)
    assert desk.pages(alert)[-1][0] == "bob"


def test_acknowledging_again_answers_the_question(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), 1)
    assert not desk.act(alert, Acknowledge(actor=desk.actor("alice")), 2).is_change
    desk.run_until(31)
    answer = desk.act(alert, Acknowledge(actor=desk.actor("alice")), 33)
    assert answer.is_change
    desk.run_until(40)
    assert desk.run(alert).due_at == desk.at(63)
    assert len(desk.pages(alert)) == 2


@pytest.mark.parametrize("ends", [Close, Cancel])
def test_closed_alert_ends_its_run_and_unsent_pages(desk: EscalationHarness, ends: type[Close] | type[Cancel]) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, ends(actor=desk.actor("carol")), 1)
    assert desk.run(alert).status == "ended"
    assert {state for *_, state in desk.pages(alert)} == {"cancelled"}
    desk.run_until(60)
    assert len(desk.pages(alert)) == 2


def test_undoing_a_closing_goes_on_where_it_was(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Close(actor=desk.actor("carol")), 4.9)
    desk.act(alert, Undo(actor=desk.actor("carol")), 5.2)
    desk.run_until(5.2)
    assert [who for who, *_ in desk.pages(alert)] == ["alice", "alice", "bob"]


def test_assign_unassign_and_reopen_restart_the_same_run(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    alice = desk.actor("alice")
    desk.act(alert, Assign(actor=alice, user_id=alice.user_id, name="Alice"), 1)
    desk.run_until(8)
    assert desk.run(alert).reason.code == reasons.ALERT_ASSIGNED.code
    desk.act(alert, Unassign(actor=alice), 9)
    desk.run_until(9)
    desk.act(alert, Close(actor=alice), 10)
    desk.act(alert, Reopen(actor=alice), 11)
    desk.run_until(11)
    emails = [(who, at) for who, channel, at, _ in desk.pages(alert) if channel == "email"]
    assert emails == [("alice", 0), ("alice", 9), ("alice", 11)]
    assert EscalationRun.objects.filter(alert=alert).count() == 1


def test_alert_of_disabled_owner_is_unassigned_and_pages_again(desk: EscalationHarness) -> None:
    alerts = [desk.open() for _ in range(3)]
    desk.run_until(0)
    for alert, name in zip(alerts, ("alice", "alice", "bob"), strict=True):
        order = Assign(actor=desk.actor(name), user_id=desk.users[name].pk, name=name.title())
        desk.act(alert, order, 1)
    desk.act(alerts[1], Hold(actor=desk.actor("alice"), until=desk.at(60)), 2)
    User.objects.filter(username="alice").update(is_active=False)
    assert escalation_loop.release_deactivated_users(desk.at(3)) is False
    assert [(desk.alert(alert).status, desk.alert(alert).owner_id) for alert in alerts] == [
        ("open", None),
        ("on_hold", None),
        ("assigned", desk.users["bob"].pk),
    ]
    assert "Tocsin unassigned Alice: the account was deactivated" in desk.timeline(alerts[0])
    desk.run_until(3)
    assert desk.pages(alerts[0])[-1][:3] == ("bob", "email", 3)


def test_acknowledgement_of_disabled_user_expires_and_pages_again(
    desk: EscalationHarness,
) -> None:
    alone, both, held = (desk.open() for _ in range(3))
    desk.run_until(0)
    for alert, name in ((alone, "alice"), (both, "alice"), (both, "bob"), (held, "alice")):
        desk.act(alert, Acknowledge(actor=desk.actor(name)), 1)
    desk.act(held, Hold(actor=desk.actor("alice"), until=desk.at(60)), 1)
    User.objects.filter(username="alice").update(is_active=False)
    assert escalation_loop.release_deactivated_users(desk.at(2)) is False
    assert escalation_loop.release_deactivated_users(desk.at(2)) is False
    text = "The acknowledgement of Alice expired: the account was deactivated"
    assert text in desk.timeline(alone)
    desk.run_until(2)
    assert desk.pages(alone)[-1][:3] == ("bob", "email", 2)
    assert desk.run(both).reason.code == reasons.STOPPED_BY_ACK.code
    assert desk.alert(held).status == "on_hold"
    desk.run_until(60)
    assert desk.pages(held)[-1][:3] == ("bob", "email", 60)


def test_deactivation_of_the_only_paged_user_moves_the_page_on(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    users.change_own(desk.users["alice"], {"active": False}, actor=ACTOR, now=desk.at(1))
    assert escalation_loop.release_deactivated_users(desk.at(1)) is False
    assert escalation_loop.release_deactivated_users(desk.at(1)) is False
    assert desk.alert(alert).events.filter(kind=EventKind.ESCALATION_CONTINUED).count() == 1
    desk.run_until(1)
    assert desk.pages(alert)[-1] == ("bob", "email", 1, "queued")
    assert desk.run(alert).due_at == desk.at(11)
    # Nobody is left: the end comes at once too.
    users.change_own(desk.users["bob"], {"active": False}, actor=ACTOR, now=desk.at(2))
    escalation_loop.release_deactivated_users(desk.at(2))
    desk.run_until(2)
    assert desk.pages(alert)[-1][0] == "bob"
    assert desk.run(alert).progress["step"] == 3


def test_deactivation_waits_while_another_paged_user_is_active(desk: EscalationHarness) -> None:
    desk.save(steps=[{"notify": {"roles": ["primary", "secondary"]}, "after": "0m"}, STEPS[2]])
    alert = desk.open()
    desk.run_until(0)
    users.change_own(desk.users["alice"], {"active": False}, actor=ACTOR, now=desk.at(1))
    assert escalation_loop.release_deactivated_users(desk.at(1)) is False
    assert desk.run(alert).due_at == desk.at(10)
    User.objects.filter(username="bob").delete()
    escalation_loop.release_deactivated_users(desk.at(2))
    assert desk.run(alert).due_at == desk.at(2)


def test_escalate_command_is_applied_by_the_next_run(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Escalate(actor=desk.actor("carol")), 1)
    assert desk.run(alert).due_at == desk.at(1)
    desk.run_until(1)
    assert [(who, at) for who, _, at, _ in desk.pages(alert)] == [("alice", 0), ("alice", 3), ("bob", 1)]


def test_hold_end_fires_the_step_then_due(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Hold(actor=desk.actor("alice"), until=desk.at(30)), 1)
    desk.through(6, 29)
    assert desk.alert(alert).status == "on_hold"
    desk.run_until(30)
    row = desk.alert(alert)
    assert (row.status, row.hold_until) == ("open", None)
    assert desk.timeline(alert)[-2:] == ["The snooze ended", "Step 2 of 3 pages Bob (secondary, Service Desk)."]


def test_pages_delayed_by_hold_leave_on_manual_resume(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Hold(actor=desk.actor("bob"), until=desk.at(300)), 1)
    Delivery.objects.filter(alert=alert, channel="sms").update(due_at=desk.at(300), reason=ON_HOLD())
    desk.act(alert, Resume(actor=desk.actor("bob")), 4)
    assert Delivery.objects.get(alert=alert, channel="sms").due_at == desk.at(4)


def test_pages_delayed_by_hold_leave_when_it_ends_early(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    desk.act(alert, Hold(actor=desk.actor("bob"), until=desk.at(300)), 1)
    Delivery.objects.filter(alert=alert, channel="sms").update(due_at=desk.at(300), reason=ON_HOLD())
    desk.act(alert, Hold(actor=desk.actor("bob"), until=desk.at(20)), 10)
    desk.run_until(20)
    assert desk.alert(alert).status == "open"
    assert Delivery.objects.get(alert=alert, channel="sms").due_at == desk.at(20)


def test_undoing_an_acknowledgement_brings_back_the_pages_that_it_cancelled(desk: EscalationHarness) -> None:
    desk.save(steps=STEPS[:1])
    alert = desk.open()
    desk.run_until(0)
    planned = desk.pages(alert)
    desk.act(alert, Acknowledge(actor=desk.actor("bob")), 1)
    assert {state for *_, state in desk.pages(alert)} == {"cancelled"}
    desk.act(alert, Undo(actor=desk.actor("bob")), 1.5)
    assert desk.pages(alert) == planned
    desk.run_until(2)
    (until,) = desk.run(alert).progress["paging_until"].values()
    assert datetime.fromisoformat(until) == desk.at(3)


def test_undone_assignment_restores_pages_of_its_assignee(desk: EscalationHarness) -> None:
    desk.save(steps=STEPS[:1])
    alert = desk.open()
    desk.run_until(0)
    planned = desk.pages(alert)
    alice = desk.actor("alice")
    assert {user for user, *_ in planned} == {"alice"}
    desk.act(alert, Assign(actor=desk.actor("bob"), name=alice.name, user_id=alice.user_id), 1)
    desk.run_until(1)
    asked = len(desk.pages(alert)) - len(planned)
    desk.act(alert, Undo(actor=desk.actor("bob")), 1.5)
    restored = desk.pages(alert)
    assert [page for page in restored if page[3] == "queued"] == planned
    assert len(restored) == len(planned) + asked > len(planned)


def test_unacknowledging_restores_pending_pages(desk: EscalationHarness) -> None:
    desk.save(steps=STEPS[:1])
    first, second = desk.open(), desk.open()
    desk.run_until(0)
    for alert in (first, second):
        desk.act(alert, Acknowledge(actor=desk.actor("bob")), 1)
    desk.act(second, Acknowledge(actor=desk.actor("carol")), 1.5)
    for alert in (first, second):
        desk.act(alert, Unacknowledge(actor=desk.actor("bob")), 2)
    assert desk.pages(first) == [("alice", "email", 0, "cancelled"), ("alice", "sms", 3, "queued")]
    # Of this one another acknowledgement stands.
    assert {state for *_, state in desk.pages(second)} == {"cancelled"}


# What comes next


def test_next_action_is_forecast_for_several_alerts_at_once(desk: EscalationHarness) -> None:
    fresh, paged, count, broken = (desk.open() for _ in range(4))
    desk.run_until(0)
    desk.open(1)
    alice = desk.actor("alice")
    desk.act(count, Assign(actor=alice, user_id=alice.user_id, name="Alice"), 1)
    EscalationRun.objects.filter(alert=broken).update(progress={"step": "first"})
    with tocsin_database.transaction() as connection:
        results = next_steps(connection, [fresh, paged, count, broken], desk.at(1))
    assert {alert: (step.at, str(step.summary)) for alert, step in results.items()} == {
        fresh: (desk.at(5), "pages Bob (secondary, Service Desk)"),
        paged: (desk.at(5), "pages Bob (secondary, Service Desk)"),
        broken: (desk.at(5), "Step 2 of 3 is next."),
    }


# The priority


def test_raised_priority_replaces_the_run_by_the_matching_route(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    urgent = desk.save(steps=[{"notify": {"roles": ["primary", "secondary"]}}])
    as_priority(desk, alert, Priority.CRITICAL, 2, version_id=urgent.current_version_id)
    old, new = EscalationRun.objects.filter(alert=alert).order_by("id")
    assert (old.status, old.due_at) == ("ended", None)
    assert (new.version_id, new.priority, new.due_at) == (urgent.current_version_id, "critical", desk.at(2))
    desk.run_until(2)
    assert [who for who, channel, at, _ in desk.pages(alert) if at == 2] == ["alice", "bob"]
    as_priority(desk, alert, Priority.CRITICAL, 3)
    assert EscalationRun.objects.filter(alert=alert).count() == 2


def test_owner_is_notified_when_priority_rises(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    alice = desk.actor("alice")
    desk.act(alert, Assign(actor=alice, user_id=alice.user_id, name="Alice"), 1)
    as_priority(desk, alert, Priority.CRITICAL, 2)
    assert desk.pages(alert, "notice") == [("alice", "email", 2, "queued")]
    reason = reason_from_json(Notification.objects.get(purpose="notice").data["text"])
    assert str(reason) == "The priority rose from high to critical."
    desk.run_until(60)
    assert len(desk.pages(alert)) == 2


# The pause of all paging


def test_steps_wait_for_scheduled_or_early_end_of_pause(desk: EscalationHarness) -> None:
    alert, other = desk.open(), desk.open()
    desk.run_until(0)
    pauses.start("moving the data centre", desk.at(60), ACTOR, desk.at(1))
    desk.run_until(5)
    assert len(desk.pages(alert)) == 2
    assert desk.run(alert).due_at == desk.at(60)
    assert "moving the data centre" in desk.timeline(alert)[-1]
    desk.act(other, Hold(actor=desk.actor("bob"), until=desk.at(90)), 6)
    pauses.end(ACTOR, desk.at(10))
    desk.run_until(10)
    assert [who for who, *_ in desk.pages(alert)] == ["alice", "alice", "bob"]
    assert desk.run(other).due_at == desk.at(90)


# Several workers, and bad rows


def test_locked_alert_is_left_for_the_next_run(desk: EscalationHarness) -> None:
    held, free = desk.open(), desk.open()
    with tocsin_database.transaction() as connection:
        connection.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (held,))
        desk.run_until(0)
        assert (len(desk.pages(held)), len(desk.pages(free))) == (0, 2)
    desk.run_until(0)
    assert len(desk.pages(held)) == 2


def test_two_workers_share_work_without_duplicate_pages(
    desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escalation_loop, "BATCH", 3)
    alerts = [desk.open() for _ in range(30)]

    def work() -> None:
        keeper = escalation_loop.EscalationTask()
        for _ in range(15):
            keeper.run_once(desk.at(0))

    with ThreadPoolExecutor(4) as workers:
        for done in [workers.submit(work) for _ in range(4)]:
            done.result()
    results = Counter(Notification.objects.filter(purpose="page").values_list("alert_id", "label"))
    assert results == {(alert, label): 1 for alert in alerts for label in ("Email-Official", "SMS-Official")}


def test_what_another_worker_has_just_decided_is_not_decided_again(desk: EscalationHarness) -> None:
    alert = desk.open()
    seen_before = [desk.run(alert).pk]
    desk.run_until(0)
    with tocsin_database.transaction() as connection:
        assert escalation_loop._read(connection, seen_before, desk.at(0)) == []
        assert len(escalation_loop._read(connection, seen_before, desk.at(5))) == 1


def test_unreadable_row_is_postponed_and_blocks_no_other(desk: EscalationHarness) -> None:
    bad, good = desk.open(), desk.open()
    EscalationRun.objects.filter(alert=bad).update(progress={"step": "first"})
    desk.run_until(0)
    assert len(desk.pages(good)) == 2
    run = desk.run(bad)
    assert (run.failures, run.due_at) == (1, desk.at(0) + timedelta(seconds=5))
    assert run.reason == reasons.FAILED(failures=1, limit=5)
    assert "Expected `int`" in run.error


def test_run_is_stuck_after_five_failures_and_administrators_notified_once(desk: EscalationHarness) -> None:
    bad = desk.open()
    EscalationRun.objects.filter(alert=bad).update(progress={"step": "first"})
    for minute in (0, 1, 2, 3, 5, 70, 140):
        desk.run_until(minute)
    run = desk.run(bad)
    assert run.failures == 7
    assert run.reason == reasons.STUCK(count=run.failures)
    assert run.due_at == desk.at(200)
    assert desk.pages(bad, "notice") == [("erin", "email", 5, "queued")]
    assert "Administrators are notified" in desk.timeline(bad)[-1]
    EscalationRun.objects.filter(alert=bad).update(progress={})
    desk.run_until(200)
    assert (desk.run(bad).failures, desk.run(bad).error) == (0, "")
    assert len(desk.pages(bad)) == 2


def test_alert_with_unreadable_run_can_still_be_closed(desk: EscalationHarness) -> None:
    bad = desk.open()
    EscalationRun.objects.filter(alert=bad).update(progress={"step": "first"})
    desk.act(bad, Close(actor=desk.actor("carol")), 1)
    assert (desk.run(bad).status, desk.run(bad).due_at) == ("ended", None)


def test_unreadable_policy_version_is_reported_as_such(desk: EscalationHarness) -> None:
    version = PolicyVersion.objects.create(policy=desk.policy, number=9, definition={"steps": 5}, created_at=desk.start)
    alert = desk.open(version_id=version.pk)
    desk.run_until(0)
    assert f"Version {version.pk} of the escalation policy cannot be read" in desk.run(alert).error


def test_row_that_breaks_its_batch_is_isolated(desk: EscalationHarness) -> None:
    bad, good = desk.open(), desk.open()
    with tocsin_database.transaction() as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.alert_id = {bad} THEN RAISE EXCEPTION 'a page that cannot be written'; END IF; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON notify_notification FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    desk.run_until(0)
    assert len(desk.pages(good)) == 2
    run = desk.run(bad)
    assert run.failures == 1
    assert "a page that cannot be written" in run.error
    assert desk.timeline(bad) == ["Erin opened it by hand."], "what a turn decided is written whole or not at all"


def test_run_without_due_work_reports_no_more(desk: EscalationHarness) -> None:
    assert desk.keeper.run_once(desk.at(0)) is False


def test_exhausted_policy_hands_over_to_its_fallback_policy(desk: EscalationHarness) -> None:
    steps = [{"notify": {"users": ["carol"]}, "after": "2m"}]
    save_policy({"name": "After", "steps": steps}, actor=ACTOR, now=desk.start)
    desk.save(steps=STEPS[:1], end={"then": "hand_over", "policy": "After"})
    alert = desk.open()
    desk.through(0, 5, 7)
    first, second = EscalationRun.objects.filter(alert=alert).order_by("id")
    assert (first.status, first.due_at, first.reason) == ("ended", None, reasons.RUN_HANDED_OVER(policy="After"))
    assert second.version == Policy.objects.get(name="After").current_version
    assert desk.pages(alert)[-1] == ("carol", "email", 7, "queued")
    desk.act(alert, Assign(actor=desk.actor("carol"), user_id=desk.users["carol"].pk, name="Carol"), 8)
    assert desk.run(alert).status == "stopped"


def unanswered() -> list[int | None]:
    with tocsin_database.transaction() as connection:
        return [finding.object_id for finding in people.check_alerts(connection)]


def test_a_last_step_that_goes_on_is_red_on_home(desk: EscalationHarness) -> None:
    desk.save(steps=STEPS[:1], end={"then": "keep_last_step", "every": "10m"})
    alert = desk.open()
    desk.through(0, 4)
    assert unanswered() == []
    desk.through(5, 15)
    assert unanswered() == [alert]
    assert [minute for who, _channel, minute, _status in desk.pages(alert) if who == "alice"][::2] == [0, 5, 15]


def test_group_paged_for_an_active_alert_is_not_deleted(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    assert commands.runs_using_group(desk.group.pk) == [ALERT_REFERENCE(alert=AlertRef(alert))]
    assert commands.runs_using_group(desk.group.pk + 1) == []
    step = {"notify": {"roles": ["primary"], "groups": ["Service Desk"]}, "after": "0m"}
    desk.save(steps=[step])
    named = desk.open(1, recipient_groups=())
    assert commands.runs_using_group(desk.group.pk) == [
        ALERT_REFERENCE(alert=AlertRef(number)) for number in (alert, named)
    ]
    for number in (alert, named):
        desk.act(number, Close(actor=desk.actor("bob")), 2)
    assert commands.runs_using_group(desk.group.pk) == []


def test_assignee_is_paged_and_escalation_restarts_without_acceptance(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    bob = desk.users["bob"]
    desk.act(alert, Assign(actor=desk.actor("carol"), user_id=bob.pk, name="Bob"), 1)
    desk.run_until(1)
    assert [(who, at, status) for who, _, at, status in desk.pages(alert)] == [
        ("alice", 0, "cancelled"),
        ("alice", 3, "cancelled"),
        ("bob", 1, "queued"),
    ]
    assert store_state(alert).awaits_acceptance
    desk.run_until(31)
    assert desk.alert(alert).status == "open"
    assert [who for who, *_ in desk.pages(alert)][3:] == ["alice", "alice"]
    assert "Tocsin unassigned Bob: Bob did not accept within 30 minutes" in desk.timeline(alert)


def test_assignee_accepts_by_assigning_to_themselves(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    bob = desk.users["bob"]
    desk.act(alert, Assign(actor=desk.actor("carol"), user_id=bob.pk, name="Bob"), 1)
    desk.run_until(1)
    assert desk.act(alert, Assign(actor=desk.actor("bob"), user_id=bob.pk, name="Bob"), 7).is_change
    assert not store_state(alert).awaits_acceptance
    assert desk.pages(alert)[-1][3] == "cancelled"
    desk.run_until(600)
    assert desk.alert(alert).owner == bob
    assert desk.run(alert).due_at is None


def store_state(alert: int) -> AlertState:
    with tocsin_database.transaction() as connection:
        return store.load(connection, [alert])[alert]
