"""Pushover: its priorities and limits, keys that are no person's, quota, and callbacks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.notification_messages import page
from tests.support.provider_servers.pushover import (
    GROUP,
    RESET,
    TOKEN,
    USER,
    PushoverDouble,
    pushover_double,
    refusal,
)
from tocsin.alerts.states import Priority
from tocsin.core.delivery.circuit_breaker import AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected
from tocsin.notify.integrations.pushover import (
    PushoverChannel,
    PushoverKind,
    PushoverSender,
    callback_token,
    emergency_times,
    message_of,
)
from tocsin.notify.interfaces import (
    Callback,
    MessageButton,
    ProviderAccount,
    ReceiptReport,
    Rendered,
    Repeats,
)

URGENT = replace(PushoverChannel().render(page()), repeats=Repeats(timedelta(minutes=10), ("tag",)))


@pytest.fixture
def double():  # type: ignore[no-untyped-def]
    with pushover_double() as made:
        yield made


def sender(double: PushoverDouble, token: str = TOKEN) -> PushoverSender:
    return PushoverSender(ProviderAccount("P", {"api_base": double.http.url}, {"app_token": token}, is_trusted=True))


@pytest.mark.parametrize(
    ("seconds", "times"),
    [
        (0, (30, 30)),
        (60, (30, 60)),
        (600, (60, 600)),
        (1800, (60, 1800)),
        (10_000, (200, 10_000)),
        (99_999, (216, 10_800)),
    ],
)
def test_repeats_keep_within_the_vendors_limits(seconds: int, times: tuple[int, int]) -> None:
    retry, expire = emergency_times(timedelta(seconds=seconds))
    assert (retry, expire) == times
    assert retry >= 30
    assert expire <= 10_800
    assert expire / retry <= 50


def test_urgent_page_is_an_emergency_with_its_tag(double: PushoverDouble) -> None:
    receipt = sender(double).send(URGENT, "pushover", USER, "key")
    (message,) = double.messages
    assert receipt == double.newest
    assert (message["priority"], message["retry"], message["expire"], message["tags"]) == (2, 60, 600, "tag")
    assert message["url"].startswith("https://tocsin.example.org/a/")
    assert "callback" not in message


@pytest.mark.parametrize(("priority", "expected"), [("high", 1), ("medium", 0), ("low", -1)])
def test_other_messages_have_their_alerts_priority(priority: str, expected: int) -> None:
    rendered = replace(URGENT, repeats=None, priority=Priority(priority))
    assert message_of(rendered, {})["priority"] == expected


def test_test_rings_as_a_page_does() -> None:
    fields = message_of(Rendered("Test", "Text", is_test=True), {"sound_urgent": "siren", "sound": "bike"})
    assert (fields["priority"], fields["sound"]) == (1, "siren")


def test_links_that_do_not_fit_follow_the_text() -> None:
    long = "https://tocsin.example.org/" + "a" * 500
    buttons = (MessageButton("Acknowledge", long), MessageButton("Open the ticket", "https://halo.example.org/1"))
    fields = message_of(Rendered("S" * 300, "Text", buttons=buttons), {})
    assert fields["message"].splitlines() == ["Text", long, "Open the ticket: https://halo.example.org/1"]
    assert "url" not in fields
    assert len(fields["title"]) == 250


def test_address_has_the_form_of_a_key() -> None:
    channel = PushoverChannel()
    assert channel.normalize_address(f" {USER} ") == USER
    for other in ("alice@example.org", USER[:-1], f"{USER}x", "pover://a@b", "ü" * 30):
        with pytest.raises(Rejected, match="no user key"):
            channel.normalize_address(other)


def test_group_key_is_refused_with_the_reason(double: PushoverDouble) -> None:
    with pytest.raises(AddressRejected, match="key of a group"):
        sender(double).check_address(GROUP)
    sender(double).check_address(USER)


def test_key_of_an_application_is_no_user(double: PushoverDouble) -> None:
    with pytest.raises(NoSuchAddress, match="knows no user"):
        sender(double).check_address(TOKEN)


def test_user_without_a_device_is_named(double: PushoverDouble) -> None:
    double.answers.append(refusal(400, "user is valid but has no active devices", user="no active devices"))
    with pytest.raises(AddressRejected, match="no active device") as caught:
        sender(double).send(URGENT, "pushover", USER, "key")
    assert not isinstance(caught.value, NoSuchAddress)


def test_exhausted_quota_is_refused_at_once_and_known(double: PushoverDouble) -> None:
    double.used = double.limit
    made = sender(double)
    with pytest.raises(Permanent, match="no more messages"):
        made.send(URGENT, "pushover", USER, "key")
    assert made.quota is not None
    assert (made.quota.limit, made.quota.left) == (10_000, 0)
    assert made.quota.resets_at == datetime.fromtimestamp(RESET, UTC)


@pytest.mark.parametrize("value", ["", "many", "-1", "9" * 40, "1e3"])
def test_odd_quota_headers_are_ignored(double: PushoverDouble, value: str) -> None:
    double.answers.append(refusal(400, "message cannot be blank", headers={"X-Limit-App-Limit": value}))
    made = sender(double)
    with pytest.raises(Permanent):
        made.send(URGENT, "pushover", USER, "key")
    assert made.quota is None


def test_receipt_says_who_answered_and_on_which_device(double: PushoverDouble) -> None:
    made = sender(double)
    receipt = made.send(URGENT, "pushover", USER, "key")
    assert made.fetch_receipt(receipt) == ReceiptReport()
    double.receipts[receipt]["last_delivered_at"] = 1
    assert made.fetch_receipt(receipt) == ReceiptReport(is_delivered=True)
    double.acknowledge(receipt, device="Alice's\nphone")
    assert made.fetch_receipt(receipt) == ReceiptReport(True, USER, "Alice's phone", is_over=True)
    assert made.fetch_receipt("r" * 30).is_over


def test_ending_what_has_ended_is_no_error(double: PushoverDouble) -> None:
    made = sender(double)
    made.end_repeats(made.send(URGENT, "pushover", USER, "key"))
    made.end_repeats(tag="tag")
    made.end_repeats(tag="another")
    made.end_repeats("r" * 30)
    assert double.ended == [double.newest, "tag", "another"]


class _Receiver:
    def __init__(self) -> None:
        self.hastened: list[str] = []

    def hasten_poll(self, external_id: str) -> None:
        self.hastened.append(external_id)


@pytest.mark.parametrize("endpoint", ["", "receipt", callback_token("another"), callback_token(TOKEN)[:-1], "ü"])
def test_callback_without_its_token_is_refused(endpoint: str) -> None:
    receiver = _Receiver()
    callback = Callback(endpoint, "POST", "", {}, {}, b"receipt=r1&acknowledged=1", datetime.now(UTC))
    with pytest.raises(Rejected, match="no such address"):
        PushoverKind().handle_webhook(ProviderAccount("P", {}, {"app_token": TOKEN}), callback, receiver)  # type: ignore[arg-type]
    assert receiver.hastened == []


def test_callback_only_hastens_the_question() -> None:
    receiver = _Receiver()
    callback = Callback(callback_token(TOKEN), "POST", "", {}, {}, b"receipt=r1&acknowledged=1", datetime.now(UTC))
    answer = PushoverKind().handle_webhook(ProviderAccount("P", {}, {"app_token": TOKEN}), callback, receiver)  # type: ignore[arg-type]
    assert answer.status == 200
    assert receiver.hastened == ["r1"]
