"""Texts and calls through Twilio, and their replies: real HTTP both ways with a controlled clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from psycopg.sql import SQL, Identifier

from tests.doubles.http import Response
from tests.doubles.twilio import NUMBER, TwilioDouble, twilio_double
from tests.support.locks import wait_for_waiters
from tests.support.outbox_harness import OutboxHarness, allow_loopback, changed, outbox_harness, provider
from tests.support.people import ACTOR
from tests.support.provider_servers import SMS_DOUBLES
from tests.support.webhook_server import hook_server
from tocsin.access.models import AuditEntry
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.service import FoundAlert, merge_into
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, as_reason, each_of
from tocsin.core.runtime import clock
from tocsin.notify import notices
from tocsin.notify.channels import phone
from tocsin.notify.inbound import responder_actions
from tocsin.notify.models import Delivery, MailReply, OptOut, Provider, ProviderHealth
from tocsin.notify.pages import cancel_pages
from tocsin.notify.providers import commands
from tocsin.notify.rules import page_planner
from tocsin.notify.text import formatting, render
from tocsin.operate.checks import people as checks
from tocsin.operate.checks.integrations import check_deliveries
from tocsin.people import addresses
from tocsin.people.changes import users as people

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
ALICE = "+41790000001"
BOB = "+41790000002"
SMS = {"label": "SMS", "channel": "sms", "address": ALICE}
CALL = {"label": "Phone", "channel": "voice", "address": ALICE, "wait": "3m"}


@dataclass
class PhoneScenario:
    """A post office, two accounts at Twilio of which the second stands in, and the pages that they call back."""

    post: OutboxHarness
    first: TwilioDouble
    second: TwilioDouble

    def hear(self, sender: str, text: str, sid: str = "") -> str | None:
        """Somebody sends a text to the first account's number."""
        return self.first.text(f"{BASE}/hooks/twilio/sms", sender, text, sid or f"SM-{sender}-{text}")

    def delivery(self, label: str) -> Delivery:
        return [d for d in self.post.deliveries() if d.notification.label == label][-1]


