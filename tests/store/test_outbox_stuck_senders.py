"""A send that never returns fails at its deadline and uses no other provider's threads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_network

import pytest

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.outbox_harness import OutboxHarness, configured, outbox_harness, provider
from tocsin.notify.dispatch.stuck_senders import MAX_STUCK
from tocsin.notify.models import Delivery
from tocsin.notify.rules.delivery_reasons import TIMED_OUT

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpDouble]:
    with smtp_double() as double:
        configured(monkeypatch, smtp_url=double.url, email_from="Tocsin <tocsin@example.org>", allow_targets=LOOPBACK)
        yield double


@pytest.fixture
def post(database: str, now: datetime) -> Iterator[OutboxHarness]:
    with outbox_harness(now) as office:
        yield office


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
        elapsed[0] = 90
        post.go(90)
        assert post.states(alert) == [
            ("Email-Official", "failed", "Silent"),
            ("Email-Official", "sent", "SMTP (environment)"),
        ]
        assert box.stuck_senders() == {"Silent": 1}
        (failed, _) = post.deliveries(alert)
        assert failed.error == TIMED_OUT(duration=timedelta(seconds=90))
        assert failed.outcome_unknown_at is not None
    assert box.in_flight.wait_until(lambda jobs: not box.stuck_senders(), 20)


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
