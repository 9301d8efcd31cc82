"""A send that never returns fails at its deadline and uses no other provider's threads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network

import pytest

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.outbox_harness import OutboxHarness, configured, provider
from tocsin.core.delivery.circuit_breaker import MIN_FAILURES, TRIAL_AFTER, fair_concurrency
from tocsin.notify.dispatch.dispatcher import FAILOVER_DEADLINE, MAX_STUCK
from tocsin.notify.models import Delivery, ProviderHealth
from tocsin.notify.notices import send_test
from tocsin.notify.providers.pool import KINDS
from tocsin.notify.rules.page_planner import TIMED_OUT

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpDouble]:
    with smtp_double() as double:
        configured(monkeypatch, smtp_url=double.url, email_from="Tocsin <tocsin@example.org>", allow_targets=LOOPBACK)
        yield double


LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass
class SilentServer:
    """A server that takes connections and never says a word. At the end it resets them."""

    listener: socket.socket
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def wait_for(self, count: int) -> None:
        """Waits until that many sends have connected."""
        while len(self.connections) < count:
            self.connections.append(self.listener.accept()[0])


@contextmanager
def silent_server() -> Iterator[SilentServer]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(10)
        server = SilentServer(listener)
        yield server
        listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                server.connections.append(listener.accept()[0])
        for connection in server.connections:
            connection.close()


def test_a_send_past_its_deadline_moves_to_the_next_provider(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    elapsed = [0.0]
    box = post.outbox(elapsed=lambda: elapsed[0])
    with silent_server() as silent:
        provider("Silent", "smtp", ["email"], host="127.0.0.1", port=silent.port, security="none")
        post.page(alert := post.alert(), "alice")
        box.run_once()
        silent.wait_for(1)
        assert box.stuck_senders() == {}
        elapsed[0] = 9
        post.go(9)
        assert post.states(alert) == [
            ("Email-Official", "failed", "Silent"),
            ("Email-Official", "sent", "SMTP (default)"),
        ]
        (failed, _) = post.deliveries(alert)
        assert failed.error == TIMED_OUT(duration=timedelta(seconds=FAILOVER_DEADLINE))
        assert failed.outcome_unknown_at is not None
        assert box.stuck_senders() == {}
        elapsed[0] = 90
        assert box.stuck_senders() == {"Silent": 1}
    assert box.in_flight.wait_until(lambda jobs: not box.stuck_senders(), 20)


def test_the_only_provider_has_ninety_seconds(post: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, allow_targets=LOOPBACK)
    post.user("alice")
    elapsed = [0.0]
    box = post.outbox(elapsed=lambda: elapsed[0])
    with silent_server() as silent:
        provider("Silent", "smtp", ["email"], host="127.0.0.1", port=silent.port, security="none")
        post.page(alert := post.alert(), "alice")
        box.run_once()
        silent.wait_for(1)
        elapsed[0] = 89
        box.run_once()
        assert [status for _, status, _ in post.states(alert)] == ["sending"]
        elapsed[0] = 90
        box.run_once()
        assert post.deliveries(alert)[0].error == TIMED_OUT(duration=timedelta(seconds=90))
    assert box.in_flight.wait_until(lambda jobs: not box.stuck_senders(), 20)


@pytest.mark.parametrize("is_next_failing", [False, True])
def test_pages_wait_two_seconds_for_a_busy_provider(
    post: OutboxHarness, mail: SmtpDouble, is_next_failing: bool
) -> None:
    ProviderHealth.objects.create(name="SMTP (default)", is_open=is_next_failing)
    busy = KINDS["smtp"].max_concurrent_sends
    names = [f"user{number}" for number in range(busy + 10)]
    for name in names:
        post.user(name)
    box = post.outbox(elapsed=lambda: 0.0)
    with silent_server() as silent:
        provider("Silent", "smtp", ["email"], host="127.0.0.1", port=silent.port, security="none")
        post.page(post.alert(), *names)
        for seconds, sent in ((0, 0), (1, 0), (2, 0 if is_next_failing else 10)):
            post.seconds = seconds
            for _ in range(3):
                box.run_once()
            assert box.in_flight.wait_until(lambda jobs: len(jobs) <= busy, 20)
            assert Delivery.objects.filter(status="sent").count() == len(mail.mails) == sent
        assert Delivery.objects.filter(status="sending", provider_name="Silent").count() == busy


def test_slow_provider_gets_fewer_senders_while_another_is_free(post: OutboxHarness, mail: SmtpDouble) -> None:
    names = [f"user{number}" for number in range(12)]
    for name in names:
        post.user(name)
    box = post.outbox(elapsed=lambda: 0.0)
    box.latencies.record("Silent", 10)
    with silent_server() as silent:
        provider("Silent", "smtp", ["email"], host="127.0.0.1", port=silent.port, security="none")
        post.page(post.alert(), *names)
        box.run_once()
        share = fair_concurrency(KINDS["smtp"].max_concurrent_sends, 10)
        assert box.in_flight.wait_until(lambda jobs: len(jobs) <= share, 20)
        assert Delivery.objects.filter(status="sending", provider_name="Silent").count() == share
        assert len(mail.mails) == len(names) - share


def test_tests_of_a_hanging_server_leave_senders_for_pages(
    post: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(monkeypatch, allow_targets=LOOPBACK)
    alice = post.user("alice")
    share = KINDS["smtp"].max_concurrent_sends // 4
    box = post.outbox(elapsed=lambda: 0.0)
    with silent_server() as silent:
        row = provider("Silent", "smtp", ["email"], host="127.0.0.1", port=silent.port, security="none")
        for number in range(4 * share):
            send_test(row, "email", f"{number}@example.org", user=alice, now=post.now)
        box.run_once()
        silent.wait_for(share)
        post.page(alert := post.alert(), "alice")
        post.seconds = 1
        box.run_once()
        silent.wait_for(share + 1)
        assert [status for _, status, _ in post.states(alert)] == ["sending"]
        assert Delivery.objects.filter(status="sending").count() == share + 1


def test_a_provider_that_hangs_takes_few_threads(post: OutboxHarness, mail: SmtpDouble) -> None:
    names = [f"user{number}" for number in range(MAX_STUCK + 3)]
    for name in names:
        post.user(name)
    elapsed = [0.0]
    box = post.outbox(elapsed=lambda: elapsed[0])
    with silent_server() as silent:
        provider("Silent", "smtp", ["email"], host="127.0.0.1", port=silent.port, security="none")
        post.page(post.alert(), *names[:MAX_STUCK])
        box.run_once()
        silent.wait_for(MAX_STUCK)
        elapsed[0] = 90
        post.go(90)
        assert box.stuck_senders() == {"Silent": MAX_STUCK}
        post.page(post.alert("Later"), *names[MAX_STUCK:])
        post.go(91)
        assert box.stuck_senders() == {"Silent": MAX_STUCK}
        assert not Delivery.objects.exclude(status__in=("sent", "failed")).exists()
        assert len(mail.mails) == len(names)


def test_node_that_alone_cannot_send_leaves_pages_to_others(post: OutboxHarness, mail: SmtpDouble) -> None:
    elapsed = [0.0]
    here, elsewhere = post.outbox(elapsed=lambda: elapsed[0]), post.outbox()
    for name in ("bob", "carol", "dave", *(f"user{number}" for number in range(MIN_FAILURES))):
        post.user(name)
    for number in range(MIN_FAILURES):
        mail.answers.append("451 later")
        post.page(post.alert(), f"user{number}")
        post.go(number, here)
        post.page(post.alert(), "bob")
        post.go(number + 0.5, elsewhere)
    post.page(first := post.alert(), "carol")
    post.go(3, here)
    assert [status for _, status, _ in post.states(first)] == ["queued"]
    post.go(3, elsewhere)
    assert [status for _, status, _ in post.states(first)] == ["sent"]
    elapsed[0] = TRIAL_AFTER
    post.page(second := post.alert(), "dave")
    post.go(3.5, here)
    assert [status for _, status, _ in post.states(second)] == ["sent"]


def test_a_node_without_others_goes_on(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    box = post.outbox(elapsed=lambda: 0.0)
    mail.answers += ["451 later"] * (MIN_FAILURES - 1)
    post.page(alert := post.alert(), "alice")
    for seconds in (0, 10, 50):
        post.go(seconds, box)
    assert [status for _, status, _ in post.states(alert)] == ["sent"]
