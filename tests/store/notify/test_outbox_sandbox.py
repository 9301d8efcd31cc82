"""A channel without a provider reaches nobody: the alarms say so, and pages leave once it has a provider."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.outbox_harness import OutboxHarness, configured
from tests.support.people import ACTOR
from tocsin.core.db import database
from tocsin.notify.dispatch import send
from tocsin.notify.inbound import responder_actions
from tocsin.notify.interfaces import CallState
from tocsin.notify.models import Delivery, Provider, SandboxMessage
from tocsin.notify.providers.commands import provider_spec, save_provider
from tocsin.operate import self_check
from tocsin.operate.self_check import DetectedProblem, find_problems
from tocsin.people.models import Group, Membership

pytestmark = pytest.mark.usefixtures("database")

EMAIL = {"label": "Email", "channel": "email", "address": "alice@example.org"}
SMS = {"label": "SMS", "channel": "sms", "address": "+41790000001", "wait": "10m"}


def problems(now: datetime) -> dict[str, DetectedProblem]:
    with database.transaction() as connection:
        found = find_problems(self_check.load_inputs(connection, now))
    return {one.id: one for one in found if one.id in ("no_provider:email", "no_provider:sms", "alerts_unreached")}


def test_page_without_a_provider_is_an_alarm(post: OutboxHarness) -> None:
    post.user("alice", EMAIL)
    post.page(alert := post.alert(), "alice")
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.sent_at, delivery.provider_name) == ("sandboxed", None, "sandbox")
    assert SandboxMessage.objects.count() == 1
    found = problems(post.at(61))
    assert set(found) == {"no_provider:email", "alerts_unreached"}
    assert not any(problem.is_warning for problem in found.values()), "the heartbeat stops"
    assert "Alice" in str(found["no_provider:email"].detail)


def test_sandboxed_page_leaves_when_its_node_gets_a_provider(
    post: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.user("alice", EMAIL)
    post.page(alert := post.alert(), "alice")
    post.go(0)
    with smtp_double() as mail:
        configured(monkeypatch, smtp_url=mail.url, email_from="tocsin@example.org")
        # As after a restart, or on another node.
        box = post.outbox()
        box.probe_providers()
        post.go(20, box)
        assert mail.subjects == ["[P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #1)"]
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.late_since) == ("sent", post.at(0))
    assert problems(post.at(80)) == {}


def test_page_leaves_when_the_last_provider_is_enabled_again(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice", SMS | {"wait": "0s"})
    spec = {"name": "Gateway", "kind": "http_gateway", "api_base": "https://sms.example.org", "enabled": False}
    row = save_provider(spec, actor=ACTOR, now=post.now)
    post.page(alert := post.alert(), "alice")
    box = post.outbox()
    post.go(0, box)
    assert [d.status for d in post.deliveries(alert)] == ["sandboxed"]
    box.probe_providers()
    assert [d.status for d in post.deliveries(alert)] == ["sandboxed"]
    save_provider({**provider_spec(row), "enabled": True}, existing=Provider.objects.get(), actor=ACTOR, now=post.now)
    post.seconds = 11
    box.probe_providers()
    assert [(d.status, d.due_at) for d in post.deliveries(alert)] == [("queued", post.at(11))]


def test_only_the_newest_page_to_an_address_leaves_the_sandbox(post: OutboxHarness) -> None:
    post.user("alice", EMAIL)
    alert = post.alert()
    for second in (0, 300):
        post.seconds = second
        post.page(alert, "alice")
        post.go(second)
    with database.transaction() as connection:
        assert send.requeue(connection, ["sms"], post.now) == 0
        assert send.requeue(connection, ["email"], post.now) == 1
    assert [d.status for d in post.deliveries(alert)] == ["sandboxed", "queued"]


def test_next_contact_method_does_not_wait_for_a_missing_provider(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice", SMS | {"wait": "0s"}, EMAIL | {"wait": "10m"})
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.states(alert) == [("SMS", "sandboxed", "sandbox"), ("Email", "sent", "SMTP (default)")]
    assert problems(post.at(61)) == {}, "she was reached"


def test_member_without_any_provider_is_an_alarm_before_a_page(post: OutboxHarness, mail: SmtpDouble) -> None:
    members = post.user("alice", EMAIL, SMS), post.user("bob", SMS), post.user("erin", SMS)
    group = Group.objects.create(name="Network")
    for member in members[:2]:
        Membership.objects.create(group=group, user=member, role="primary")
    (problem,) = problems(post.now).values()
    assert problem.id == "no_provider:sms"
    assert "Bob" in str(problem.detail)
    assert "Alice" not in str(problem.detail)
    assert "Erin" not in str(problem.detail)


def test_demo_counts_the_sandbox_as_sent(post: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "counts_as_sent", True)
    post.user("alice", EMAIL)
    post.page(post.alert(), "alice")
    post.go(0)
    assert Delivery.objects.get().status == "sent"
    assert problems(post.at(61)) == {}


def test_keys_of_a_sandboxed_call_reach_all_its_alerts(post: OutboxHarness) -> None:
    post.user("alice", {"label": "Phone", "channel": "voice", "address": "+41790000001"})
    for subject in ("Router down", "VPN down", "Disk full"):
        post.page(post.alert(subject), "alice")
    post.go(0)
    post.go(11)
    call = SandboxMessage.objects.order_by("-pk")[0]
    key = str(Delivery.objects.get(pk=call.delivery).notification_id)
    listed = responder_actions.continue_call("sandbox", CallState(key, digits="2"), post.now)
    assert listed.speech.count("Critical alert ") == 2
    done = responder_actions.continue_call("sandbox", CallState(key, digits="7"), post.now)
    assert done.speech == "Done for 2 alerts. Goodbye."
