"""Why a provider did not send, cannot be used, or was not reached: the reason of each case."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tests.doubles.http import Response, http_double
from tests.doubles.smtp import smtp_double
from tests.doubles.telnyx import telnyx_double
from tests.support.notification_messages import page
from tests.support.outbox_harness import allow_loopback
from tocsin.core.delivery.circuit_breaker import AddressRejected, FailureKind
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import Reason
from tocsin.notify.channels import chat
from tocsin.notify.channels.chat import ChatChannel
from tocsin.notify.integrations import apprise as apprise_provider
from tocsin.notify.integrations import telnyx, twilio, twiml
from tocsin.notify.integrations.apprise import ChatServicesSender, RequestLog
from tocsin.notify.integrations.http_gateway import HttpGatewayKind
from tocsin.notify.integrations.mail_replies import MailRepliesKind
from tocsin.notify.integrations.smtp import SmtpSender, account_of_url
from tocsin.notify.interfaces import Callback, EventReceiver, ProviderAccount, Rendered
from tocsin.notify.providers.pool import KINDS
from tocsin.people import addresses

KEY = "0192f0c1-0000-7000-8000-000000000042"


def codes_of(error: Permanent) -> list[str]:
    """The code of the reason, and that of its remedy."""
    return [reason.code for reason in (error.reason, error.remedy_reason) if reason]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends a text by a gateway of these settings that answers each request with `{"id": 7}`."""
    allow_loopback(monkeypatch)

    def send(**settings: str) -> None:
        with http_double(lambda request: Response(200, b'{"id": 7}')) as server:
            account = ProviderAccount("SMS", {"api_base": server.url, **settings}, is_trusted=True)
            sender = HttpGatewayKind().open(account)
            try:
                sender.send(Rendered("", "VPN down"), "sms", "+41790000001", KEY)
            finally:
                sender.close()

    return send


@pytest.mark.parametrize(
    ("settings", "codes", "data"),
    [
        (
            {"body": '{"to": "<too>"}'},
            ["provider.gateway_unknown_placeholder", "provider.gateway_correct_it"],
            {"placeholder": "<too>"},
        ),
        ({"ok_path": "state"}, ["no {path}"], {"path": "state"}),
    ],
)  # fmt: skip
def test_gateway_reason_names_what_to_correct(
    gateway: Callable[..., None], settings: dict[str, str], codes: list[str], data: dict[str, str]
) -> None:
    with pytest.raises(Permanent) as raised:
        gateway(**settings)
    found = [*codes_of(raised.value), *json.dumps(raised.value.reason.data).split('"')]
    assert set(codes) <= set(found)
    assert all(text in json.dumps(raised.value.reason.data) for text in data.values())


def test_gateway_without_an_address_is_called_the_gateway() -> None:
    sender = HttpGatewayKind().open(ProviderAccount("SMS", {"api_base": ""}))
    name = cast(Any, sender)._name
    sender.close()
    assert name.code == "The gateway"


@pytest.mark.parametrize(
    ("fields", "code", "is_final"),
    [
        ({"CallStatus": "canceled"}, "provider.call_cancelled", False),
        ({"CallStatus": "failed", "SipResponseCode": "503"}, "provider.call_failed", False),
        ({"CallStatus": "failed", "SipResponseCode": "404"}, "provider.no_such_number", True),
        ({"CallStatus": "failed", "SipResponseCode": "480"}, "provider.phone_off", False),
    ],
)
def test_status_of_a_call_says_why_nobody_answered(fields: dict[str, str], code: str, is_final: bool) -> None:
    receipt = twiml.receipt("Twilio", KEY, {"CallSid": "CA1", **fields})
    assert cast(Reason, receipt.reason).code == code
    assert (receipt.failure is FailureKind.NO_SUCH_ADDRESS) == is_final
    assert str(receipt.reason) != code


def test_text_with_an_unknown_error_names_its_code() -> None:
    receipt = twilio._receipt(KEY, {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "99999"})
    assert "The text was not delivered" in json.dumps(cast(Reason, receipt.reason).data)
    assert "99999" in str(receipt.reason)


def test_telnyx_error_without_a_known_code_keeps_its_text() -> None:
    errors = [{"code": "99999", "title": "Carrier closed", "detail": ""}]
    receipt = telnyx._receipt(KEY, {"id": "1", "to": [{"status": "delivery_failed"}], "errors": errors})
    assert cast(Reason, receipt.reason).code == "provider.vendor_error"
    assert "Carrier closed" in str(receipt.reason)


