"""Amazon SNS: signatures, certificate and confirmation URLs, and the alarm inside a message."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tocsin.catalogue.hooks import Payload
from tocsin.catalogue.kinds import cloudwatch, load_kinds
from tocsin.core.errors import Permanent
from tocsin.core.reasons import as_reason, reason_from
from tocsin.inbound import webhook_endpoint
from tocsin.inbound.ingest_service import HttpError

AT = datetime(2026, 11, 24, 2, 10, 42, tzinfo=UTC)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY, until: datetime | None = None) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(AT - timedelta(days=300))
        .not_valid_after(until or AT + timedelta(days=60))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@dataclass
class Amazon:
    """What is at Amazon's addresses, and what was asked for."""

    pem: bytes = field(default_factory=certificate)
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pem if url.endswith(".pem") else b"<ConfirmSubscriptionResponse/>"


#: A certificate's address is remembered, so each test has one of its own.
_ADDRESSES = iter(range(10_000))


@pytest.fixture
def amazon() -> Amazon:
    return Amazon()


@pytest.fixture
def pem() -> str:
    return f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{next(_ADDRESSES)}.pem"


def notification(pem: str, version: str = "2", **changes: object) -> Payload:
    """A notification as Amazon signs it; `changes` come before the signature, None leaves a field out."""
    payload: Payload = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:tocsin",
        "Subject": 'ALARM: "Zürich" in EU (Ireland)',
        "Message": json.dumps({"AlarmName": "Zürich", "NewStateValue": "ALARM"}),
        "Timestamp": "2026-11-24T02:10:42.310Z",
        "SignatureVersion": version,
        "SigningCertURL": pem,
        **changes,
    }
    return signed({name: value for name, value in payload.items() if value is not None})


def signed(payload: Payload, key: rsa.RSAPrivateKey = KEY) -> Payload:
    """By Amazon's description, written down a second time: names in alphabetical order, each before its value."""
    if payload["Type"] == "Notification":
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    else:
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{payload[name]}\n" for name in names if name in payload)
    algorithm = hashes.SHA1() if payload["SignatureVersion"] == "1" else hashes.SHA256()
    signature = key.sign(text.encode(), padding.PKCS1v15(), algorithm)
    return {**payload, "Signature": base64.b64encode(signature).decode()}


def subscription(pem: str, **changes: object) -> Payload:
    address = (
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:t&Token=23"
    )
    requests = {"Type": "SubscriptionConfirmation", "Subject": None, "Token": "23", "SubscribeURL": address}
    return notification(pem, "2", **{**requests, **changes})


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ['ALARM: "x"', None])
def test_message_signed_by_amazon_is_accepted(amazon: Amazon, pem: str, version: str, subject: str | None) -> None:
    assert cloudwatch.refusal(notification(pem, version, Subject=subject), {}, amazon.fetch) is None


def test_a_certificate_is_fetched_once(amazon: Amazon, pem: str) -> None:
    for number in range(3):
        assert cloudwatch.refusal(notification(pem, MessageId=str(number)), {}, amazon.fetch) is None
    assert amazon.asked == [pem]


