"""What a provider refuses is not lost, whatever its kind: only an address that does not exist ends a page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.outbox_harness import OutboxHarness, allow_loopback, provider
from tests.support.people import ACTOR
from tests.support.provider_servers import PROVIDER_SERVERS
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, REFUSALS, ProviderServer
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database
from tocsin.core.reasons import as_reason
from tocsin.notify.enqueue.notices import Notice, queue_notice
from tocsin.notify.models import Delivery, Notification, Provider
from tocsin.notify.providers.commands import provider_spec, save_provider

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(params=sorted(PROVIDER_SERVERS))
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    """The only provider of its channel; Alice has an address there, and Erin administers."""
    allow_loopback(monkeypatch)
    with PROVIDER_SERVERS[request.param]() as made:
        account = made.account
        provider(account.name, request.param, [made.channel], secrets=dict(account.secrets), **account.settings)
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
