"""The content of a push message, and its encryption."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidTag

from tests.doubles.push import Browser
from tests.support.notification_messages import EXTREME, every_purpose, page
from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.notify.channels.chat import PushChannel
from tocsin.notify.integrations import web_push
from tocsin.notify.integrations.web_push import payload
from tocsin.notify.rules import responder_readiness
from tocsin.notify.rules.page_planner import ContactMethodRule, NotificationMethod, Recipient
from tocsin.notify.text import signed_links
from tocsin.web.push import device_name

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
HOME = "https://tocsin.example.org"


def message_with_link(user_id: int | None = 7) -> dict[str, object]:
    message = page()
    link = f"{HOME}/alerts/42" if user_id is None else HOME + signed_links.path(signed_links.sign(42, user_id, NOW))
    linked = replace(message, alerts=(replace(message.alerts[0], link=link),))
    return dict(json.loads(payload(PushChannel().render(linked), str(message.notification_id))))


def test_push_carries_token_buttons_and_target_page() -> None:
    says = message_with_link()
    assert [act["action"] for act in says["acts"]] == ["acknowledge", "assign", "close"]  # type: ignore[attr-defined]
    assert signed_links.verify(str(says["token"]), NOW) == (42, 7)
    assert says["url"] == f"/a/{says['token']}"
    assert says["tag"] == "alert-42"
    assert says["is_urgent"] is True


def test_what_is_not_for_one_person_has_no_buttons() -> None:
    says = message_with_link(None)
    assert "acts" not in says
    assert "token" not in says
    assert says["url"] == "/alerts/42"


@pytest.mark.parametrize("text", EXTREME.values(), ids=EXTREME)
def test_every_push_fits_and_only_its_browser_decrypts_it(text: str) -> None:
    mine, other = Browser("https://push.example.org/1"), Browser("https://push.example.org/2")
    for message in every_purpose(text):
        data = payload(PushChannel().render(message), str(message.notification_id))
        assert len(data) <= web_push.MAX_PAYLOAD_BYTES
        sealed = web_push.encrypted(data, web_push.parse_subscription(mine.subscription()))
        assert len(sealed) <= 4096
        assert mine.opened(sealed) == data
        with pytest.raises(InvalidTag):
            other.opened(sealed)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": "ftp://x/y"}, "endpoint"),
        ({"endpoint": "https://push.example.org/" + "x" * 2000}, "endpoint"),
        ({"keys": None}, "keys.p256dh"),
        ({"keys": {"p256dh": "AAAA", "auth": "AAAA"}}, "keys.p256dh"),
        ({"keys": {"p256dh": "B" * 87, "auth": "AAAA"}}, "keys.p256dh"),
    ],
)
def test_a_subscription_that_no_push_could_reach_is_refused(change: dict[str, object], place: str) -> None:
    with pytest.raises(Rejected) as caught:
        web_push.parse_subscription({**Browser("https://push.example.org/1").subscription(), **change})
    assert caught.value.field == place


def test_an_address_of_devices_is_known_and_cannot_be_guessed() -> None:
    made = {web_push.new_address() for _ in range(50)}
    kind = web_push.WebPushKind()
    assert len(made) == 50
    assert all(kind.accepts("push", address) for address in made)
    assert not kind.accepts("push", "alice-topic")


def test_a_device_begins_with_the_name_of_its_browser() -> None:
    android = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131.0 Mobile Safari/537.36"
    iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Mobile Safari/604.1"
    edge = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/131.0 Safari/537.36 Edg/131.0"
    assert [device_name(one) for one in (android, iphone, edge, "curl")] == [
        "Chrome on Android", "Safari on iPhone", "Edge on Windows", "This device",
    ]  # fmt: skip


def test_rules_report_push_only_high_priority_notifications() -> None:
    push, text = NotificationMethod("Push", "push", "devices:x"), NotificationMethod("Text", "sms", "+41790000001")
    assert responder_readiness.push_only_priorities(Recipient(1, "Alice")) == ()
    assert responder_readiness.push_only_priorities(Recipient(1, "Alice", (push,))) == (
        Priority.CRITICAL,
        Priority.HIGH,
    )
    assert responder_readiness.push_only_priorities(Recipient(1, "Alice", (push, text))) == ()
    assert responder_readiness.push_only_priorities(Recipient(1, "Alice", (push, replace(text, is_enabled=False)))) == (
        Priority.CRITICAL, Priority.HIGH,
    )  # fmt: skip
    rules = {Priority.HIGH: (ContactMethodRule("Push"),), Priority.LOW: (ContactMethodRule("Push"),)}
    assert responder_readiness.push_only_priorities(Recipient(1, "Alice", (push, text), rules=rules)) == (
        Priority.HIGH,
    )
