"""A long provider outage: no page is lost, all are sent on recovery, and health is red meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from tests.doubles.http import http_double
from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.escalation_harness import STEPS, EscalationHarness, escalation_enabled
from tests.support.outbox_harness import allow_loopback, provider
from tests.support.people import ACTOR
from tests.support.variants import first
from tocsin.alerts.commands import Acknowledge, Close, Hold, PagingMode
from tocsin.alerts.models import Alert
from tocsin.alerts.states import CommandChannel
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.ids import uuid7
from tocsin.core.reasons import as_reason
from tocsin.notify.dispatch.claim import claim
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.dispatch.results import record
from tocsin.notify.dispatch.send import SendResult
from tocsin.notify.models import Delivery, Pause, ProviderHealth
from tocsin.operate import http, self_check
from tocsin.operate.checks import machine
from tocsin.operate.finding import HealthFinding
from tocsin.operate.models import Audit
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.operate.self_check import SelfCheckRunner
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod
from tocsin.web import home

pytestmark = pytest.mark.usefixtures("database")

#: In seconds: how far the clock moves at a time. The loop of providers runs that often; in an outage less will do.
STEP = 5
STEP_WHILE_DOWN = 15


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@dataclass
class Outage:
    """A service desk whose only provider is a mail server that comes and goes. Time is in seconds."""

    desk: EscalationHarness
    port: int
    seconds: float = 0.0
    alerts: list[int] = field(default_factory=list)
    box: DeliveryDispatcher = field(init=False)

    def __post_init__(self) -> None:
        self.box = DeliveryDispatcher(now=lambda: self.now, jitter=lambda: 1.0)

    @property
    def now(self) -> datetime:
        return self.desk.start + timedelta(seconds=self.seconds)

    @contextmanager
    def mail_server(self) -> Iterator[SmtpDouble]:
        with smtp_double(port=self.port) as double:
            yield double

    def open(self, **paging: object) -> int:
        self.alerts.append(self.desk.open(self.seconds / 60, **paging))  # type: ignore[arg-type]
        return self.alerts[-1]

    def run_loops(self) -> None:
        self.desk.run_until(self.seconds / 60)
        self.box.probe_providers()
        while self.box.run_once():
            self.box.in_flight.settle()
        self.box.settle()

    def pass_until(self, seconds: float, *, step: float = STEP, opening_every: int = 0) -> None:
        while self.seconds < seconds:
            self.seconds = min(self.seconds + step, seconds)
            if opening_every and not self.seconds % opening_every:
                self.open()
            self.run_loops()

    def audit(self) -> list[str]:
        with database.transaction() as connection:
            return [problem.id for problem in self_check.run_self_check(connection, self.now)]

    def gauge(self, name: str) -> float:
        with database.transaction() as connection:
            metrics = http.database_gauges(connection, self.now)
        return next(sample.value for one in metrics for sample in one.samples if sample.name == name)

    def unreached(self) -> set[int]:
        sent = Delivery.objects.filter(purpose="page", status__in=("sent", "delivered"))
        return set(self.alerts) - set(sent.values_list("alert_id", flat=True))

    def pages(self, alert: int) -> list[str]:
        return list(
            Delivery.objects.filter(alert=alert, purpose="page").order_by("id").values_list("status", flat=True)
        )


@pytest.fixture
def outage(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    with ExitStack() as stack:
        stack.enter_context(escalation_enabled())
        desk = EscalationHarness(now)
        # A text without a provider would be kept in the sandbox, as sent.
        ContactMethod.objects.exclude(channel="email").delete()
        port = free_port()
        allow_loopback(monkeypatch, smtp_url=f"smtp://127.0.0.1:{port}", email_from="Tocsin <tocsin@example.org>")
        made = Outage(desk, port)
        stack.callback(made.box.close)
        yield made


@pytest.mark.parametrize("minutes", first(1, [20, 60]))
def test_every_page_leaves_within_30_seconds_after_an_outage(outage: Outage, minutes: int) -> None:
    outage.open()
    outage.run_loops()
    outage.pass_until(60 * minutes, step=STEP_WHILE_DOWN, opening_every=60)
    assert len(outage.unreached()) == len(outage.alerts) == minutes + 1
    assert {"pages_late", "alerts_unreached"} <= set(outage.audit())
    # The newest has been due for less than a minute.
    assert outage.gauge("tocsin_alerts_unreached") == minutes
    with outage.mail_server() as mails:
        outage.pass_until(60 * minutes + 30)
        assert outage.unreached() == set()
        assert Delivery.objects.filter(purpose="notice").exclude(status="sent").count() == 0
        assert outage.audit() == []
        assert outage.gauge("tocsin_alerts_unreached") == 0
        assert len(mails.mails) < 30, "what waited leaves bundled"
        assert any("No response" in subject for subject in mails.subjects)


@pytest.mark.parametrize(("count", "mails_sent"), [(1_500, 5), pytest.param(10_000, 34, marks=pytest.mark.long)])
def test_thousands_of_waiting_pages_leave_in_one_round_bundled(outage: Outage, count: int, mails_sent: int) -> None:
    parameters = {
        "now": outage.now, "user": outage.desk.users["bob"].pk, "name": "SMTP (default)", "count": count,
    }  # fmt: skip
    with database.transaction() as connection:
        connection.execute(_MANY, parameters)
    ProviderHealth.objects.create(
        name="SMTP (default)", failures=99, is_open=True, is_unresponsive=True, retry_at=outage.now, openings=1
    )
    with outage.mail_server() as mails:
        outage.seconds = 5
        outage.run_loops()
    assert set(Delivery.objects.values_list("status", flat=True)) == {"sent"}
    assert len(mails.mails) == mails_sent, "300 alerts in a mail"


_MANY = """
WITH a AS (
  INSERT INTO alerts_alert (subject, status, priority, opened_at, last_message_at)
  SELECT 'VPN', 'open', 'high', %(now)s, %(now)s FROM generate_series(1, %(count)s) RETURNING id
), n AS (
  INSERT INTO notify_notification (id, alert_id, user_id, purpose, channel, address, label, created_at)
  SELECT gen_random_uuid(), id, %(user)s, 'page', 'email', 'bob@example.org', 'Email', %(now)s FROM a
  RETURNING id, alert_id
)
INSERT INTO notify_delivery (id, notification_id, alert_id, user_id, channel, address, purpose, is_first, status,
                             provider_name, attempts, queued_at, due_at, late_since, is_exhausted)
