"""Push messages reach users' browsers encrypted; expired subscriptions are marked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.doubles.http import Response
from tests.doubles.push import Browser, PushDouble, push_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, configured, outbox_harness
from tests.support.people import ACTOR
from tocsin.access.models import AuditEntry
from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.core.reasons import each_of
from tocsin.notify.integrations import web_push
from tocsin.notify.integrations.web_push import UNSUBSCRIBED
from tocsin.notify.models import ProviderHealth, PushDevice, PushKey, SandboxMessage
from tocsin.notify.text import signed_links
from tocsin.people.models import ContactMethod, User

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[PushDouble]:
    allow_loopback(monkeypatch)
    with push_double() as double:
        yield double


@pytest.fixture
def post(now: datetime) -> Iterator[OutboxHarness]:
    with outbox_harness(now) as office:
        yield office


def subscribed(user: User, browser: Browser, name: str, now: datetime) -> PushDevice:
    return web_push.subscribe(user, browser.subscription(), name, actor=ACTOR, now=now)


def only_push(post: OutboxHarness) -> User:
    user = post.user("alice")
    user.contact_methods.all().delete()
    return user


def test_page_reaches_every_device_signed_with_installation_key(service: PushDouble, post: OutboxHarness) -> None:
    alice = only_push(post)
    service.public = web_push.pair(post.now).public
    assert web_push.pair(post.now) == web_push.pair(post.now)
    assert PushKey.objects.get().private not in (web_push.pair(post.now).private, "")
    phone, laptop = service.browser(), service.browser()
    subscribed(alice, phone, "Phone", post.now)
    subscribed(alice, laptop, "Laptop", post.now)
    method = ContactMethod.objects.get(user=alice)
    assert (method.label, method.channel, method.verified_at) == ("Push", "push", post.now)
    alert = post.alert()
    post.page(alert, "alice")
    post.go()
    assert post.states() == [("Push", "sent", "Web Push")]
    (body,), (also,) = phone.received, laptop.received
    assert body == also
    assert body["title"] == "🔴 P1 Critical: Acme: VPN down"
    assert signed_links.verify(body["token"], post.now) == (alert, alice.pk)
    assert {h["urgency"] for h in service.headers} == {"high"}
    assert SandboxMessage.objects.count() == 0


def test_expired_browser_subscription_is_marked_and_not_retried(service: PushDouble, post: OutboxHarness) -> None:
    alice = only_push(post)
    phone, laptop = service.browser(), service.browser()
    push_device = subscribed(alice, phone, "Phone", post.now)
    subscribed(alice, laptop, "Laptop", post.now)
    phone.is_gone = True
    post.page(post.alert(), "alice")
    post.go()
    assert post.states() == [("Push", "sent", "Web Push")]
    push_device.refresh_from_db()
    assert push_device.gone_at is not None
    assert push_device.last_error == UNSUBSCRIBED()
    assert push_device.subscription == ""
    request_count = len(service.http.requests)
    laptop.is_gone = True
    post.page(post.alert("Disk full"), "alice")
    post.go(60)
    assert len(service.http.requests) == request_count + 1
    failed = post.deliveries()[-1]
    assert failed.status == "failed"
    assert "Laptop" in str(failed.error)
    # A person who took a browser away says nothing against the way to all others.
    assert not ProviderHealth.objects.filter(failures__gt=0).exists()
    # The browser subscribes again: it is the same device.
    phone.is_gone = False
    again = subscribed(alice, phone, "Phone", post.now)
    assert (again.pk, again.gone_at) == (push_device.pk, None)


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (413, {"push.too_long"}),
        (403, {"provider.message_rejected", "push.subscribe_again"}),
        (307, {"provider.redirected", "push.subscribe_again"}),
    ],
)
def test_rejected_push_names_what_the_user_can_do(
    service: PushDouble, post: OutboxHarness, status: int, codes: set[str]
) -> None:
    subscribed(only_push(post), service.browser(), "Phone", post.now)
    service.answers = [Response(status)]
    post.page(post.alert(), "alice")
    post.go()
    (delivery,) = post.deliveries()
    assert (delivery.status, delivery.is_permanent) == ("queued", True)
    assert {one.code for one in each_of(delivery.error)} == codes


def test_number_of_devices_of_a_user_is_limited(service: PushDouble, post: OutboxHarness) -> None:
    alice = only_push(post)
    for number in range(web_push.MAX_DEVICES):
        subscribed(alice, service.browser(), f"Phone {number}", post.now)
    with pytest.raises(Rejected) as caught:
        subscribed(alice, service.browser(), "Tablet", post.now)
    assert (caught.value.code, caught.value.reason.code) == ("too_many", "push.too_many_devices")


def test_a_push_service_in_trouble_is_tried_again(service: PushDouble, post: OutboxHarness) -> None:
    alice = only_push(post)
    phone = service.browser()
    device = subscribed(alice, phone, "Phone", post.now)
    service.answers = [Response(503), Response(429, headers={"Retry-After": "5"})]
    post.page(post.alert(), "alice")
    post.go()
    assert post.states()[0][1] == "queued"
    device.refresh_from_db()
    assert "internal problem (503)" in str(device.last_error)
    for seconds in (10, 60, 120):
        post.go(seconds)
    assert post.states()[0][1] == "sent"
    assert len(phone.received) == 1
    device.refresh_from_db()
    assert not device.last_error


def test_a_private_push_service_is_refused(
    service: PushDouble, post: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = only_push(post)
    subscribed(alice, service.browser(), "Phone", post.now)
    configured(monkeypatch, allow_targets=())
    assert environment.current().allow_targets == ()
    post.page(post.alert(), "alice")
    post.go()
    assert "private address" in str(post.deliveries()[0].error)
    assert service.http.requests == []


def test_devices_are_named_removed_audited_and_last_removes_contact_method(
    service: PushDouble, post: OutboxHarness
) -> None:
    alice = only_push(post)
    first = subscribed(alice, service.browser(), "Phone", post.now)
    second = subscribed(alice, service.browser(), "Laptop", post.now)
    web_push.rename(first, "  Old   phone ", actor=ACTOR, now=post.now)
    assert first.name == "Old phone"
    with pytest.raises(Rejected):
        web_push.rename(first, " ", actor=ACTOR, now=post.now)
    web_push.remove(first, actor=ACTOR, now=post.now)
    assert ContactMethod.objects.filter(user=alice, channel="push").count() == 1
    web_push.remove(second, actor=ACTOR, now=post.now)
    assert not ContactMethod.objects.filter(user=alice, channel="push").exists()
    entries = AuditEntry.objects.filter(object_type="push_device").order_by("id")
    assert [entry.action for entry in entries] == ["create", "create", "update", "delete", "delete"]
    text = " ".join(f"{entry.before}{entry.after}" for entry in entries)
    assert "/push/" not in text


def test_browser_with_new_user_notifies_only_that_user(service: PushDouble, post: OutboxHarness) -> None:
    alice, bob = only_push(post), post.user("bob")
    phone = service.browser()
    subscribed(alice, phone, "Phone", post.now)
    device = subscribed(bob, phone, "Phone", post.now)
    assert device.user == bob
    post.page(post.alert(), "alice")
    post.go()
    assert phone.received == []
    assert post.deliveries()[0].status == "failed"