def test_telnyx_without_balance_and_callbacks_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    with telnyx_double("KEY1") as double:
        double.http.answering = lambda request: Response(200, b'{"data": {}}')
        settings = {**double.settings, "texml_application_id": ""}
        sender = KINDS["telnyx"].open(ProviderAccount("Telnyx", settings, {"api_key": "KEY1"}, is_trusted=True))
        verified = sender.verify()
        sender.close()
    assert [part["code"] for part in verified.data["parts"]] == [
        "provider.signed_in", "provider.no_callbacks",
    ]  # fmt: skip


def test_mail_server_without_sign_in_needs_no_user() -> None:
    with smtp_double() as server:
        account = account_of_url("Mail", f"smtp://user:secret@127.0.0.1:{server.port}", "t@example.org")
        sender = SmtpSender(replace(account, is_trusted=True))
        with pytest.raises(Permanent) as raised:
            sender.verify()
        sender.close()
    assert codes_of(raised.value) == ["provider.smtp_no_sign_in", "provider.smtp_leave_empty"]
    assert raised.value.reason.data == {"host": "127.0.0.1"}


def test_a_forwarded_mail_must_be_posted() -> None:
    account = ProviderAccount("Replies", {}, {"post_secret": "secret"})
    callback = Callback(
        "mail", "GET", "https://t.example/hooks", {"authorization": "Bearer secret"}, {}, b"",
        datetime(2026, 11, 24, tzinfo=UTC),
    )  # fmt: skip
    with pytest.raises(Rejected) as rejected:
        MailRepliesKind().handle_webhook(account, callback, cast(EventReceiver, None))
    assert rejected.value.reason.code == "provider.mail_replies_use_post"


@pytest.mark.parametrize(
    ("responses", "codes"),
    [
        ([], ["provider.chat_not_callable", "provider.chat_enter_address_as_given"]),
        ([EgressResponse(200, {}, b"")], ["provider.chat_not_accepted"]),
        ([EgressResponse(200, {}, b'{"error": "muted"}')], ["provider.chat_not_accepted_with_answer"]),
    ],
)
def test_chat_service_that_took_no_message_is_named(responses: list[EgressResponse], codes: list[str]) -> None:
    log = RequestLog(HttpClient(), KEY, responses)
    with pytest.raises(AddressRejected) as raised:
        apprise_provider._raise_unless_accepted(log, False, "Gotify", [])
    assert codes_of(raised.value) == codes
    assert raised.value.reason["service"] == "Gotify"


def test_chat_address_no_longer_allowed_must_be_entered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    address = ChatChannel().normalize_address("gotify://push.example.org/AbcdefghijKLMNO")
    monkeypatch.setattr(chat, "SCHEMAS", frozenset())
    with pytest.raises(AddressRejected) as raised:
        ChatServicesSender(ProviderAccount("")).send(ChatChannel().render(page()), "chat", address, KEY)
    assert raised.value.remedy_reason.code == "provider.chat_enter_address"
    assert addresses.is_encrypted(address)


def test_chat_service_that_does_not_speak_http_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "SCHEMAS", frozenset({"mailto"}))
    with pytest.raises(Rejected) as rejected:
        ChatChannel().normalize_address("mailto://user:secret@example.org")
    assert (
        "{scheme}:// is not allowed: it is not HTTP-only."
        in json.dumps(rejected.value.reason.data) + rejected.value.reason.code
    )


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/v2/whoami", Response(200, b'{"data": {}}'), "did not say which organization"),
        ("/v2/texml_applications", Response(404, b'{"errors": [{"code": "10005"}]}'), "not know the TeXML application"),
    ],
)
def test_check_of_telnyx_tries_what_calls_need(path: str, answer: Response, reason: str) -> None:
    with telnyx_double("KEY1") as double:
        usual = double.http.answering
        double.http.answering = lambda asked: answer if asked.path.startswith(path) else usual(asked)
        sender = KINDS["telnyx"].open(ProviderAccount("Telnyx", double.settings, {"api_key": "KEY1"}, is_trusted=True))
        with pytest.raises(Permanent, match=reason):
            sender.verify()
        sender.close()