SELECT gen_random_uuid(), id, alert_id, %(user)s, 'email', 'bob@example.org', 'page', true, 'queued',
       %(name)s, 9, %(now)s, %(now)s + interval '5 minutes', %(now)s, true FROM n
"""


def test_failing_page_leaves_immediately_when_its_provider_recovers(outage: Outage) -> None:
    """Its try began before, and ended in a timeout after."""
    alert = outage.open()
    outage.pass_until(60)
    (page,) = Delivery.objects.filter(alert=alert, purpose="page")
    page.due_at = outage.now
    page.save()
    with database.transaction() as connection:
        outage.box.provider_pool.refresh(connection)
        box = outage.box
        (job,) = claim(connection, box.provider_pool, {}, {}, node=box.node, slots=9, now=outage.now, pause=None).jobs
    began_at = outage.now
    with outage.mail_server():
        outage.pass_until(75)
        assert not ProviderHealth.objects.get().is_open
        result = SendResult(
            job, AttemptFailed(FailureKind.OUTCOME_UNKNOWN, as_reason("It did not answer.")), outage.now, began_at
        )
        with database.transaction() as connection:
            record(connection, outage.box.provider_pool, [result], outage.box.node, lambda: 0.0)
        outage.pass_until(80)
    assert outage.unreached() == set()


def test_provider_that_takes_pages_and_dies_gets_each_seldom(outage: Outage) -> None:
    """Its probes succeed, and each page may have arrived."""
    outage.desk.save(steps=[{"notify": {"roles": ["primary"]}, "after": "0m"}])
    with outage.mail_server() as mails:
        mails.answers += [""] * 1000
        alert = outage.open()
        outage.pass_until(7200)
        pages = [mail for mail in mails.mails if mail.message["X-Tocsin-Purpose"] == "page"]
        assert outage.pages(alert) == ["queued"]
        assert 5 <= len(pages) <= 10
        # It works again: another message shows it, and what waited leaves.
        mails.answers.clear()
        second = outage.open()
        outage.pass_until(7230)
    assert (outage.pages(alert), outage.pages(second)) == (["sent"], ["sent"])


def test_repeats_do_not_pile_up_during_an_outage(outage: Outage) -> None:
    outage.desk.save(repeat={"times": 8, "every": "5m"})
    alert = outage.open()
    outage.pass_until(3600, step=STEP_WHILE_DOWN)
    waiting = Delivery.objects.filter(alert=alert, purpose="page", status="queued", late_since__isnull=False)
    assert sorted(waiting.values_list("user__username", flat=True)) == ["alice", "bob"]
    repeats = Delivery.objects.filter(alert=alert, purpose="page", status="cancelled")
    assert repeats.count() > 4
    earlier = "An earlier page about this alert to the same address is still queued."
    assert {str(repeat.reason) for repeat in repeats} == {earlier}
    assert not Delivery.objects.filter(alert=alert, purpose="page", status="failed").exists()


@pytest.mark.parametrize("is_sending_first", [False, True])
@pytest.mark.parametrize("is_bundling", [False, True])
def test_standstill_leaves_one_page_an_alert_and_person(
    outage: Outage, is_sending_first: bool, is_bundling: bool
) -> None:
    with transaction.atomic():
        settings_store.set("bundle_pages", is_bundling)
    # Alice is paged by herself every three minutes, and by the policy every five.
    ContactMethod.objects.filter(user__username="alice").update(repeat_times=4, repeat_every=timedelta(minutes=3))
    outage.desk.save(steps=STEPS[:1], repeat={"times": 3, "every": "5m"})
    for _ in range(3):
        outage.open()
    with outage.mail_server() as mails:
        outage.pass_until(30)
        mails.mails.clear()
        outage.seconds = 900
        if is_sending_first:
            outage.box.run_once()
        outage.pass_until(960)
        text = "".join(mail.part("plain") for mail in mails.mails)
    assert [text.count(f"#{alert}") > 0 for alert in outage.alerts] == [True] * 3
    for alert in outage.alerts:
        assert Delivery.objects.filter(alert=alert, purpose="page", sent_at__gte=outage.desk.at(15)).count() == 1
    cancelled = Delivery.objects.filter(status="cancelled", alert__in=outage.alerts)
    assert {str(one.reason) for one in cancelled} == {
        "Several pages about this alert to the same address fell due before one could be sent. One is sent."
    }
    assert cancelled.count() == 9


def test_standstill_skips_no_method_that_was_not_tried(outage: Outage) -> None:
    alice = outage.desk.users["alice"]
    for label, minutes in (("Email-2", 2), ("Email-3", 4)):
        ContactMethod.objects.create(
            user=alice, label=label, channel="email", address=f"{label}@example.org", position=minutes,
            wait=timedelta(minutes=minutes), repeat_times=2, repeat_every=timedelta(minutes=3),
        )  # fmt: skip
    outage.desk.save(steps=STEPS[:1])
    outage.open()
    with outage.mail_server() as mails:
        outage.pass_until(30)
        outage.seconds = 900
        outage.pass_until(960)
    assert sorted(mail.to for mail in mails.mails if mail.message["X-Tocsin-Purpose"] == "page") == [
        "Email-2@example.org",
        "Email-3@example.org",
        "alice@example.org",
    ]


def test_an_answer_ends_the_retries(outage: Outage) -> None:
    alert = outage.open()
    outage.pass_until(1200, step=STEP_WHILE_DOWN)
    outage.desk.act(alert, Acknowledge(actor=outage.desk.actor("bob"), via=CommandChannel.WEB), outage.seconds / 60)
    outage.run_loops()
    assert set(outage.pages(alert)) == {"cancelled"}
    assert outage.audit() == []
    with outage.mail_server() as mails:
        outage.pass_until(1260)
    assert [m for m in mails.mails if m.message["X-Tocsin-Purpose"] == "page"] == []


def test_two_failed_providers_alternate_without_growing_queue(outage: Outage) -> None:
    second = free_port()
    provider("Second", "smtp", ["email"], host="127.0.0.1", port=second, sender="t@example.org")
    alert = outage.open()
    outage.pass_until(2400, step=STEP_WHILE_DOWN)
    pages = len(outage.pages(alert))
    tries = sum(Delivery.objects.filter(alert=alert).values_list("attempts", flat=True))
    outage.pass_until(3600, step=STEP_WHILE_DOWN)
    assert len(outage.pages(alert)) == pages
    assert sum(Delivery.objects.filter(alert=alert).values_list("attempts", flat=True)) > tries
    with smtp_double(port=second) as mails:
        outage.pass_until(3630)
        assert outage.unreached() == set()
        assert mails.mails


def test_alert_with_only_failed_pages_keeps_health_red(outage: Outage) -> None:
    with outage.mail_server() as mails, http_double() as outside:
        mails.answer_recipients += ["550 no such mailbox"] * 20
        outage.desk.save(steps=[{"notify": {"roles": ["primary"]}, "after": "0m"}])
        alert = outage.open()
        outage.run_loops()
        assert set(outage.pages(alert)) == {"failed"}
        for minutes in (2, 60, 600):
            outage.pass_until(60 * minutes, step=60 * minutes)
            assert "alerts_unreached" in outage.audit()
            SelfCheckRunner(now=lambda: outage.now, heartbeat_url=lambda: f"{outside.url}/ping").run_once()
            assert outside.requests == []
            assert outage.gauge("tocsin_paging_ok") == 0
            assert outage.gauge("tocsin_alerts_unreached") == 1
            assert any(f"#{alert}" in one.text for one in home.find_warnings(outage.now) if one.is_urgent)
            assert "paging.alerts_unreached" in [one.id for one in doctor_findings()]
            Audit.objects.update(checked_at=datetime.now(UTC) - timedelta(seconds=30))
        outage.desk.act(alert, Acknowledge(actor=outage.desk.actor("bob"), via=CommandChannel.WEB), outage.seconds / 60)
        outage.run_loops()
        assert outage.audit() == []


def doctor_findings() -> list[HealthFinding]:
    NodeHeartbeat(uuid7(), "all", list, "pager1").run_once()
    with database.transaction() as connection:
        return list(machine.check_running(connection))


@pytest.mark.parametrize("why", ["dry_run", "record", "is_test", "hold", "acknowledged", "pause", "closed", "quiet"])
def test_intentionally_silent_alert_is_no_false_alarm(outage: Outage, why: str) -> None:
    modes = {"dry_run": PagingMode.DRY_RUN, "record": PagingMode.LOG_ONLY}
    if why == "quiet":
        quiet = {"quiet_hours": [{"from": "09:00", "to": "12:00", "let_through": "critical"}]}
        people.save_notification_rules(outage.desk.users["alice"], quiet, actor=ACTOR, now=outage.now)
    alert = outage.open(mode=modes.get(why, PagingMode.PAGE))
    actor = outage.desk.actor("bob")
    match why:
        case "dry_run" | "is_test":
            Alert.objects.update(**{why: True})
        case "hold":
            outage.desk.act(alert, Hold(actor=actor, via=CommandChannel.WEB, until=outage.desk.at(600)), 0)
        case "acknowledged":
            outage.desk.act(alert, Acknowledge(actor=actor, via=CommandChannel.WEB), 0)
        case "closed":
            outage.desk.act(alert, Close(actor=actor, via=CommandChannel.WEB), 0)
        case "pause":
            Pause.objects.create(reason="works", started_at=outage.now, until=outage.desk.at(600))
    outage.pass_until(180, step=STEP_WHILE_DOWN)
    assert "alerts_unreached" not in outage.audit()