@pytest.mark.parametrize(
    "forge",
    [
        lambda payload: {**payload, "Message": '{"NewStateValue": "OK"}'},
        lambda payload: {**payload, "Subject": "Another"},
        lambda payload: {name: value for name, value in payload.items() if name != "Subject"},
        lambda payload: {**payload, "MessageId": "another"},
        lambda payload: {**payload, "TopicArn": "arn:aws:sns:eu-west-1:999:another"},
        lambda payload: {**payload, "Timestamp": "2026-11-24T02:11:42.310Z"},
        lambda payload: {**payload, "Type": "UnsubscribeConfirmation"},
        lambda payload: {**payload, "SignatureVersion": "1"},
        lambda payload: {**payload, "SignatureVersion": "3"},
        lambda payload: {**payload, "Signature": "AAAA"},
        lambda payload: {**payload, "Signature": "not base64!"},
        lambda payload: {**payload, "Signature": None},
        lambda payload: {**payload, "Timestamp": "yesterday"},
        lambda payload: {**payload, "Timestamp": "2026-11-24T02:10:42.310"},
        lambda payload: {**payload, "Type": "Alarm"},
        lambda payload: {"AlarmName": "raw", "NewStateValue": "ALARM"},
        lambda payload: {},
        lambda payload: signed(payload, rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    ],
)
def test_what_amazon_did_not_sign_is_refused(amazon: Amazon, pem: str, forge: Callable[[Payload], Payload]) -> None:
    assert cloudwatch.refusal(forge(notification(pem)), {}, amazon.fetch)


@pytest.mark.parametrize(
    "address",
    [
        "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
        "https://sns.eu-west-1.amazonaws.com\\@evil.example/a.pem",
        "https://evil.example#sns.eu-west-1.amazonaws.com/a.pem",
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
        "https://s3.eu-west-1.amazonaws.com/bucket/a.pem",
        "https://evil.s3.amazonaws.com/a.pem",
        "https://snsx.eu-west-1.amazonaws.com/a.pem",
        "https://sns.evil.example/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.txt",
        "https://sns.eu-west-1.amazonaws.com/../a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.pem\n",
        "https://sns.eu-west-1.amazonaws.com/a.pem?x=.pem",
        "https://169.254.169.254/a.pem",
        "file:///etc/passwd.pem",
        7,
        None,
    ],
)
def test_a_certificate_from_anywhere_else_is_not_even_fetched(amazon: Amazon, pem: str, address: object) -> None:
    payload = {**notification(pem), "SigningCertURL": address}
    assert cloudwatch.refusal(payload, {}, amazon.fetch) == reason_from(
        "The URL of the signing certificate does not belong to Amazon SNS.", {}
    )
    assert amazon.asked == []


def test_a_certificate_that_had_ended_before_the_message_proves_nothing(pem: str) -> None:
    amazon = Amazon(certificate(until=AT - timedelta(days=1)))
    assert cloudwatch.refusal(notification(pem), {}, amazon.fetch) == reason_from(
        "The signing certificate is not valid at the time of the message.", {}
    )


def test_a_certificate_with_another_sort_of_key_proves_nothing(pem: str) -> None:
    amazon = Amazon(certificate(ec.generate_private_key(ec.SECP256R1())))
    assert cloudwatch.refusal(notification(pem), {}, amazon.fetch)


def test_a_subscription_is_confirmed_at_the_address_that_amazon_signed(amazon: Amazon, pem: str) -> None:
    payload = subscription(pem)
    assert cloudwatch.refusal(payload, {}, amazon.fetch) is None
    reply = cloudwatch.handshake(payload, {}, amazon.fetch)
    assert reply is not None
    assert reply.status == 200
    assert amazon.asked == [pem, payload["SubscribeURL"]]


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=ConfirmSubscription",
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com/",
        "http://127.0.0.1:8000/?x",
        None,
    ],
)
def test_foreign_confirmation_url_is_rejected_without_request(amazon: Amazon, pem: str, address: object) -> None:
    reply = cloudwatch.handshake({**subscription(pem), "SubscribeURL": address}, {}, amazon.fetch)
    assert reply is not None
    assert reply.status == 403
    assert amazon.asked == []


@pytest.mark.parametrize("type", ["Notification", "UnsubscribeConfirmation", None])
def test_nothing_else_is_a_question(amazon: Amazon, pem: str, type: str | None) -> None:
    assert cloudwatch.handshake({**subscription(pem), "Type": type}, {}, amazon.fetch) is None
    assert amazon.asked == []


def test_each_message_of_a_request_must_be_signed(amazon: Amazon, pem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_endpoint, "fetch", amazon.fetch)
    code = load_kinds()["cloudwatch"].kind_hooks
    right = notification(pem)
    webhook_endpoint.require_genuine(code, [right, right], {})
    with pytest.raises(HttpError) as caught:
        webhook_endpoint.require_genuine(code, [right, {**right, "Subject": "forged"}], {})
    assert (caught.value.status, caught.value.code) == (403, "not_the_sender")


def test_unreachable_amazon_is_retried_and_invalid_certificate_is_rejected(
    pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = load_kinds()["cloudwatch"].kind_hooks

    def away(url: str) -> bytes:
        raise Permanent(as_reason("It answered 404."))

    monkeypatch.setattr(webhook_endpoint, "fetch", away)
    with pytest.raises(HttpError, match="404"):
        webhook_endpoint.require_genuine(code, [notification(pem)], {})
    monkeypatch.setattr(webhook_endpoint, "fetch", Amazon(b"<html>").fetch)
    with pytest.raises(HttpError, match="cannot be checked"):
        webhook_endpoint.require_genuine(code, [notification(pem)], {})


def test_alarm_is_read_from_signed_content_only(pem: str) -> None:
    alarm = {"AlarmName": "a/b", "AlarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a/b"}
    payload = notification(pem, Message=json.dumps(alarm))
    forged: Payload = {**payload, "alarm": {"AlarmName": "forged"}, "console": "https://evil.example"}
    (opened,) = cloudwatch.messages(forged, {})
    assert opened["alarm"] == alarm
    assert opened["console"] == (
        "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#alarmsV2:alarm/a%2Fb"
    )
    (again,) = cloudwatch.messages(opened, {})
    assert again is opened


@pytest.mark.parametrize("message", ["words", "{broken", "[1]", "7", "", "{" + '"a":{' * 60 + "}" * 61, None, 7])
def test_non_object_or_too_deep_message_stays_text(pem: str, message: object) -> None:
    payload = {**notification(pem), "Message": message}
    assert cloudwatch.messages(payload, {})[0] is payload
