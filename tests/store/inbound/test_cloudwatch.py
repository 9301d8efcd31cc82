"""Amazon SNS at a real endpoint: its subscription is confirmed, and its alarms open and close alerts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from tests.support.ingest import make_integration
from tests.support.integrations import InboundServer, inbound_server, rows
from tests.unit.catalogue.test_cloudwatch import Amazon, notification, signed, subscription
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert
from tocsin.core.errors import Temporary
from tocsin.core.reasons import as_reason
from tocsin.inbound import ingest_service, webhook_endpoint
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration

PEM = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-door.pem"
ARN = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:web1 CPU high"


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Amazon:
    """Amazon's addresses, which no test may reach."""
    made = Amazon()
    monkeypatch.setattr(webhook_endpoint, "fetch", made.fetch)
    return made


@pytest.fixture
def node(database: str) -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


@pytest.fixture
def integration(database: str) -> Integration:
    return make_integration("AWS", "cloudwatch")


def alarm(state: str, at: str, number: int) -> dict[str, object]:
    message = json.dumps({"AlarmName": "web1 CPU high", "AlarmArn": ARN, "NewStateValue": state, "StateChangeTime": at})
    return notification(PEM, Message=message, MessageId=f"22b80b92-fdea-4c2c-8f9d-bdfb0c7bf3{number:02}")


def test_sns_subscription_is_confirmed_and_alarms_open_and_close(
    amazon: Amazon, node: InboundServer, integration: Integration
) -> None:
    requests = subscription(PEM)
    reply = node.post(integration, requests, content_type="text/plain; charset=UTF-8")
    assert (reply.status, reply.body) == (200, {"status": "Subscription confirmed"})
    assert amazon.asked[-1] == requests["SubscribeURL"]
    assert not rows()
    opened = node.post(integration, alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1), content_type="text/plain")
    assert opened.body["status"] == "Mapped Opened"
    closed = node.post(integration, alarm("OK", "2026-11-24T02:20:42.236+0000", 2), content_type="text/plain")
    assert closed.body["status"] == "Mapped Closed"
    assert Alert.objects.get().source_id == ARN


def test_sender_other_than_amazon_is_rejected_without_trace(
    amazon: Amazon, node: InboundServer, integration: Integration
) -> None:
    right = alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1)
    forged = {**right, "Message": '{"NewStateValue": "ALARM"}'}
    elsewhere = signed({**right, "SigningCertURL": "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem"})
    for body in (forged, elsewhere, {"AlarmName": "raw", "NewStateValue": "ALARM"}, [right, forged]):
        reply = node.post(integration, body)
        assert (reply.status, reply.body["error"]) == (403, "not_the_sender")
    assert not rows()
    assert not Alert.objects.exists()


def test_unavailable_certificate_is_fetched_when_amazon_retries(
    amazon: Amazon, node: InboundServer, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {**alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1)}
    right["SigningCertURL"] = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-later.pem"

    def away(url: str) -> bytes:
        raise Temporary(as_reason("sns.eu-west-1.amazonaws.com does not answer."))

    monkeypatch.setattr(webhook_endpoint, "fetch", away)
    reply = node.post(integration, right)
    assert (reply.status, reply.body["error"]) == (503, "not_checked")
    assert not rows()
    monkeypatch.setattr(webhook_endpoint, "fetch", amazon.fetch)
    assert node.post(integration, right).body["status"] == "Mapped Opened"


def test_sender_is_checked_again_after_the_database_failed(
    amazon: Amazon, node: InboundServer, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(integration_id: int) -> str:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(webhook_endpoint, "_pinned_sender", fail)
    reply = node.post(integration, alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1))
    assert (reply.status, reply.body["error"]) == (503, "not_checked")
    assert reply.body["detail"] == str(ingest_service.SENDER_NOT_CHECKED())
    assert not rows()


OTHER = "arn:aws:sns:eu-west-1:999999999999:tocsin"


def test_another_topic_is_refused_though_amazon_signed_it(
    amazon: Amazon, node: InboundServer, integration: Integration
) -> None:
    assert node.post(integration, subscription(PEM)).status == 200
    queries = list(amazon.asked)
    foreign = signed({**alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1), "TopicArn": OTHER})
    for body in (foreign, signed({**subscription(PEM), "TopicArn": OTHER})):
        reply = node.post(integration, body)
        assert (reply.status, reply.body["error"]) == (403, "other_sender")
        assert OTHER in reply.body["detail"]
        assert "rotate its URL" in reply.body["detail"]
    assert amazon.asked == queries, "no subscription of another topic is confirmed"
    assert not rows()
    ours = alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1)
    assert node.post(integration, [ours, foreign]).status == 403
    assert node.post(integration, ours).body["status"] == "Mapped Opened"


def test_a_rotated_url_takes_the_next_topic(amazon: Amazon, node: InboundServer, integration: Integration) -> None:
    assert node.post(integration, subscription(PEM)).status == 200
    secrets.rotate_token(integration, actor=COMMAND_LINE, now=datetime.now(UTC))
    assert node.post(integration, signed({**subscription(PEM), "TopicArn": OTHER})).status == 200
    assert node.post(integration, alarm("ALARM", "2026-11-24T02:10:42.236+0000", 1)).status == 403


def test_setting_selects_the_accepted_topic(amazon: Amazon, node: InboundServer, database: str) -> None:
    integration = make_integration("AWS", "cloudwatch", settings={"topic_arn": OTHER})
    assert node.post(integration, subscription(PEM)).status == 403
    assert node.post(integration, signed({**subscription(PEM), "TopicArn": OTHER})).status == 200