@pytest.fixture
def scenario(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[PhoneScenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now) as post, twilio_double("token-one") as first, twilio_double("token-two") as second:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        with hook_server() as server:
            first.server = second.server = server
            for number, (name, double) in enumerate({"Twilio": first, "Twilio two": second}.items(), 1):
                secrets = {"auth_token": double.token}
                provider(name, "twilio", ["sms", "voice"], number, secrets=secrets, **double.settings)
            yield PhoneScenario(post, first, second)


def test_text_explains_replies_and_is_marked_delivered_by_receipt(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    (message,) = scenario.first.messages
    assert message["To"] == ALICE
    assert message["Body"].startswith(
        f"P1 CRITICAL Acme: VPN down. Halo 20817. Reply ACK {alert}, ASSIGN {alert}. {BASE}/a/"
    )
    assert scenario.delivery("SMS").status == "sent"
    assert scenario.first.message_status(message, "sent") == 204
    assert scenario.delivery("SMS").status == "sent"
    assert scenario.first.message_status(message, "delivered") == 204
    delivery = scenario.delivery("SMS")
    assert (delivery.status, delivery.receipt, delivery.delivered_at, delivery.external_id) == (
        "delivered", "delivered", scenario.post.now, message["sid"],
    )  # fmt: skip


def test_receipt_arriving_before_recorded_send_counts(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.post.page(scenario.post.alert(), "alice")
    Delivery.objects.update(status="sending", provider_name="Twilio", leased_by="somebody")
    early = {"sid": "SM1", "To": ALICE}
    key = scenario.delivery("SMS").notification_id
    callback = f"{BASE}/hooks/twilio/status?n={key}"
    scenario.first.message_status({**early, "StatusCallback": callback}, "delivered")
    assert (scenario.delivery("SMS").status, scenario.delivery("SMS").external_id) == ("delivered", "SM1")


def test_receipt_for_lost_response_prevents_resending(scenario: PhoneScenario) -> None:
    """Else a second call comes while somebody listens to the first."""
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    changed()
    scenario.post.user("alice", SMS, {**CALL, "wait": "0s"})
    scenario.post.page(alert := scenario.post.alert(), "alice")
    scenario.first.refusals = [Response(hangs_up=True), Response(hangs_up=True)]
    scenario.post.go()
    assert scenario.post.states(alert) == [("SMS", "queued", "Twilio"), ("Phone", "queued", "Twilio")]
    text, call = (f"n={scenario.delivery(label).notification_id}" for label in ("SMS", "Phone"))
    early = {"sid": "SM1", "To": ALICE, "StatusCallback": f"{BASE}/hooks/twilio/status?{text}"}
    scenario.first.message_status(early, "delivered")
    spoken = scenario.first.pick_up({"sid": "CA1", "To": ALICE, "Url": f"{BASE}/hooks/twilio/voice?{call}"})
    assert "VPN down" in spoken.text
    scenario.post.go(10)
    assert (scenario.first.messages, scenario.first.calls) == ([], [])
    assert scenario.post.states(alert) == [("SMS", "delivered", "Twilio"), ("Phone", "delivered", "Twilio")]


def test_late_delivered_message_is_not_resent_by_another_provider(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.post.page(alert := scenario.post.alert(), "alice")
    scenario.first.refusals = [Response(hangs_up=True)]
    scenario.second.refusals = [Response(503)]
    scenario.post.go()
    assert ("SMS", "queued") in [(label, status) for label, status, _ in scenario.post.states(alert)]
    key = f"n={scenario.delivery('SMS').notification_id}"
    early = {"sid": "SM1", "To": ALICE, "StatusCallback": f"{BASE}/hooks/twilio/status?{key}"}
    scenario.first.message_status(early, "delivered")
    scenario.first.message_status(early, "delivered")
    scenario.post.go(600)
    assert (scenario.first.messages, scenario.second.messages) == ([], [])
    assert scenario.post.states(alert) == [
        ("SMS", "delivered", "Twilio"), ("SMS", "failed", "Twilio two"), ("SMS", "cancelled", "Twilio"),
    ]  # fmt: skip
    assert scenario.delivery("SMS").reason == page_planner.DELIVERED_AFTER_ALL(provider="Twilio")


@pytest.mark.parametrize(("message", "status"), [("answered", "delivered"), ("busy", "sent")])
def test_receipt_of_cancelled_call_with_lost_response_is_recorded(
    scenario: PhoneScenario, message: str, status: str
) -> None:
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    changed()
    scenario.post.user("alice", {**CALL, "wait": "0s"})
    scenario.post.page(alert := scenario.post.alert(), "alice")
    scenario.first.refusals = [Response(hangs_up=True)]
    scenario.post.go()
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Bob took it.", scenario.post.now)
    assert scenario.delivery("Phone").status == "cancelled"
    key = scenario.delivery("Phone").notification_id
    early = {"sid": "CA1", "To": ALICE}
    scenario.post.seconds = 300
    if message == "answered":
        scenario.first.pick_up({**early, "Url": f"{BASE}/hooks/twilio/voice?n={key}"})
    else:
        scenario.first.call_status({**early, "StatusCallback": f"{BASE}/hooks/twilio/status?n={key}"}, message)
    call = scenario.delivery("Phone")
    assert (call.status, call.sent_at, call.ended_at) == (status, scenario.post.at(0), None)
    scenario.post.go(600)
    assert scenario.first.calls == []


def test_one_receipt_marks_every_page_that_left_in_one_text(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    for number in range(4):
        scenario.post.page(scenario.post.alert(f"Disk {number} full"), "alice")
    scenario.post.go()
    scenario.post.go(10)
    _, bundle = scenario.first.messages
    assert "3 alerts: " in bundle["Body"]
    assert "ACK ALL" in bundle["Body"]
    scenario.first.message_status(bundle, "delivered")
    assert [d.status for d in scenario.post.deliveries()] == ["sent", "delivered", "delivered", "delivered"]


@pytest.mark.parametrize(
    ("text", "status", "answer"),
    [
        ("ack", "acknowledged", "You acknowledged alert {id}."),
        ("ACK {id}", "acknowledged", "You acknowledged alert {id}."),
        ("Ack #{id}!", "acknowledged", "You acknowledged alert {id}."),
        ("7", "acknowledged", "You acknowledged alert {id}."),
        ("take {id}", "assigned", ""),
        ("assign", "assigned", ""),
        ("8", "assigned", ""),
        ("close", "closed", ""),
        ("9", "closed", ""),
        ("escalate", "escalated", "Escalating alert {id} to the next step."),
        ("reply The line is back", "replied", ""),
    ],
)
def test_a_text_acts_on_the_alert_that_is_open(scenario: PhoneScenario, text: str, status: str, answer: str) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    shown_text = scenario.hear(ALICE, text.format(id=alert))
    assert shown_text
    assert not answer or shown_text == answer.format(id=alert)
    event = AlertEvent.objects.filter(alert=alert).order_by("-pk")[0]
    assert (event.kind, event.via, event.actor_name) == (status, "sms", "Alice")


def test_text_reply_uses_the_users_language_in_gsm_letters(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS, language="de")
    first, second = scenario.post.alert("VPN “down” 😀 again"), scenario.post.alert("Disk full")
    for alert in (first, second):
        scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.go(15)
    assert scenario.hear(ALICE, "1") == f'#{first} VPN "down" again; #{second} Disk full.'
    assert scenario.hear(ALICE, "ack") == (
        f"Für Sie sind 2 Alarme offen: #{first} und #{second}. Senden Sie ACK {first} oder ACK ALL."
    )
    assert scenario.hear(ALICE, "ack all") == "Sie haben 2 Alarme bestätigt."
    assert scenario.hear(ALICE, f"take {second}") == f"Alarm {second} ist Ihnen zugewiesen."
    hints = scenario.hear(ALICE, "help") or ""
    assert hints.startswith("ACK: ")
    assert hints != str(formatting.HELP)
    assert phone.ONE_ALERT.allows(hints)
    assert phone.is_gsm(hints)
    assert scenario.hear(ALICE, "STOP") in (None, "")
    assert scenario.hear(ALICE, "START") == "Sie erhalten wieder SMS von Tocsin."


def test_text_with_lost_response_can_be_answered(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.post.page(alert := scenario.post.alert(), "alice")
    scenario.first.refusals, scenario.second.refusals = [Response(hangs_up=True)], [Response(503)]
    scenario.post.go()
    assert scenario.hear(ALICE, "ack") == f"You acknowledged alert {alert}."
    scenario.post.go(600)
    assert (scenario.first.messages, scenario.second.messages) == ([], [])


def test_several_alerts_are_named_in_one_text(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    first, second, third = (scenario.post.alert(subject) for subject in ("VPN down", "Disk full", "Site down"))
    for alert in (first, second, third):
        scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.go(10)
    assert scenario.hear(ALICE, f"ack {first} {second} 99999999") == (
        f"You acknowledged alert {first}. You acknowledged alert {second}. "
        "You were not paged about alert 99999999. Open it in Tocsin to respond to it."
    )
    acknowledged = AlertEvent.objects.filter(kind="acknowledged").values_list("alert_id", flat=True)
    assert sorted(acknowledged) == [first, second]


def test_reply_starting_with_minutes_concerns_the_open_alert(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert "not paged" not in str(scenario.hear(ALICE, "reply 555 minutes, on my way"))
    event = AlertEvent.objects.get(alert=alert, kind="replied")
    assert "555 minutes, on my way" in f"{event.reason} {event.data}"


def test_reply_selects_one_or_all_of_several_alerts(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    first, second = scenario.post.alert(), scenario.post.alert("Disk full")
    for alert in (first, second):
        scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.go(10)
    assert scenario.hear(ALICE, "ack") == (
        f"2 alerts are open for you: #{first} and #{second}. Send ACK {first}, or ACK ALL."
    )
    assert scenario.hear(ALICE, "ack all") == "You acknowledged 2 alerts."
    assert scenario.hear(ALICE, "reply 99999999 hello") == (
        "You were not paged about alert 99999999. Open it in Tocsin to respond to it."
    )
    assert scenario.hear(ALICE, "help") == str(formatting.HELP)
    assert scenario.hear(ALICE, "what?") == str(formatting.UNKNOWN)


@pytest.mark.parametrize("text", ["ack", "ack {child}", "ack {parent}", "reply On my way", "reply {child} On my way"])
def test_reply_to_merged_alert_acts_on_its_parent(scenario: PhoneScenario, text: str) -> None:
    scenario.post.user("alice", SMS)
    child, parent = scenario.post.alert(), scenario.post.alert("Everything down")
    scenario.post.page(child, "alice")
    scenario.post.go()
    scenario.post.act(child, merge_into(FoundAlert.by_tocsin(parent), Close(actor=scenario.post.actor("alice"))))
    shown_text = scenario.hear(ALICE, text.format(child=child, parent=parent))
    sent_text = "Your note was added to" if "reply" in text else "You acknowledged"
    direct = text in ("ack", "ack {parent}", "reply On my way")
    assert (
        shown_text
        == ("" if direct else f"Alert {child} is merged into alert {parent}. ") + f"{sent_text} alert {parent}."
    )
    kind = "replied" if "reply" in text else "acknowledged"
    assert AlertEvent.objects.get(kind=kind).alert_id == parent


def test_call_about_merged_alert_concerns_its_parent(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", {**CALL, "wait": "0s"})
    child, parent = scenario.post.alert(), scenario.post.alert("Everything down")
    scenario.post.page(child, "alice")
    scenario.post.go()
    (call,) = scenario.first.calls
    scenario.post.act(child, merge_into(FoundAlert.by_tocsin(parent), Close(actor=scenario.post.actor("alice"))))
    spoken = scenario.first.pick_up(call)
    assert "Everything down" in spoken.text
    scenario.first.press(call, spoken, "7")
    assert AlertEvent.objects.get(kind="acknowledged").alert_id == parent


def test_call_about_merged_alerts_names_the_parent_once(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", {**CALL, "wait": "0s"})
    first, parent, child = (scenario.post.alert(subject) for subject in ("Printer", "Everything down", "VPN down"))
    for alert in (first, parent, child):
        scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.go(10)
    scenario.post.act(child, merge_into(FoundAlert.by_tocsin(parent), Close(actor=scenario.post.actor("alice"))))
    spoken = scenario.first.pick_up(scenario.first.calls[1])
    assert spoken.text.count("Everything down") == spoken.text.count("Acme:") > 0
    assert "2 alerts" not in spoken.text
    done = scenario.first.press(scenario.first.calls[1], spoken, "7")
    assert done.text == f"You acknowledged alert {parent}. Goodbye."


def test_unknown_sender_gets_no_reply_and_late_responder_gets_state(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.post.user("bob", {"label": "SMS", "channel": "sms", "address": BOB})
    alert, other = scenario.post.alert(), scenario.post.alert("Disk full")
    scenario.post.page(alert, "alice", "bob")
    scenario.post.page(other, "alice")
    scenario.post.go()
    assert scenario.hear("+41790009999", f"ack {alert}") is None
    assert scenario.hear("+41790009999", "help") is None
    assert (
        scenario.hear(BOB, f"ack {other}")
        == f"You were not paged about alert {other}. Open it in Tocsin to respond to it."
    )
    scenario.hear(ALICE, f"close {alert}")
    assert "already closed by Alice" in str(scenario.hear(BOB, f"ack {alert}"))
    assert scenario.hear(BOB, "ack") == str(formatting.NONE_OPEN)


def test_duplicate_text_acts_once_with_the_same_reply(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    answers = {scenario.hear(ALICE, "reply On my way", sid="SM-same") for _ in range(2)}
    assert len(answers) == 1
    assert AlertEvent.objects.filter(alert=alert, kind="replied").count() == 1


def test_a_text_that_comes_twice_at_one_moment_acts_once(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(lambda _: scenario.hear(ALICE, "reply On my way", sid="SM-same"), range(6)))
    assert answers == {f"Your note was added to alert {alert}."}
    assert AlertEvent.objects.filter(alert=alert, kind="replied").count() == 1


def test_repeated_start_is_confirmed_again(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.hear(ALICE, "stop")
    answers = {scenario.hear(ALICE, "start", sid="SM-start") for _ in range(2)}
    assert answers == {str(responder_actions.OPTED_IN())}


def test_numbers_in_any_order_lock_alerts_in_one_order(scenario: PhoneScenario) -> None:
    """Two users who acknowledge the same alerts in opposite orders never wait for each other in a circle."""
    scenario.post.user("alice", SMS)
    scenario.post.user("bob", {"label": "SMS", "channel": "sms", "address": BOB})
    first, second = scenario.post.alert(), scenario.post.alert("Disk full")
    for alert in (first, second):
        scenario.post.page(alert, "alice", "bob")
    with ThreadPoolExecutor(1) as other:
        with database.transaction() as connection:
            connection.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR UPDATE", (first,))
            answer = other.submit(scenario.hear, ALICE, f"ack {second} {first}")
            wait_for_waiters()
            # The text waits for the first alert and holds no other.
            assert connection.execute(
                "SELECT 1 FROM alerts_alert WHERE id = %s FOR UPDATE NOWAIT", (second,)
            ).fetchone()
        assert answer.result() == f"You acknowledged alert {second}. You acknowledged alert {first}."


def test_unsigned_callback_is_ignored(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    url, fields = f"{BASE}/hooks/twilio/sms", {"From": ALICE, "Body": "close", "MessageSid": "SM9", "To": NUMBER}
    assert scenario.first.post(url, fields, signature="")[0] == 403
    assert scenario.first.post(url, fields, signature=scenario.first.sign(url, {**fields, "Body": "help"}))[0] == 403
    assert scenario.first.post(url, fields, signature=scenario.second.sign(url, fields))[0] == 403
    assert scenario.first.post(f"{BASE}/hooks/nobody/sms", fields)[0] == 404
    assert scenario.first.post(f"{BASE}/hooks/twilio/elsewhere", fields)[0] == 404
    assert Alert.objects.get(pk=alert).status == "open"
    assert scenario.first.post(url, fields)[0] == 200
    assert Alert.objects.get(pk=alert).status == "closed"


def test_disabled_providers_receipts_are_still_processed(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS, {**CALL, "wait": "0s"})
    alert, other = scenario.post.alert(), scenario.post.alert("Site down")
    scenario.post.page(alert, "alice")
    scenario.post.go()
    (text,), (call,) = scenario.first.messages, scenario.first.calls
    spoken = scenario.first.pick_up(call)
    Provider.objects.filter(name="Twilio").update(is_enabled=False)
    changed()
    assert scenario.first.message_status(text, "delivered") == 204
    assert scenario.delivery("SMS").status == "delivered"
    assert scenario.first.press(call, spoken, "7").hangs_up
    assert AlertEvent.objects.filter(alert=alert, kind="acknowledged", via="voice").exists()
    assert scenario.hear(ALICE, "take")
    assert AlertEvent.objects.filter(alert=alert, kind="assigned", via="sms").exists()
    url, fields = f"{BASE}/hooks/twilio/sms", {"From": ALICE, "Body": "close", "MessageSid": "SM9", "To": NUMBER}
    assert scenario.first.post(url, fields, signature="")[0] == 403
    scenario.post.page(other, "alice")
    scenario.post.go(60)
    assert (len(scenario.first.messages), len(scenario.second.messages)) == (1, 1), "nothing more is sent by it"


def test_renamed_providers_receipts_are_still_matched(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS, {**CALL, "wait": "0s"})
    scenario.post.page(alert := scenario.post.alert(), "alice")
    scenario.post.go()
    (text,), (call,) = scenario.first.messages, scenario.first.calls
    spoken = scenario.first.pick_up(call)
    row = Provider.objects.get(name="Twilio")
    commands.save_provider(
        {**commands.provider_spec(row), "name": "Swiss"}, existing=row, actor=ACTOR, now=scenario.post.now
    )
    assert scenario.first.message_status(text, "delivered") == 204
    assert scenario.delivery("SMS").status == "delivered"
    assert scenario.first.press(call, spoken, "7").hangs_up
    assert AlertEvent.objects.filter(alert=alert, kind="acknowledged", via="voice").exists()
    assert scenario.hear(ALICE, "take") == f"Alert {alert} is assigned to you."
    assert scenario.first.post(f"{BASE}/hooks/nobody/sms", {})[0] == 404


def test_call_repeats_message_reprompts_and_closes_on_double_nine(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", {**CALL, "wait": "0s"})
    alert = scenario.post.alert(short_text="VPN down, 40 users")
    scenario.post.page(alert, "alice")
    scenario.post.go()
    (call,) = scenario.first.calls
    assert (call["To"], call["MachineDetection"]) == (ALICE, "DetectMessageEnd")
    spoken = scenario.first.pick_up(call)
    assert spoken.text == (
        "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Acme: VPN down, 40 users. Press 7 to "
        "acknowledge, 8 to assign to yourself, 6 to escalate, 9 to close, 1 to repeat."
    )
    assert spoken.then == spoken.text[spoken.text.index("Press 7") :]
    assert scenario.delivery("Phone").status == "delivered"
    wrong = scenario.first.press(call, spoken, "5")
    assert wrong.text.startswith("Invalid key. Tocsin. Critical alert")
    again = scenario.first.press(call, wrong, "1")
    assert again.text == spoken.text
    sure = scenario.first.press(call, again, "9")
    assert sure.text == "Press 9 again to close."
    assert Alert.objects.get(pk=alert).status == "open"
    done = scenario.first.press(call, sure, "9")
    assert (done.text, done.hangs_up) == (f"Alert {alert} is closed. Goodbye.", True)
    assert Alert.objects.get(pk=alert).status == "closed"
    event = AlertEvent.objects.filter(alert=alert, kind="closed").get()
    assert (event.via, event.actor_name) == ("voice", "Alice")
    assert scenario.first.call_status(call, "completed") == 204
    assert (scenario.delivery("Phone").status, scenario.delivery("Phone").receipt) == ("delivered", "answered")
    # Whoever is called about what is over hears that, and no menu.
    late = scenario.first.pick_up(call)
    assert "already closed by Alice" in late.text
    assert late.hangs_up


@pytest.mark.parametrize(("key", "kind"), [("7", "acknowledged"), ("8", "assigned"), ("6", "escalated")])
def test_a_key_acts(scenario: PhoneScenario, key: str, kind: str) -> None:
    scenario.post.user("alice", {**CALL, "wait": "0s"}, language="de")
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    spoken = scenario.first.pick_up(scenario.first.calls[0])
    assert spoken.text.startswith("Tocsin. Kritischer Alarm für Alice.")
    assert set(spoken.languages) == {"de-DE"}
    done = scenario.first.press(scenario.first.calls[0], spoken, key)
    assert done.hangs_up
    assert AlertEvent.objects.filter(alert=alert, kind=kind, via="voice").exists()


@pytest.mark.parametrize("how", ["machine", "no-answer", "busy", "completed", "off"])
def test_unanswered_call_falls_back_to_next_contact_method(scenario: PhoneScenario, how: str) -> None:
    scenario.post.user("alice", {**CALL, "wait": "0s"}, {**SMS, "wait": "10m"})
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    (call,) = scenario.first.calls
    if how == "machine":
        assert scenario.first.pick_up(call, by="machine_start").hangs_up
        scenario.first.call_status(call, "completed", AnsweredBy="machine_start")
    elif how == "off":
        scenario.first.call_status(call, "failed", SipResponseCode="480")
    else:
        scenario.first.call_status(call, how)
    delivery = scenario.delivery("Phone")
    assert (delivery.status, delivery.receipt) == ("sent", "not_reached")
    assert str(delivery.reason) in (
        "A machine answered the call.", "No one picked up.", "The phone was busy.",
        "The phone was off or out of reach.",
        # It was put down while Twilio was still listening for a machine.
        "The call ended before the message was played.",
    )  # fmt: skip
    scenario.post.go()
    assert len(scenario.first.messages) == 1
    early = page_planner.STARTED_EARLY(cause=page_planner.CALL_NOT_REACHED())
    assert early in each_of(scenario.delivery("SMS").reason)
    # The provider did all it could.
    assert not ProviderHealth.objects.filter(failures__gt=0).exists()


def test_text_reported_failed_fails_over_to_next_provider_immediately(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.first.message_status(scenario.first.messages[0], "undelivered", 30007)
    scenario.post.go()
    assert scenario.post.states(alert) == [("SMS", "failed", "Twilio"), ("SMS", "sent", "Twilio two")]
    failed = scenario.post.deliveries(alert)[0]
    assert str(failed.error).startswith("The carrier blocked the text as spam.")
    # A late word that it was accepted changes nothing any more.
    scenario.first.message_status(scenario.first.messages[0], "sent")
    scenario.second.message_status(scenario.second.messages[0], "failed", 30005)
    assert scenario.post.states(alert)[1:] == [("SMS", "failed", "Twilio two"), ("SMS", "queued", "Twilio")]
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1


@pytest.mark.parametrize("code", [30001, 30002, 30006, 30007])
def test_text_reported_failed_is_resent_without_delaying_fallback(scenario: PhoneScenario, code: int) -> None:
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    changed()
    scenario.post.user("alice", SMS, {**CALL, "wait": "10m"})
    scenario.post.page(alert := scenario.post.alert(), "alice")
    scenario.post.go()
    (first,) = scenario.first.messages
    scenario.first.message_status(first, "failed", code)
    assert scenario.post.states(alert)[0] == ("SMS", "queued", "Twilio")
    scenario.post.go(10)
    assert scenario.post.states(alert) == [("SMS", "sent", "Twilio"), ("Phone", "sent", "Twilio")]
    # What is said again of the first is not about the second.
    scenario.first.message_status(first, "failed", code)
    assert scenario.post.states(alert)[0] == ("SMS", "sent", "Twilio")
    scenario.first.message_status(scenario.first.messages[1], "delivered")
    assert (scenario.delivery("SMS").status, len(scenario.first.messages)) == ("delivered", 2)


def test_missing_receipts_trigger_fallback_and_open_circuit_breaker(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS, {**CALL, "wait": "10m"})
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    box = scenario.post.outboxes[0]
    scenario.post.seconds = 59
    box.maintain_leases()
    scenario.post.go()
    assert scenario.first.calls == []
    scenario.post.seconds = 61
    box.maintain_leases()
    scenario.post.go()
    assert len(scenario.first.calls) == 1
    assert "Twilio did not report it as delivered within 1 minute." in str(scenario.delivery("SMS").reason)
    early = page_planner.STARTED_EARLY(cause=page_planner.NO_RECEIPT(provider="Twilio"))
    assert early in each_of(scenario.delivery("Phone").reason)
    assert ProviderHealth.objects.get(name="Twilio").failures == 1


def test_one_unreachable_phone_does_not_open_circuit_breaker(scenario: PhoneScenario) -> None:
    for number in range(3):
        scenario.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
    box = scenario.post.outbox()
    for minute in range(4):
        scenario.post.seconds = 120 * minute
        scenario.post.page(scenario.post.alert(), "user0")
        scenario.post.go()
        scenario.post.seconds += 61
        box.maintain_leases()
    health = ProviderHealth.objects.get(name="Twilio")
    assert (health.failures, health.is_open) == (1, False)
    scenario.post.seconds = 1000
    scenario.post.page(scenario.post.alert(), "user1", "user2")
    scenario.post.go()
    scenario.post.seconds = 1061
    box.maintain_leases()
    assert ProviderHealth.objects.get(name="Twilio").is_open


def test_consecutive_failures_open_circuit_breaker_until_recovery(scenario: PhoneScenario) -> None:
    for number in range(5):
        scenario.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
    scenario.first.is_down = True
    for number in range(5):
        scenario.post.page(scenario.post.alert(), f"user{number}")
        scenario.post.go()
    assert len(scenario.second.messages) == 5
    requests = [request for request in scenario.first.http.requests if request.method == "POST"]
    assert len(requests) == 3
    health = ProviderHealth.objects.get(name="Twilio")
    assert health.is_open
    assert health.retry_at == scenario.post.now + timedelta(seconds=30)
    assert "+417900001" not in str(health.error)
    box = scenario.post.outboxes[0]
    scenario.post.seconds = 31
    box.probe_providers()
    assert ProviderHealth.objects.get(name="Twilio").is_open
    scenario.first.is_down = False
    scenario.post.seconds = 200
    box.probe_providers()
    assert not ProviderHealth.objects.get(name="Twilio").is_open
    scenario.post.page(scenario.post.alert(), "user0")
    scenario.post.go()
    assert len(scenario.first.messages) == 1


def test_provider_health_resets_on_change_or_deletion(scenario: PhoneScenario) -> None:
    row = Provider.objects.get(name="Twilio")
    spec = commands.provider_spec(row)
    broken = ProviderHealth(
        name="Twilio",
        failures=3,
        is_open=True,
        retry_at=scenario.post.now,
        error=as_reason("It refuses."),
    )
    broken.save()
    commands.save_provider(spec, existing=row, actor=ACTOR, now=scenario.post.now)
    assert [str(finding.detail) for finding in check_deliveries(scenario.post.now)] == [
        "Twilio is failing, and other providers have taken over: It refuses."
    ]
    commands.save_provider({**spec, "auth_token": "corrected"}, existing=row, actor=ACTOR, now=scenario.post.now)
    assert not ProviderHealth.objects.exists(), "it is used in its turn at once"
    broken.save()
    commands.delete_provider(row, actor=ACTOR, now=scenario.post.now)
    assert list(check_deliveries(scenario.post.now)) == []
    # One that went with the environment's variables.
    ProviderHealth.objects.create(name="SMTP (default)", is_open=True, retry_at=scenario.post.now)
    assert list(check_deliveries(scenario.post.now)) == []


def test_home_separates_failed_over_from_undelivered_messages(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.first.refusals.append("country")
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    (finding,) = check_deliveries(scenario.post.now)
    assert (finding.id, finding.about, finding.is_urgent) == ("provider.failed_over", "Twilio", False)
    for double in (scenario.first, scenario.second):
        double.refusals.append("country")
    scenario.post.page(scenario.post.alert("Disk full"), "alice")
    scenario.post.go(11)
    finding = next(iter(check_deliveries(scenario.post.now)))
    assert (finding.id, finding.is_urgent) == ("messages.unsent", True)
    assert finding.detail["providers"] == ("Twilio", "Twilio two")


def test_an_address_that_is_refused_says_nothing_against_the_provider(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    scenario.first.refusals.append("country")
    scenario.second.refusals.append(Response(400, b'{"code": 21610, "status": 400}'))
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert [str(d.error).split(".")[0] for d in scenario.post.deliveries(alert) if d.status == "failed"] == [
        "Texts to this country are disabled",
        "The recipient has opted out with STOP, and must send START to receive texts again (Twilio 21610)",
    ]
    scenario.post.user("bob", {**CALL, "address": BOB, "wait": "0s"})
    scenario.post.page(alert, "bob")
    scenario.post.go()
    scenario.first.call_status(scenario.first.calls[0], "failed", SipResponseCode="404")
    assert "The number is not in service." in [str(d.error) for d in scenario.post.deliveries(alert)]
    assert not ProviderHealth.objects.filter(failures__gt=0).exists()


def test_stop_is_honoured_until_start_comes(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    assert scenario.hear(ALICE, "STOP") is None
    assert scenario.hear("+41790009999", "STOP") is None
    assert [row.address for row in OptOut.objects.all()] == [ALICE]
    with database.transaction() as connection:
        assert [(name, label) for _, name, label, _ in responder_actions.opted_out(connection)] == [("Alice", "SMS")]
        assert "people.opted_out" in {finding.id for finding in checks.check(connection, scenario.post.now)}
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert scenario.first.messages == []
    assert scenario.delivery("SMS").error == page_planner.OPTED_OUT()
    assert scenario.hear(ALICE, "start") == str(responder_actions.OPTED_IN())
    # A vendor's word for START, said to a question of Tocsin's.
    assert scenario.hear(ALICE, "Yes") == str(formatting.UNKNOWN)
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    assert len(scenario.first.messages) == 1


def test_rate_limited_provider_leaves_excess_to_the_next(scenario: PhoneScenario) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**scenario.first.settings, "rate": 12})
    changed()
    for number in range(7):
        scenario.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
    for number in range(6):
        scenario.post.page(scenario.post.alert(), f"user{number}")
    scenario.post.go()
    assert (len(scenario.first.messages), len(scenario.second.messages)) == (2, 4)
    scenario.post.seconds = 5
    scenario.post.page(scenario.post.alert(), "user6")
    scenario.post.go()
    assert len(scenario.first.messages) == 3


def test_rate_limited_messages_leave_when_capacity_returns(scenario: PhoneScenario) -> None:
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    Provider.objects.filter(name="Twilio").update(settings={**scenario.first.settings, "rate": 1})
    changed()
    for number in range(3):
        scenario.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
        scenario.post.page(scenario.post.alert(), f"user{number}")
    scenario.post.go()
    assert len(scenario.first.messages) == 1
    slow = Provider.objects.get(name="Twilio")
    commands.save_provider(
        {**commands.provider_spec(slow), "rate": 600}, existing=slow, actor=ACTOR, now=scenario.post.now
    )
    scenario.post.go(1)
    assert len(scenario.first.messages) == 3


def test_rate_limited_messages_block_no_others(scenario: PhoneScenario) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**scenario.first.settings, "rate": 12, "prefixes": "+1"})
    Provider.objects.filter(name="Twilio two").update(settings={**scenario.second.settings, "prefixes": "+41"})
    changed()
    for number in range(8):
        scenario.post.user(f"user{number}", {**SMS, "address": f"+120255501{number:02}"})
        scenario.post.page(scenario.post.alert(), f"user{number}")
    scenario.post.seconds = 1
    scenario.post.user("alice", SMS)
    scenario.post.page(scenario.post.alert(), "alice")
    box = scenario.post.outbox(slots=6)
    rounds = 0
    while box.run_once() and rounds < 20:
        box.settle()
        rounds += 1
    box.settle()
    assert rounds < 20, "nothing can leave now, and it goes on looking"
    assert (len(scenario.first.messages), len(scenario.second.messages)) == (2, 1)
    scenario.post.go(7, box)
    assert len(scenario.first.messages) == 3


def test_rate_limited_messages_leave_in_arrival_order(scenario: PhoneScenario) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**scenario.first.settings, "rate": 12, "prefixes": "+1"})
    Provider.objects.filter(name="Twilio two").update(settings={**scenario.second.settings, "prefixes": "+41"})
    changed()
    addresses = [f"+120255501{number:02}" for number in (7, 3, 9, 1, 8, 2, 6, 4)]
    for number, address in enumerate(addresses):
        scenario.post.user(f"user{number}", {**SMS, "address": address})
    box = scenario.post.outbox()
    # Each comes at another part of a second, and more of them than may leave.
    for step in range(200):
        if step % 9 == 0 and step // 9 < len(addresses):
            scenario.post.page(scenario.post.alert(), f"user{step // 9}")
        scenario.post.go(0.3 * step, box)
    assert [message["To"] for message in scenario.first.messages] == addresses


def test_hanging_provider_of_some_countries_delays_no_others(scenario: PhoneScenario) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**scenario.first.settings, "prefixes": "+1"})
    Provider.objects.filter(name="Twilio two").update(settings={**scenario.second.settings, "prefixes": "+41"})
    changed()
    scenario.second.takes = 2.0
    for number in range(9):
        scenario.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
        scenario.post.page(scenario.post.alert(), f"user{number}")
    scenario.post.seconds = 1
    scenario.post.user("alice", {**SMS, "address": "+12025550101"})
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    box = scenario.post.outbox(slots=6)
    started_at = time.monotonic()
    for _ in range(8):
        box.run_once()
    assert time.monotonic() - started_at < 2.0, "it waits for the one that hangs"
    assert scenario.post.deliveries(alert)[0].status in ("sending", "sent")
    scenario.second.takes = 0.0
    box.settle()
    scenario.post.go(3, box)
    assert (len(scenario.first.messages), len(scenario.second.messages)) == (1, 9)


def test_phone_test_reports_the_pressed_key(scenario: PhoneScenario) -> None:
    user = scenario.post.user("alice", {**CALL, "wait": "0s"})
    method = user.contact_methods.get()
    with database.transaction() as connection:
        notices.queue_test(connection, method, scenario.post.now)
    scenario.post.go()
    (call,) = scenario.first.calls
    done = scenario.first.press(call, scenario.first.pick_up(call), "7")
    assert done.text == "You pressed 7. This phone works. Goodbye."
    assert page_planner.KEY_PRESSED(key="7") in each_of(scenario.delivery("Phone").reason)


def test_one_repeats_a_test_call(scenario: PhoneScenario) -> None:
    user = scenario.post.user("alice", {**CALL, "wait": "0s"})
    with database.transaction() as connection:
        notices.queue_test(connection, user.contact_methods.get(), scenario.post.now)
    scenario.post.go()
    (call,) = scenario.first.calls
    heard = scenario.first.pick_up(call)
    again = scenario.first.press(call, heard, "1")
    assert again.text == f"You pressed 1. This phone works. {heard.text}"
    assert scenario.first.press(call, again, "5").text == "You pressed 5. This phone works. Goodbye."


def test_deleted_users_number_is_removed(scenario: PhoneScenario, now: datetime) -> None:
    mail = {"label": "Email", "channel": "email", "address": "alice@private.example"}
    user = scenario.post.user("alice", SMS, mail)
    people.save_contact_method(user, {**SMS, "label": "Called", "channel": "voice"}, actor=ACTOR, now=now)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.hear(ALICE, "help")
    scenario.hear(ALICE, "stop")
    MailReply.objects.create(
        mail_hash="1", received_at=now, provider_name="Mailbox", sender="alice@private.example", subject="Re: VPN",
        user=user, reason=Reason("{sender} is not an address of {user}."),
    )  # fmt: skip
    scenario.post.act(alert, Close(actor=scenario.post.actor("alice")))
    people.delete_user(user, actor=ACTOR, now=now)
    for secret in (ALICE, ALICE[1:], "alice@private.example"):
        assert places_of(secret) == []
    assert Delivery.objects.filter(purpose="page").count() == 3, "that somebody was paged stays on record"
    assert AuditEntry.objects.filter(object_type="user", action="delete").exists()


def places_of(text: str) -> list[str]:
    """The tables in which it stands, in whatever column."""
    with database.transaction() as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return [
            name
            for (name,) in tables
            if connection.execute(
                SQL("SELECT 1 FROM {} t WHERE t::text ILIKE %s LIMIT 1").format(Identifier(name)), (f"%{text}%",)
            ).fetchone()
        ]


def test_answered_page_is_not_failed_over_after_failed_receipt(
    scenario: PhoneScenario,
) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Bob acknowledged it.", scenario.post.now)
    scenario.first.message_status(scenario.first.messages[0], "failed", 30003)
    scenario.post.go()
    assert scenario.second.messages == []
    assert scenario.post.states(alert) == [("SMS", "failed", "Twilio")]
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1


def test_closed_alert_is_not_texted_again_after_failed_receipt(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.act(alert, Close(actor=scenario.post.actor("alice")))
    scenario.first.message_status(scenario.first.messages[0], "failed", 30003)
    scenario.post.go()
    assert scenario.second.messages == []
    assert [d.status for d in scenario.post.deliveries(alert)] == ["failed", "cancelled"]


@pytest.mark.parametrize("vendor", sorted(SMS_DOUBLES))
def test_second_vendor_accepts_only_signed_replies_and_receipts(scenario: PhoneScenario, vendor: str) -> None:
    Provider.objects.all().delete()
    scenario.post.user("alice", SMS)
    with SMS_DOUBLES[vendor]() as double:
        double.server = scenario.first.server
        provider("Vendor", vendor, ["sms"], secrets=dict(double.secrets), **double.settings)
        alert = scenario.post.alert()
        scenario.post.page(alert, "alice")
        scenario.post.go()
        (message,) = double.messages
        at, url = scenario.post.now.timestamp(), f"{BASE}/hooks/vendor/sms"
        assert double.received(url, ALICE, "close", at, forged=True) == 403
        assert double.received(url, ALICE, "close", at - 600) == 403
        assert double.received(url, "+41790009999", "ack", at) == 200
        assert len(double.messages) == 1
        assert double.received(url, ALICE, "ack", at) == 200
        answer = double.messages[-1]
        assert f"+{answer['to'].lstrip('+')}" == ALICE
        assert answer["text"] == f"You acknowledged alert {alert}."
        assert AlertEvent.objects.filter(alert=alert, kind="acknowledged", via="sms").exists()
        assert double.finalized(message, "delivered", at) == 200
        assert scenario.delivery("SMS").status == "delivered"


def test_number_without_country_code_uses_default_country_or_fails() -> None:
    with pytest.raises(Rejected, match="country code"):
        addresses.validate_address("sms", "079 000 00 01")
    settings_store.set(settings_store.PHONE_REGION, "CH")
    assert addresses.validate_address("sms", "079 000 00 01") == ALICE


def test_unstorable_characters_are_stripped_from_texts(scenario: PhoneScenario) -> None:
    scenario.post.user("alice", SMS)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert scenario.hear(ALICE, "reply mail me\x00 example.org")
    event = AlertEvent.objects.get(alert=alert, kind="replied")
    assert event.data["text"] == "mail me\ufffd example.org"
    assert not scenario.hear(f"\x00{ALICE}", "ack")


@pytest.fixture
def with_codes(scenario: PhoneScenario) -> PhoneScenario:
    settings_store.set("sms_reply_codes", True)
    changed()
    return scenario


def test_text_message_says_the_code_of_its_answer(with_codes: PhoneScenario) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = render.code_of(user.pk, alert)
    (message,) = with_codes.first.messages
    assert f"Reply ACK {alert} {code}, ASSIGN {alert} {code}. " in message["Body"]
    assert with_codes.hear(ALICE, f"ack {alert} {code}") == f"You acknowledged alert {alert}."


@pytest.mark.parametrize(
    "text", ["ack", "7", "ack {alert}", "ack all", "ack {alert} {wrong}", "close {alert}", "ack 9999"]
)
def test_forged_answer_without_the_code_does_nothing(with_codes: PhoneScenario, text: str) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = render.code_of(user.pk, alert)
    wrong = f"{(int(code) + 1) % 10_000:04}"
    answer = str(with_codes.hear(ALICE, text.format(alert=alert, wrong=wrong)))
    word = "CLOSE" if "close" in text else "ACK"
    assert answer == f"Nothing was done: a reply must end with the code of its alert. Send {word} {alert} {code}."
    assert not AlertEvent.objects.filter(kind__in=["acknowledged", "closed"]).exists()


@pytest.mark.parametrize(
    "text", ["ack {code}", "ACK {alert} {code}!", "ack all {code}", "7 {code}", "reply On my way {code}"]
)
def test_answer_containing_the_code_is_accepted(with_codes: PhoneScenario, text: str) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    with_codes.hear(ALICE, text.format(alert=alert, code=render.code_of(user.pk, alert)))
    event = AlertEvent.objects.get(kind__in=["acknowledged", "replied"])
    assert event.data.get("text", "On my way") == "On my way"


def test_codes_cannot_be_guessed(with_codes: PhoneScenario) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = render.code_of(user.pk, alert)
    for number in range(1, render.MAX_WRONG + 1):
        with_codes.hear(ALICE, f"ack {alert} {(int(code) + number) % 10_000:04}")
    assert with_codes.hear(ALICE, f"ack {alert} {code}") == str(render.TOO_MANY_WRONG)
    assert with_codes.hear(ALICE, "help") == phone.for_phones(str(formatting.HELP))


def test_several_alerts_share_the_code_of_the_first(with_codes: PhoneScenario) -> None:
    user = with_codes.post.user("alice", SMS)
    first, second = with_codes.post.alert(), with_codes.post.alert()
    for alert in (first, second):
        with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = render.code_of(user.pk, first)
    assert with_codes.hear(ALICE, f"ack {second} {code}") == f"You acknowledged alert {second}."
    assert "You acknowledged" in str(with_codes.hear(ALICE, f"ack all {code}"))


def test_codes_differ_by_user_and_alert() -> None:
    assert len({render.code_of(user, alert) for user in range(10) for alert in range(10)}) > 90
