"""What a provider refuses is not lost, whatever its kind: only an address that does not exist ends a page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.ntfy import ntfy_double
from tests.doubles.smtp import SmtpDouble
from tests.support.outbox_harness import OutboxHarness, allow_loopback, provider
from tests.support.people import ACTOR
from tests.support.provider_servers import PROVIDER_SERVERS
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, REFUSALS, ProviderServer
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.models import Delivery, Notification, Provider, ProviderHealth
from tocsin.notify.notices import Notice, queue_notice
from tocsin.notify.providers.commands import provider_spec, save_provider

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(params=sorted(PROVIDER_SERVERS))
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    """The only provider of its channel; Alice has an address there, and Erin administers."""
    allow_loopback(monkeypatch)
    with PROVIDER_SERVERS[request.param]() as made:
        account = made.account
        provider(account.name, request.param, [made.channel], secrets=dict(account.secrets), **account.settings)
        # A bot posts only where it is installed.
        bot = str(account.settings.get("client_id", ""))
        if (place := account.find_place(bot, made.address)) is not None:
            ProviderEventReceiver(account.name, clock.now()).save_place(bot, made.address, place)
        yield made


def _page(post: OutboxHarness, server: ProviderServer) -> int:
    post.user("alice", {"label": "First", "channel": server.channel, "address": server.address})
    post.page(alert := post.alert(), "alice")
    return alert


@pytest.mark.parametrize("why", REFUSALS)
def test_refused_page_is_reported_at_once_and_leaves_later(
    post: OutboxHarness, server: ProviderServer, why: str
) -> None:
    post.user("erin", role="admin")
    alert = _page(post, server)
    server.refuse[why]()
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.late_since, delivery.due_at) == ("queued", post.now, post.at(5))
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1
    assert Notification.objects.filter(purpose="notice").count() == 1
    post.go(5)
    assert [d.status for d in post.deliveries(alert)] == ["sent"]
    assert server.accepted() >= 1
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1


def test_refused_page_leaves_when_its_provider_is_saved(post: OutboxHarness, server: ProviderServer) -> None:
    alert = _page(post, server)
    for second in (0, 5, 35, 155):
        server.refuse["credentials"]()
        post.go(second)
    assert Delivery.objects.get(alert=alert).due_at == post.at(455)
    row = Provider.objects.get()
    post.seconds = 200
    save_provider({**provider_spec(row, with_secrets=True), "order": 2}, existing=row, actor=ACTOR, now=post.now)
    post.go(200)
    assert Delivery.objects.get(alert=alert).status == "sent"


def test_only_an_address_that_does_not_exist_ends_a_page(post: OutboxHarness, server: ProviderServer) -> None:
    if NO_SUCH_ADDRESS not in server.refuse:
        pytest.skip("its vendor does not report that an address does not exist")
    alert = _page(post, server)
    server.refuse[NO_SUCH_ADDRESS]()
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.is_permanent, delivery.is_final) == ("failed", True, True)
    assert server.accepted() == 0


@pytest.mark.parametrize("is_known", [False, True])
def test_administrators_hear_of_a_dead_mail_server_otherwise(
    post: OutboxHarness, mail: SmtpDouble, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    allow_loopback(monkeypatch)
    post.user("alice")
    post.user(
        "erin",
        {"label": "Email", "channel": "email", "address": "erin@example.org"},
        {"label": "Push", "channel": "ntfy", "address": "erin-topic"},
        {"label": "Phone", "channel": "voice", "address": "+41790000001"},
        role="admin",
    )
    mail.refuses = "550 not permitted"
    with ntfy_double() as push:
        provider("Push", "ntfy", ["ntfy"], api_base=push.url)
        if is_known:
            ProviderHealth.objects.create(name="SMTP (default)", is_open=True, failures=3)
        post.page(post.alert(), "alice")
        for second in (0, 5, 35, 155, 455):
            post.go(second)
        (message,) = push.messages
    assert message["topic"] == "erin-topic"
    assert message["title"] == "A message could not be sent"
    mail.refuses = ""
    post.go(755)
    assert "[Tocsin] A message could not be sent" in mail.subjects


def test_refused_notice_to_an_administrator_leaves_later(post: OutboxHarness, mail: SmtpDouble) -> None:
    erin = post.user("erin", role="admin")
    with database.transaction() as connection:
        queue_notice(connection, Notice(as_reason("Hello"), as_reason("World")), post.now, user_ids=[erin.pk])
    mail.refuses = "550 not permitted"
    for second in (0, 5, 35, 155, 455):
        post.go(second)
    mail.refuses = ""
    post.go(755)
    assert [d.status for d in post.deliveries()] == ["sent"]
