"""The two main paths as stories: a HaloITSM message until its answer, a page until the "ack" by text.

`scripts/trace_paths.py` runs these tests to print the files that each path passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from tests.doubles.twilio import TwilioDouble, twilio_double
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import halo, make_integration
from tests.support.integrations import inbound_server
from tests.support.outbox_harness import OutboxHarness, allow_loopback, provider
from tests.support.webhook_server import hook_server
from tocsin.core.runtime import clock
from tocsin.people.models import ContactMethod

BASE = "https://tocsin.example.org"


@pytest.fixture
def desk(post: OutboxHarness, now: datetime) -> Iterator[EscalationHarness]:
    with escalation_enabled():
        yield EscalationHarness(now)


@pytest.fixture
def ticket(desk: EscalationHarness) -> Iterator[Callable[[int], str]]:
    """Posts a ticket to a node that has loaded its integrations, and returns what became of it."""
    integration = make_integration(policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    with inbound_server() as node:

        def post(number: int) -> str:
            return str(node.post(integration, halo(number)).body["status"])

        assert post(1) == "Mapped Opened"
        yield post


def test_a_ticket_opens_an_alert(ticket: Callable[[int], str]) -> None:
    assert ticket(2) == "Mapped Opened"


@pytest.fixture
def sms(desk: EscalationHarness, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TwilioDouble, int]]:
    """The vendor of the only provider, and an alert whose first step is due."""
    allow_loopback(monkeypatch, base_url=BASE)
    ContactMethod.objects.filter(user=desk.users["alice"], channel="email").delete()
    ContactMethod.objects.filter(user=desk.users["alice"]).update(wait=timedelta(), verified_at=now)
    with twilio_double("token") as vendor, hook_server() as vendor.server:
        provider("Twilio", "twilio", ["sms"], 1, secrets={"auth_token": vendor.token}, **vendor.settings)
        yield vendor, desk.open()


def test_a_page_is_acknowledged_by_text(
    desk: EscalationHarness, post: OutboxHarness, sms: tuple[TwilioDouble, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, alert = sms
    monkeypatch.setattr(clock, "now", lambda: post.now)
    desk.run_until(0)
    post.go()
    (message,) = vendor.messages
    assert vendor.message_status(message, "delivered") == 204
    answer = vendor.text(f"{BASE}/hooks/twilio/sms", message["To"], f"ack {alert}", "SM-ack")
    assert answer is not None
    assert "acknowledged" in answer.lower()
    assert [one.user.username for one in desk.alert(alert).acknowledgements.all()] == ["alice"]
