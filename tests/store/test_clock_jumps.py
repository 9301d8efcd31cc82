"""A clock rollback delays nothing on real rows: adjusted once, with two nodes, and after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from psycopg import errors

from tests.support import workflow_harness
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import make_integration
from tests.support.outbox_harness import OutboxHarness
from tocsin.access import audit_log
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.alerts.commands import Acknowledge, Hold
from tocsin.alerts.models import Acknowledgement, Alert
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, reason_from_json
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.models import DelayedAlert, Heartbeat, RateWindow
from tocsin.inbound.storage import dedup_key_store
from tocsin.notify import pause
from tocsin.notify.models import AwaitedReceipt, Delivery, Notification, OptOut, ProviderHealth
from tocsin.notify.pages import queue_pages
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.operate import self_check, tasks
from tocsin.operate.models import Audit, Problem

pytestmark = pytest.mark.usefixtures("database")

MINUTE = timedelta(minutes=1)
#: By so much, in minutes, the clock is ahead in most tests here.
BY = 120.0


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[EscalationHarness]:
    with escalation_enabled():
        yield EscalationHarness(now)


def check_clock(at: datetime) -> None:
    """A node looks at the clock, which shows this."""
    tasks.check_clock(lambda connection: at)


def set_back(right: datetime, by: float = BY) -> None:
    """The clock, last seen at `right` and so many minutes more, shows `right`."""
    check_clock(right + by * MINUTE)
    check_clock(right)


def test_next_step_keeps_its_policy_delay_after_clock_rollback(desk: EscalationHarness) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    # Looks are seconds apart, and nobody says "1 hour 59 minutes".
    check_clock(desk.at(BY + 0.95))
    check_clock(desk.at(1))
    assert desk.run(alert).due_at == desk.at(5.05), "late by that at most"
    desk.run_until(5)
    assert {who for who, *_ in desk.pages(alert)} == {"alice"}
    desk.run_until(5.05)
    assert {who for who, *_ in desk.pages(alert)} == {"alice", "bob"}
    assert desk.timeline(alert)[2] == (
        "The database clock went back by 2 hours. Pending steps fire earlier by the same amount."
    )


def test_page_by_later_contact_method_keeps_its_delay(desk: EscalationHarness) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    set_back(desk.at(0))
    assert desk.pages(alert) == [("alice", "email", 0, "queued"), ("alice", "sms", 3, "queued")]


def test_the_same_jump_counts_once(desk: EscalationHarness) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    set_back(desk.at(0))
    for minute in (0.01, 0.1, 1):
        check_clock(desk.at(minute))
    assert desk.run(alert).due_at == desk.at(5)
    assert len([text for text in desk.timeline(alert) if "clock" in text]) == 1


def test_wobbling_clock_neither_floods_timeline_nor_blocks_work(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    for minute in range(4):
        set_back(desk.at(minute), 0.1)
    assert not [text for text in desk.timeline(alert) if "clock" in text]
    assert desk.run(alert).due_at == desk.at(5 - 4 * 0.1)


def test_two_nodes_measuring_together_count_the_jump_once(desk: EscalationHarness) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    check_clock(desk.at(BY))
    with ThreadPoolExecutor(4) as nodes:
        list(nodes.map(check_clock, [desk.at(0)] * 8))
    assert desk.run(alert).due_at == desk.at(5)
    assert len([text for text in desk.timeline(alert) if "clock" in text]) == 1


def test_node_killed_during_adjustment_leaves_all_of_it_to_next(
    desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    check_clock(desk.at(BY))

    def killed(connection: Connection, by: timedelta, now: datetime) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "_REPAIRS", (*tasks._REPAIRS, killed))
        with pytest.raises(KeyboardInterrupt):
            check_clock(desk.at(0))
    assert desk.run(alert).due_at == desk.at(BY + 5)
    # Another process: it knows of the clock what the row says.
    check_clock(desk.at(0.5))
    assert desk.run(alert).due_at == desk.at(5.5)


def test_what_is_wrong_with_one_kind_keeps_no_other_waiting(
    desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)

    def broken(connection: Connection, by: timedelta, now: datetime) -> None:
        connection.execute("SELECT 1 / 0")

    monkeypatch.setattr(tasks, "_REPAIRS", (broken, *tasks._REPAIRS))
    set_back(desk.at(0))
    assert desk.run(alert).due_at == desk.at(5)


def test_lock_timeout_repeats_the_whole_adjustment(desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    check_clock(desk.at(BY))

    def held_up(connection: Connection, by: timedelta, now: datetime) -> None:
        connection.execute("SET LOCAL statement_timeout = 1")
        connection.execute("SELECT pg_sleep(10)")

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "_REPAIRS", (*tasks._REPAIRS, held_up))
        with pytest.raises(errors.QueryCanceled):
            check_clock(desk.at(0))
    assert desk.run(alert).due_at == desk.at(BY + 5)
    check_clock(desk.at(0.5))
    assert desk.run(alert).due_at == desk.at(5.5)


def test_small_or_forward_clock_changes_adjust_nothing(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    for seconds in (0, 5, 3, 60, 57, 86_000):
        check_clock(desk.start + timedelta(seconds=seconds))
    assert desk.run(alert).due_at == desk.at(5)
    with database.transaction() as connection:
        assert clock.last_jump(connection) is None


def test_hold_and_pause_end_at_their_requested_time(desk: EscalationHarness) -> None:
    held, paused = desk.open(BY), desk.open(BY)
    desk.run_until(BY)
    desk.act(held, Hold(actor=desk.actor("alice"), until=desk.at(BY + 30)), BY)
    pause.start("Core switch", desk.at(BY + 60), COMMAND_LINE, desk.at(BY))
    desk.run_until(BY + 5)
    set_back(desk.at(0))
    assert (desk.run(held).due_at, desk.run(paused).due_at) == (desk.at(BY + 30), desk.at(BY + 60))
    # And all paging is paused still, although by the clock that is right it was not yet when that began.
    desk.run_until(6)
    assert {who for who, *_ in desk.pages(paused)} == {"alice"}


def test_an_acknowledgement_stands_for_as_long_as_its_policy_says(desk: EscalationHarness) -> None:
    alert = desk.open(BY)
    desk.run_until(BY)
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), BY + 1)
    set_back(desk.at(1))
    assert Acknowledgement.objects.get().at == desk.at(1)
    assert desk.run(alert).due_at == desk.at(31)
    desk.run_until(31)
    assert [who for who, *_ in desk.pages(alert, "still_on_it")] == ["alice"]


def test_failed_and_unreadable_runs_are_retried_earlier_too(desk: EscalationHarness) -> None:
    failing, unreadable = desk.open(BY), desk.open(BY)
    EscalationRun.objects.filter(alert=failing).update(failures=5, error="It broke.", due_at=desk.at(BY + 60))
    EscalationRun.objects.filter(alert=unreadable).update(progress={"step": "no number"}, due_at=desk.at(BY + 60))
    set_back(desk.at(0))
    assert desk.run(failing).due_at == desk.run(unreadable).due_at == desk.at(60)
    assert (desk.run(failing).failures, desk.run(failing).error) == (5, "It broke.")


def test_all_runs_are_moved_even_in_large_numbers(desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.escalation.tasks.CHUNK", 3)
    for _ in range(10):
        desk.open(BY)
    set_back(desk.at(0))
    assert set(EscalationRun.objects.values_list("due_at", flat=True)) == {desk.at(0)}


def test_node_with_its_own_clock_change_measures_again_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    with database.transaction() as connection:
        clock.measure(connection)
        monkeypatch.setattr(clock, "_skew", timedelta(hours=-2))
        clock.measure_if_due(connection)
        assert clock.skew() == timedelta(hours=-2), "measured a moment ago"
        monkeypatch.setattr(clock, "_measured_clock_base", clock._measured_clock_base - 7200)
        clock.measure_if_due(connection)
        assert abs(clock.skew()) < timedelta(seconds=1)


# What is sent


@pytest.mark.usefixtures("sandbox_sends")
@pytest.mark.parametrize(("begin", "sends"), [("11:00", True), ("09:00", False)])
def test_quiet_hours_delay_pages_by_the_corrected_clock(post: OutboxHarness, begin: str, sends: bool) -> None:
    """It is 09:15, and by the clock that is ahead 11:15."""
    quiet = {"from": begin, "to": "12:00", "let_through": "critical"}
    sms = {"label": "SMS", "channel": "sms", "address": "+41790000001"}
    dora = post.user("dora", sms, time_zone="UTC", notification_rules={"quiet_hours": [quiet]})
    post.seconds = BY * 60
    alert = post.alert()
    Alert.objects.update(priority="high")
    with database.transaction() as connection:
        queue_pages(connection, [PageRequest(alert, post.now, "Dora is primary.", dora.pk)], post.now)
    set_back(post.at(0))
    post.go(1)
    (page,) = post.deliveries(alert)
    assert page.status == ("sent" if sends else "queued")
    if not sends:
        assert page.due_at == post.at(165 * 60)
        # One that was tried at that moment waits for its next try.
        Delivery.objects.update(attempts=1, due_at=post.at(165 * 60 + 30), reason=Reason("delivery.retried"))
        set_back(post.at(0))
        assert post.deliveries(alert)[0].due_at == post.at(45 * 60 + 30)


def test_rate_limits_receipts_and_provider_errors_expire_earlier(now: datetime) -> None:
    ahead = now + BY * MINUTE
    ProviderHealth.objects.create(name="Twilio", is_open=True, retry_at=ahead + MINUTE, free_at=ahead + MINUTE)
    ProviderHealth.objects.create(name="Mail", retry_at=now - MINUTE)
    alert_page = Notification.objects.create(id="0" * 32, purpose="page", channel="sms", address="+1", created_at=ahead)
    AwaitedReceipt.objects.create(delivery=alert_page.id, due_at=ahead + 2 * MINUTE, timeout_seconds=120)
    set_back(now)
    twilio, mail = ProviderHealth.objects.order_by("-name")
    assert (twilio.retry_at, twilio.free_at) == (now + MINUTE, now + MINUTE)
    assert (mail.retry_at, mail.free_at) == (now - MINUTE, None)
    assert AwaitedReceipt.objects.get().due_at == now + 2 * MINUTE


# What comes in


def test_delayed_alert_keeps_its_delay_after_arrival(now: datetime) -> None:
    ahead = now + BY * MINUTE
    integration = make_integration(settings={"anyway": True})
    rows = {}
    for number, wait in enumerate(("wait", "every", "flapping", "count", "hours", "maintenance")):
        rows[wait] = DelayedAlert.objects.create(
            key_hash=bytes([number]) * 32,
            integration=integration,
            delay_reason=wait,
            since=ahead,
            due_at=ahead + 5 * MINUTE,
        )
    RateWindow.objects.create(
        hash=b"t" * 32, until=ahead + MINUTE, at=ahead, tokens=0, times=[now, ahead], touched_at=ahead
    )
    set_back(now)
    for wait, row in rows.items():
        row.refresh_from_db()
        assert row.due_at == (now if wait in ("wait", "every", "flapping") else ahead) + 5 * MINUTE, wait
    rate_window = RateWindow.objects.get()
    assert (rate_window.until, rate_window.at, rate_window.times) == (now + MINUTE, now, [now, now])


def test_batches_decide_nothing_while_delays_are_moved(now: datetime) -> None:
    key = b"k" * 32
    with database.transaction() as repair, database.transaction() as batch:
        dedup_key_store.lock_all_keys(repair)
        query = dedup_key_store.query_keys(batch, [key], [], wait=False)
        assert dedup_key_store.load_states(batch, query, now=now).blocked_keys == {key}


def test_heartbeat_received_by_advanced_clock_is_expected_earlier(now: datetime) -> None:
    ahead = now + BY * MINUTE
    integration, before = (
        make_integration(name, "heartbeat", settings={"interval": "1h", "anyway": True}) for name in ("Heard", "Before")
    )
    Heartbeat.objects.create(integration=integration, health="up", last_at=ahead, due_at=ahead + 65 * MINUTE)
    # Once a day, and heard by a clock that was right: no false alarm two hours before its time.
    Heartbeat.objects.create(integration=before, health="up", last_at=now - MINUTE, due_at=now + 24 * 60 * MINUTE)
    set_back(now)
    one, other = Heartbeat.objects.order_by("integration_id")
    assert (one.last_at, one.due_at) == (now, now + 65 * MINUTE)
    assert (other.last_at, other.due_at) == (now - MINUTE, now + 24 * 60 * MINUTE)


def test_a_workflow_that_waits_acts_as_long_after_its_cause(now: datetime) -> None:
    with workflow_harness.workflows_enabled():
        desk = workflow_harness.WorkflowHarness(now)
        desk.workflow("Chase", trigger={"on": "unacknowledged", "for": "15m"})
        alert = desk.open(BY)
        set_back(desk.at(0))
        assert [run.due_at for run in desk.runs(alert)] == [desk.at(15)]


# What is told


def test_failing_pages_notify_administrators_despite_notice_from_advanced_clock(
    post: OutboxHarness,
) -> None:
    def fails() -> int:
        post.page(post.alert(), "bob")
        post.go()
        return Notification.objects.filter(purpose="notice", data__about="failed").count()

    post.user("erin", role="admin")
    post.user("bob", {"label": "Mail", "channel": "email", "address": "bob@example.org"})
    OptOut.objects.create(channel="email", address="bob@example.org", provider_name="", at=post.now)
    post.seconds = BY * 60
    assert [fails(), fails()] == [1, 1], "once in a while"
    post.seconds = 0
    assert fails() == 2


def audit(at: datetime) -> list[str]:
    with database.transaction() as connection:
        found = self_check.run_self_check(connection, at)
    # No test here has a provider.
    return [one.id for one in found if not one.id.startswith("no_provider:")]


def test_administrators_are_notified_of_clock_rollback(desk: EscalationHarness) -> None:
    set_back(desk.at(0))
    assert audit(desk.at(0)) == ["clock_set_back"]
    audit(desk.at(0.5))
    notification = Notification.objects.get(
        purpose="notice", user=desk.users["erin"], data__about__startswith="operate:clock_set_back"
    )
    title, text = (reason_from_json(notification.data[name]) for name in ("title", "text"))
    assert str(title) == "Tocsin: The clock was set back"
    assert "was set back by 2 hours" in str(text)
    assert audit(desk.at(60)) == []


def test_problem_that_began_in_the_future_is_still_reported(desk: EscalationHarness) -> None:
    ahead = desk.at(BY)
    Problem.objects.create(
        id="clock_set_back", title=Reason("x.old"), detail=Reason("x.old"), remedy=Reason("x.old"), since=ahead,
        seen_at=ahead, ended_at=ahead, notified_at=ahead, last_notified_at=ahead,
    )  # fmt: skip
    set_back(desk.at(0))
    problem = Problem.objects.get()
    assert problem.since == problem.last_notified_at == desk.at(0)


def test_audits_go_on_after_the_clock_was_set_back(desk: EscalationHarness) -> None:
    watch = self_check.SelfCheckRunner(
        now=lambda: desk.at(0), heartbeat_url=lambda: None, check_disks=tuple, name="pager1"
    )
    watch.run_once()
    with database.transaction() as connection:
        connection.execute("UPDATE operate_audit SET checked_at = clock_timestamp() + interval '2 hours', node = 'old'")
    watch.run_once()
    assert Audit.objects.get().node == "pager1"


# Far ahead


def test_retention_removes_nothing_for_a_day_after_forward_jump(now: datetime) -> None:
    AuditEntry.objects.create(at=now, actor_name="erin", action="update")
    audit_log.link_new()
    year = timedelta(days=500)
    check_clock(now)
    check_clock(now + year)
    tasks.delete_expired(now + year)
    assert AuditEntry.objects.exists()
    assert audit(now + year) == ["clock_ahead"]
    # Set right before the day is over: nothing was lost.
    check_clock(now + MINUTE)
    tasks.delete_expired(now + MINUTE)
    assert AuditEntry.objects.exists()
    assert audit(now + MINUTE) == ["clock_set_back"]


def test_after_a_day_it_is_believed(now: datetime) -> None:
    month = timedelta(days=30)
    check_clock(now)
    check_clock(now + month)
    with database.transaction() as connection:
        assert clock.is_clock_suspect(connection, now + month + timedelta(hours=23))
        assert not clock.is_clock_suspect(connection, now + month + timedelta(days=1))
    assert audit(now + month + timedelta(days=1)) == []


def test_wobbling_advanced_clock_still_counts_as_far_ahead(now: datetime) -> None:
    check_clock(now)
    month = timedelta(days=30)
    check_clock(now + month)
    set_back(now + month, 0.1)
    with database.transaction() as connection:
        assert clock.is_clock_suspect(connection, now + month + timedelta(hours=23))
        assert not clock.is_clock_suspect(connection, now + month + timedelta(days=1))
    check_clock(now + timedelta(hours=30))
    check_clock(now + MINUTE)
    with database.transaction() as connection:
        assert not clock.is_clock_suspect(connection, now + MINUTE)


def test_starting_node_removes_nothing_before_checking_the_clock(now: datetime) -> None:
    AuditEntry.objects.create(at=now, actor_name="erin", action="update")
    audit_log.link_new()
    check_clock(now)
    tasks.delete_expired(now + timedelta(days=500))
    assert AuditEntry.objects.exists()
