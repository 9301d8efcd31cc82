"""The self-check on real PostgreSQL: it detects each paging problem and pings only while there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest

from tests.doubles.http import Response, http_double
from tests.support.escalation_harness import GROUP, EscalationHarness, escalation_enabled
from tests.support.ingest import Ingest, halo, make_integration
from tests.support.people import ACTOR, make_user
from tocsin.alerts.commands import Acknowledge, Assign
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import STALE_KEY_RELEASED
from tocsin.core.db import database
from tocsin.core.ids import uuid7
from tocsin.core.reasons import NO_REASON, TEXT, reason_from_json
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.run.run_state import RunStatus
from tocsin.inbound.models import InboundMessage
from tocsin.notify.models import Delivery, Notification, Pause
from tocsin.operate import readiness, self_check
from tocsin.operate.finding import HealthFinding
from tocsin.operate.models import Audit, Node
from tocsin.operate.node_heartbeat import NodeHeartbeat, TaskRun, load_nodes
from tocsin.operate.self_check import DetectedProblem, SelfCheckRunner
from tocsin.people.changes import groups

pytestmark = pytest.mark.usefixtures("database", "sandbox_sends")

MINUTE = timedelta(minutes=1)


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[EscalationHarness]:
    with escalation_enabled():
        yield EscalationHarness(now)


def audit(at: datetime) -> list[DetectedProblem]:
    with database.transaction() as connection:
        return list(self_check.run_self_check(connection, at))


def ids(at: datetime) -> list[str]:
    return [problem.id for problem in audit(at)]


def notices() -> list[tuple[str, str]]:
    notifications = Notification.objects.filter(purpose="notice").order_by("id")
    return [(one.user.username if one.user else "", str(reason_from_json(one.data["title"]))) for one in notifications]


def page_nobody(desk: EscalationHarness, **step: str) -> None:
    """The only step pages a role that no one has."""
    members = [{"user": "alice", "roles": ["primary"]}, {"user": "carol", "roles": ["lead"]}]
    groups.save_group({"name": GROUP, "members": members}, existing=desk.group, actor=ACTOR, now=desk.start)
    desk.save(steps=[{"notify": {"roles": ["secondary"]}, "after": "0m", **step}])


def age_audit() -> None:
    """Half a minute passes for the database."""
    Audit.objects.update(checked_at=datetime.now(UTC) - timedelta(seconds=30))


def test_an_alert_that_is_paged_on_time_is_nothing_wrong(desk: EscalationHarness) -> None:
    desk.open()
    desk.run_until(0)
    Delivery.objects.update(status="sent")
    assert ids(desk.at(4)) == []


def test_run_undecided_for_a_minute_is_reported(desk: EscalationHarness) -> None:
    alert = desk.open()
    assert ids(desk.at(0.9)) == []
    (problem,) = audit(desk.at(1))
    assert problem.id == "runs_late"
    assert f"alert #{alert}" in str(problem.detail)


def test_first_page_unsent_for_a_minute_is_reported(desk: EscalationHarness) -> None:
    desk.open()
    desk.run_until(0)
    assert ids(desk.at(0.9)) == []
    assert ids(desk.at(1.5)) == ["pages_late", "alerts_unreached"]


def test_failing_first_page_is_late_since_its_first_attempt(desk: EscalationHarness) -> None:
    desk.open()
    desk.run_until(0)
    Delivery.objects.filter(is_first=True).update(
        attempts=3, error=TEXT(text="It is down."), due_at=desk.at(5), late_since=desk.at(0)
    )
    problem, unreached = audit(desk.at(2))
    assert (problem.id, unreached.id) == ("pages_late", "alerts_unreached")
    assert str(problem.detail).endswith("was due 2 minutes ago. It is down.")


def test_retrying_first_page_is_as_late_as_a_waiting_one(desk: EscalationHarness) -> None:
    desk.open()
    desk.run_until(0)
    lease = datetime.now(UTC) + MINUTE
    Delivery.objects.filter(is_first=True).update(status="sending", attempts=1, lease_until=lease)
    assert ids(desk.at(0.9)) == []
    Delivery.objects.filter(is_first=True).update(
        attempts=3, due_at=desk.at(1.9), late_since=desk.at(0), error=TEXT(text="It is down.")
    )
    problem, unreached = audit(desk.at(2))
    assert (problem.id, unreached.id) == ("pages_late", "alerts_unreached")
    assert str(problem.detail).endswith("was due 2 minutes ago. It is down.")


def test_later_page_stops_counting_after_another_page_left(desk: EscalationHarness) -> None:
    desk.open(recipient_users=(desk.users["bob"].pk,))
    desk.run_until(0)
    assert Delivery.objects.filter(is_first=True).count() == 2
    Delivery.objects.filter(user=desk.users["bob"]).update(status="sent")
    assert ids(desk.at(3)) == []


@pytest.mark.parametrize("if_empty", ["skip", "wait"])
def test_open_alert_whose_run_pages_nobody_reached_no_one(desk: EscalationHarness, if_empty: str) -> None:
    page_nobody(desk, after="5m", if_empty=if_empty)
    first, second = desk.open(), desk.open()
    assert ids(desk.at(4.9)) == []
    desk.run_until(5)
    assert if_empty == "wait" or ids(desk.at(5.5)) == []
    (problem,) = audit(desk.at(6.5))
    assert problem.id == "alerts_unreached"
    assert not problem.is_warning
    assert f"2 alerts are open and have reached no one: #{first} and #{second}." == str(problem.detail)
    desk.act(first, Acknowledge(actor=desk.actor("alice")), 7)
    desk.act(second, Assign(actor=desk.actor("alice"), user_id=desk.users["alice"].pk, name="Alice"), 7)
    assert ids(desk.at(7)) == []


def test_exhausted_run_without_sent_page_reached_no_one(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.through(0, 3, 5, 15, 20)
    assert desk.run(alert).status == RunStatus.EXHAUSTED
    Delivery.objects.filter(alert=alert, purpose="page").update(status="cancelled")
    assert ids(desk.at(20)) == ["alerts_unreached"]
    Delivery.objects.filter(alert=alert, user=desk.users["bob"]).update(status="sent", sent_at=desk.at(5))
    assert ids(desk.at(20)) == []


def test_page_of_earlier_run_does_not_count(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    Delivery.objects.filter(alert=alert).update(status="sent", sent_at=desk.at(0))
    page_nobody(desk)
    version = desk.policy.current_version_id
    EscalationRun.objects.filter(alert=alert).update(
        version_id=version, started_at=desk.at(10), due_at=desk.at(10), progress={}
    )
    desk.run_until(10)
    assert ids(desk.at(11)) == ["alerts_unreached"]


def test_alerts_that_reached_no_one_are_all_listed_oldest_first(desk: EscalationHarness) -> None:
    page_nobody(desk)
    numbers = [desk.open() for _ in range(7)]
    desk.run_until(0)
    (problem,) = audit(desk.at(1))
    listed = [int(number) for number in re.findall(r"#(\d+)", str(problem.detail))]
    assert listed == numbers
    assert str(problem.detail).startswith("7 alerts")


def test_paused_pages_count_from_the_end_of_the_pause(desk: EscalationHarness) -> None:
    desk.open()
    desk.run_until(0)
    Pause.objects.create(reason="works", started_at=desk.at(0), until=desk.at(5))
    assert ids(desk.at(4)) == []
    assert "pages_late" not in ids(desk.at(5.5))
    assert "pages_late" in ids(desk.at(6))


def test_active_alert_without_running_or_explained_run_is_forgotten(desk: EscalationHarness, now: datetime) -> None:
    bare = Alert.objects.create(subject="VPN", opened_at=now, last_message_at=now)
    silent = desk.open()
    EscalationRun.objects.filter(alert=silent).update(due_at=None, status="stopped", reason=NO_REASON)
    (problem,) = audit(now)
    assert problem.id == "alerts_forgotten"
    assert f"#{bare.pk} and #{silent}" in str(problem.detail)


def test_active_run_without_timer_is_forgotten(desk: EscalationHarness, now: datetime) -> None:
    alert = desk.open()
    EscalationRun.objects.filter(alert=alert).update(due_at=None)
    assert ids(now) == ["alerts_forgotten"]


@pytest.mark.parametrize("status", ["closed", "cancelled", "merged"])
def test_an_alert_that_is_over_needs_no_timer(status: str, now: datetime) -> None:
    Alert.objects.create(subject="VPN", status=status, opened_at=now, last_message_at=now)
    assert ids(now) == []


def test_active_alert_with_explained_idle_run_is_not_forgotten(desk: EscalationHarness, now: datetime) -> None:
    alert = desk.open()
    EscalationRun.objects.filter(alert=alert).update(due_at=None, status="stopped", reason=TEXT(text="Alice has it."))
    assert ids(now) == []


def test_run_with_five_failures_is_stuck_while_alert_is_active(desk: EscalationHarness) -> None:
    alert = desk.open()
    EscalationRun.objects.filter(alert=alert).update(failures=5, due_at=desk.at(60))
    assert ids(desk.at(0)) == ["runs_stuck"]
    Alert.objects.update(status="closed")
    assert ids(desk.at(0)) == []


def test_message_undecided_for_a_minute_is_reported(now: datetime) -> None:
    integration = make_integration()
    InboundMessage.objects.create(id=uuid7(), integration=integration, received_at=now, status="Pending", raw=b"{}")
    assert ids(now + MINUTE / 2) == []
    assert ids(now + MINUTE) == ["messages_late"]


def test_delivery_with_expired_lease_is_reported(desk: EscalationHarness) -> None:
    desk.open()
    desk.run_until(0)
    database_now = datetime.now(UTC)
    Delivery.objects.filter(is_first=True).update(status="sending", lease_until=database_now - MINUTE / 2)
    assert ids(desk.at(0)) == []
    Delivery.objects.filter(is_first=True).update(lease_until=database_now - 2 * MINUTE)
    assert ids(desk.at(0)) == ["deliveries_lost"]


def test_stalled_task_on_a_live_node_is_reported(now: datetime) -> None:
    NodeHeartbeat(uuid7(), "all", lambda: [TaskRun("outbox", 2 * MINUTE, timedelta(seconds=1))], "pager1").run_once()
    (problem,) = audit(now)
    assert problem.id == "loop_stopped:outbox"
    assert "on pager1 (2 minutes" in str(problem.detail)
    Node.objects.update(seen_at=datetime.now(UTC) - 2 * MINUTE)
    assert ids(now) == []


def test_a_stuck_sender_is_a_problem_that_names_its_provider(now: datetime) -> None:
    stuck = {"Twilio": 2}
    presence = NodeHeartbeat(uuid7(), "worker", list, "pager1", stuck_senders=lambda: stuck)
    presence.run_once()
    (problem,) = audit(now)
    assert (problem.id, problem.is_warning) == ("stuck_sender:Twilio", False)
    assert str(problem.detail).startswith("2 sends hang in the provider “Twilio” on pager1.")
    stuck.clear()
    presence.run_once()
    assert ids(now) == []


def test_test_clock_makes_no_node_stale(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_test_offset", timedelta(days=3))
    NodeHeartbeat(uuid7(), "all", lambda: [TaskRun("outbox", timedelta(0), timedelta(seconds=1))]).run_once()
    with database.transaction() as connection:
        (node,) = load_nodes(connection)
    assert node.is_alive
    assert node.age < timedelta(seconds=5)
    assert node.tasks[0].age < timedelta(seconds=5)


def test_node_reports_start_and_stop_and_gone_nodes_are_pruned(now: datetime) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=61)
    Node.objects.create(id=uuid4(), name="old", role="all", version="1", started_at=long_ago, seen_at=long_ago)
    with database.transaction() as connection:
        assert load_nodes(connection) == []
    presence = NodeHeartbeat(uuid7(), "worker", list, "pager1")
    presence.run_once()
    presence.run_once()
    assert list(Node.objects.values_list("name", "role")) == [("pager1", "worker")]
    presence.leave()
    assert not Node.objects.exists()


def test_administrators_are_notified_once_of_confirmed_problem_and_its_end(desk: EscalationHarness) -> None:
    desk.open()
    audit(desk.at(1))
    assert notices() == []
    audit(desk.at(1.5))
    audit(desk.at(2))
    assert notices() == [("erin", "Tocsin: Escalation is late")]
    desk.run_until(2)
    Delivery.objects.filter(purpose="page").update(status="sent")
    audit(desk.at(2.5))
    assert notices()[1:] == [("erin", "Tocsin: resolved: Escalation is late")]


def test_home_shows_self_check_problems_until_resolved(desk: EscalationHarness) -> None:
    SelfCheckRunner(now=lambda: desk.at(0), heartbeat_url=lambda: None, name="pager1").run_once()
    stands = self_check.read()
    assert (stands.problems, stands.node, stands.silence) == ((), "pager1", NO_REASON)
    desk.open()
    audit(desk.at(1))
    assert [problem.id for problem in self_check.read().problems] == ["runs_late"]
    desk.run_until(1)
    Delivery.objects.update(status="sent")
    audit(desk.at(1.5))
    assert self_check.read().problems == ()


def test_missing_or_stale_self_check_is_reported(desk: EscalationHarness) -> None:
    assert self_check.read().silence == self_check.NEVER_CHECKED()
    SelfCheckRunner(now=lambda: desk.at(0), heartbeat_url=lambda: None).run_once()
    Audit.objects.update(checked_at=datetime.now(UTC) - timedelta(minutes=10, seconds=1))
    silence = self_check.read().silence
    assert str(silence).startswith("Tocsin ran its last self-check 10 minutes ago")


def test_external_ping_is_sent_only_while_paging_works(desk: EscalationHarness) -> None:
    with http_double() as outside:
        watch = SelfCheckRunner(now=lambda: desk.at(2), heartbeat_url=lambda: f"{outside.url}/ping/abc")
        watch.run_once()
        assert [request.path for request in outside.requests] == ["/ping/abc"]
        assert self_check.read().heartbeat_age is not None
        desk.open()
        age_audit()
        watch.run_once()
        assert len(outside.requests) == 1
        desk.run_until(2)
        Delivery.objects.update(status="sent")
        age_audit()
        watch.run_once()
        assert len(outside.requests) == 2


def test_rejected_ping_is_reported_without_its_address(now: datetime) -> None:
    with http_double(lambda request: Response(status=500)) as outside:
        watch = SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: f"{outside.url}/ping/secret")
        watch.run_once()
    assert self_check.read().heartbeat_problem == self_check.STATUS(status="500")
    assert self_check.read().heartbeat_at is None
    age_audit()
    watch.run_once()
    problem = self_check.read().heartbeat_problem
    assert str(problem).startswith("the request failed")
    assert "secret" not in str(problem)


def test_several_nodes_audit_and_ping_once(now: datetime) -> None:
    with http_double() as outside:
        watches = [
            SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: outside.url, name=f"pager{n}") for n in range(3)
        ]
        for watch in watches:
            watch.run_once()
        assert len(outside.requests) == 1
    assert Audit.objects.get().node == "pager0"


def test_self_check_running_on_another_node_is_not_awaited(now: datetime) -> None:
    watch = SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: None, name="pager2")
    watch.run_once()
    age_audit()
    with database.transaction() as connection:
        connection.execute("SELECT FROM operate_audit FOR NO KEY UPDATE")
        watch.run_once()
        assert Audit.objects.get().checked_at < datetime.now(UTC) - timedelta(seconds=20)


def test_what_has_long_been_over_is_removed(now: datetime) -> None:
    with database.transaction() as connection:
        old = self_check.ProblemRecord("x", NO_REASON, NO_REASON, NO_REASON, now, now, ended_at=now)
        self_check.store_problems(connection, [old], now)
        assert list(self_check.load(connection)) == ["x"]
        self_check.store_problems(connection, [], now + timedelta(days=8))
        assert self_check.load(connection) == {}


def test_self_check_of_large_alert_list_reads_few_rows(now: datetime) -> None:
    make_user("erin", now, role="admin")
    with database.transaction() as connection:
        connection.execute(
            "WITH a AS (INSERT INTO alerts_alert (subject, status, priority, opened_at, last_message_at) "
            "SELECT 'VPN', 'open', 'high', %(now)s, %(now)s FROM generate_series(1, 5000) RETURNING id) "
            "INSERT INTO escalation_run (alert_id, status, mode, due_at, started_at) "
            "SELECT id, 'active', 'page', %(later)s, %(now)s FROM a",
            {"now": now, "later": now + MINUTE},
        )
    begin = datetime.now(UTC)
    assert ids(now) == []
    assert datetime.now(UTC) - begin < timedelta(seconds=2)


def test_leaked_key_of_ended_alert_is_released_on_the_timeline(
    desk: EscalationHarness,
) -> None:
    integration = make_integration()
    ingest = Ingest()
    numbers = [one.alert_id or 0 for one in ingest.send(integration, *map(halo, range(1, 6)))]
    merged, closed, lost, held, parent = numbers
    over = desk.open()
    Alert.objects.filter(pk=over).update(status="closed")
    Alert.objects.filter(pk=merged).update(status="merged", merged_into_id=over)
    Alert.objects.filter(pk=closed).update(status="closed")
    Alert.objects.filter(pk=lost).update(status="merged")
    Alert.objects.filter(pk=held).update(status="merged", merged_into_id=parent)
    assert SelfCheckRunner(now=lambda: desk.at(1)).run_once() is False
    holding = Alert.objects.filter(pk__in=numbers, holds_key=True).values_list("pk", flat=True)
    assert sorted(holding) == [held, parent]
    assert AlertEvent.objects.filter(alert=merged).latest("pk").reason == STALE_KEY_RELEASED()
    again = ingest.send(integration, halo(1), halo(2), halo(3), halo(4))
    assert [one.status.value for one in again] == [*["Mapped Opened"] * 3, "Mapped Appended"]


def test_nearly_full_disk_is_reported_without_stopping_external_ping(
    desk: EscalationHarness,
) -> None:
    short = HealthFinding("disk.space", readiness.SPACE(free="0.4 GB", size="20.0 GB", folder="/data"), about="/data")
    with http_double() as outside:
        for minute in (0, 1):
            age_audit()
            SelfCheckRunner(
                now=partial(desk.at, minute), heartbeat_url=lambda: outside.url, check_disks=lambda: [short]
            ).run_once()
        assert len(outside.requests) == 2
    assert [title for _, title in notices()] == ["Tocsin: The disk is nearly full"]
    (problem,) = self_check.read().problems
    assert "0.4 GB of 20.0 GB are free" in str(problem.detail)
    assert "no one is paged" in str(problem.detail)
