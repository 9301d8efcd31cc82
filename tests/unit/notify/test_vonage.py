"""What only Vonage does: signatures in the body, a status for each message, and codes of receipts."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from tests.support.outbox_harness import allow_loopback
from tests.support.provider_servers.vonage import SIGNING_SECRET, refusal, sms_double
from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Permanent
from tocsin.notify.integrations import vonage
from tocsin.notify.interfaces import Callback, InvalidWebhookSignature, ProviderAccount, Rendered
from tocsin.notify.states import ReceiptState

AT = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def test_signature_is_that_of_the_vendors_own_library() -> None:
    fields = {"a": "1", "b": "2", "timestamp": "1461605396", "sig": "is not signed"}
    assert vonage.sign(fields, "secret", "md5hash") == "6af838ef94998832dbfc29020b564830"
    assert vonage.sign({"a": "x&y=z"}, "s", "sha256") == vonage.sign({"a": "x_y_z"}, "s", "sha256")


@pytest.mark.parametrize("method", ["md5hash", "md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("is_query", [True, False])
def test_signed_text_is_read_from_query_and_form(method: str, is_query: bool) -> None:
    fields = {"msisdn": "41790000001", "messageId": "m1", "text": "ack 42", "timestamp": str(int(AT.timestamp()))}
    fields["sig"] = vonage.sign(fields, SIGNING_SECRET, method)
    query, body = (fields, b"") if is_query else ({}, urlencode(fields).encode())
    account = ProviderAccount("V", {"signature_method": method}, {"signing_secret": SIGNING_SECRET})
    heard: list[Any] = []
    receiver = cast(Any, SimpleNamespace(handle_text=lambda message: heard.append(message) or ""))
    callback = Callback("sms", "GET", "https://t.example/hooks/v/sms", {}, query, body, AT)
    assert vonage.VonageKind().handle_webhook(account, callback, receiver).status == 200
    assert (heard[0].sender, heard[0].text) == ("+41790000001", "ack 42")
    unsigned = ProviderAccount("V", {"signature_method": method}, {})
    with pytest.raises(InvalidWebhookSignature):
        vonage.VonageKind().handle_webhook(unsigned, callback, receiver)


def test_only_the_first_part_of_a_long_text_is_read() -> None:
    heard: list[Any] = []
    receiver = cast(Any, SimpleNamespace(handle_text=lambda message: heard.append(message.text) or ""))
    account = ProviderAccount("V", {}, {"signing_secret": SIGNING_SECRET})
    for part in ("1", "2"):
        fields = {"msisdn": "41790000001", "messageId": part, "text": f"ack {part}", "concat": "true"}
        fields |= {"concat-part": part, "timestamp": str(int(AT.timestamp()))}
        fields["sig"] = vonage.sign(fields, SIGNING_SECRET, "sha256")
        vonage.VonageKind().handle_webhook(account, Callback("sms", "POST", "", {}, fields, b"", AT), receiver)
    assert heard == ["ack 1"]


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("3", FailureKind.NO_SUCH_ADDRESS),
        ("12", FailureKind.ADDRESS_REJECTED),
        ("8", FailureKind.TEMPORARY),
        ("99", FailureKind.PERMANENT),
    ],
)
def test_receipt_says_why_a_text_failed(code: str, failure: FailureKind) -> None:
    receipt = vonage._receipt({"messageId": "m1", "status": "failed", "err-code": code, "client-ref": "key"})
    assert (receipt.state, receipt.key, receipt.failure) == (ReceiptState.FAILED, "key", failure)
    assert str(receipt.reason).endswith(f"(Vonage {code}).")


def test_unknown_status_keeps_the_vendors_text(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    with sms_double() as double:
        double.answers.append(refusal("2", "Missing from param"))
        sender = vonage.VonageSender(ProviderAccount("V", double.settings, double.secrets, is_trusted=True))
        with pytest.raises(Permanent, match=r"Vonage rejected the text: Missing from param \(Vonage 2\)\."):
            sender.send(Rendered("", "VPN down"), "sms", "+41790000001", "key")
        sender.close()
