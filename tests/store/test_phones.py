"""Texts and calls through Twilio, and what people answer: real HTTP both ways, the test's own clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from psycopg.sql import SQL, Identifier

from tests.doubles.http import Response
from tests.doubles.telnyx import telnyx_double
from tests.doubles.twilio import NUMBER, TwilioDouble, twilio_double
from tests.store.hooks import hook_server
from tests.store.people import ACTOR
from tests.store.sending import OutboxHarness, allow_loopback, changed, post_office, provider
from tocsin.access.models import AuditEntry
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.service import merge_into
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.notify.enqueue import contact_tests, queue
from tocsin.notify.inbound import opt_outs
from tocsin.notify.models import Delivery, MailReply, OptOut, ProcessedCallback, Provider, ProviderHealth
from tocsin.notify.providers import commands
from tocsin.notify.text import command_parser, reply_codes, sms
from tocsin.operate.checks import people as checks
from tocsin.people import addresses
from tocsin.people.changes import users as people
from tocsin.web.home import provider_warnings

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
ALICE = "+41790000001"
BOB = "+41790000002"
SMS = {"label": "SMS", "channel": "sms", "address": ALICE}
CALL = {"label": "Phone", "channel": "voice", "address": ALICE, "wait": "3m"}


@dataclass
class World:
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
def world(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    allow_loopback(monkeypatch, base_url=BASE)
    with post_office(now) as post, twilio_double("token-one") as first, twilio_double("token-two") as second:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        with hook_server() as server:
            first.server = second.server = server
            for number, (name, double) in enumerate({"Twilio": first, "Twilio two": second}.items(), 1):
                secrets = {"auth_token": double.token}
                provider(name, "twilio", ["sms", "voice"], number, secrets=secrets, **double.settings)
            yield World(post, first, second)


def test_a_text_says_how_to_answer_and_is_marked_as_delivered_when_the_operator_says_so(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    (message,) = world.first.messages
    assert message["To"] == ALICE
    assert message["Body"].startswith(
        f"CRITICAL Acme: VPN down. Halo 20817. Reply ACK {alert}, TAKE {alert}. {BASE}/a/"
    )
    assert world.delivery("SMS").status == "sent"
    assert world.first.message_status(message, "sent") == 204
    assert world.delivery("SMS").status == "sent"
    assert world.first.message_status(message, "delivered") == 204
    told = world.delivery("SMS")
    assert (told.status, told.receipt, told.delivered_at, told.external_id) == (
        "delivered", "delivered", world.post.now, message["sid"],
    )  # fmt: skip


def test_a_receipt_that_comes_before_the_send_was_written_down_counts(world: World) -> None:
    world.post.user("alice", SMS)
    world.post.page(world.post.alert(), "alice")
    Delivery.objects.update(status="sending", provider_name="Twilio", leased_by="somebody")
    early = {"sid": "SM1", "To": ALICE}
    key = world.delivery("SMS").notification_id
    callback = f"{BASE}/hooks/twilio/status?n={key}"
    world.first.message_status({**early, "StatusCallback": callback}, "delivered")
    assert (world.delivery("SMS").status, world.delivery("SMS").external_id) == ("delivered", "SM1")


def test_what_a_vendor_tells_of_a_message_whose_answer_was_lost_keeps_it_from_leaving_again(world: World) -> None:
    """Else a second call comes while somebody listens to the first."""
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    changed()
    world.post.user("alice", SMS, {**CALL, "wait": "0s"})
    world.post.page(alert := world.post.alert(), "alice")
    world.first.refusals = [Response(hangs_up=True), Response(hangs_up=True)]
    world.post.go()
    assert world.post.states(alert) == [("SMS", "queued", "Twilio"), ("Phone", "queued", "Twilio")]
    text, call = (f"n={world.delivery(label).notification_id}" for label in ("SMS", "Phone"))
    early = {"sid": "SM1", "To": ALICE, "StatusCallback": f"{BASE}/hooks/twilio/status?{text}"}
    world.first.message_status(early, "delivered")
    heard = world.first.pick_up({"sid": "CA1", "To": ALICE, "Url": f"{BASE}/hooks/twilio/voice?{call}"})
    assert "VPN down" in heard.text
    world.post.go(10)
    assert (world.first.messages, world.first.calls) == ([], [])
    assert world.post.states(alert) == [("SMS", "delivered", "Twilio"), ("Phone", "delivered", "Twilio")]


def test_what_arrived_after_all_is_not_sent_by_another_provider_too(world: World) -> None:
    world.post.user("alice", SMS)
    world.post.page(alert := world.post.alert(), "alice")
    world.first.refusals = [Response(hangs_up=True)]
    world.second.refusals = [Response(503)]
    world.post.go()
    assert ("SMS", "queued") in [(label, status) for label, status, _ in world.post.states(alert)]
    key = f"n={world.delivery('SMS').notification_id}"
    early = {"sid": "SM1", "To": ALICE, "StatusCallback": f"{BASE}/hooks/twilio/status?{key}"}
    world.first.message_status(early, "delivered")
    world.first.message_status(early, "delivered")
    world.post.go(600)
    assert (world.first.messages, world.second.messages) == ([], [])
    assert world.post.states(alert) == [
        ("SMS", "delivered", "Twilio"), ("SMS", "failed", "Twilio two"), ("SMS", "cancelled", "Twilio"),
    ]  # fmt: skip
    assert world.delivery("SMS").reason == "Twilio reported it as delivered after all."


@pytest.mark.parametrize(("said", "status"), [("answered", "delivered"), ("busy", "sent")])
def test_what_a_vendor_tells_of_a_call_that_was_stopped_while_its_answer_was_lost_is_written_down(
    world: World, said: str, status: str
) -> None:
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    changed()
    world.post.user("alice", {**CALL, "wait": "0s"})
    world.post.page(alert := world.post.alert(), "alice")
    world.first.refusals = [Response(hangs_up=True)]
    world.post.go()
    with database.transaction() as connection:
        queue.cancel(connection, [alert], None, "Bob took it.", world.post.now)
    assert world.delivery("Phone").status == "cancelled"
    key = world.delivery("Phone").notification_id
    early = {"sid": "CA1", "To": ALICE}
    world.post.seconds = 300
    if said == "answered":
        world.first.pick_up({**early, "Url": f"{BASE}/hooks/twilio/voice?n={key}"})
    else:
        world.first.call_status({**early, "StatusCallback": f"{BASE}/hooks/twilio/status?n={key}"}, said)
    call = world.delivery("Phone")
    assert (call.status, call.sent_at, call.ended_at) == (status, world.post.at(0), None)
    world.post.go(600)
    assert world.first.calls == []


def test_one_receipt_marks_every_page_that_left_in_one_text(world: World) -> None:
    world.post.user("alice", SMS)
    for number in range(4):
        world.post.page(world.post.alert(f"Disk {number} full"), "alice")
    world.post.go()
    world.post.go(10)
    _, bundle = world.first.messages
    assert "3 alerts: " in bundle["Body"]
    assert "ACK ALL" in bundle["Body"]
    world.first.message_status(bundle, "delivered")
    assert [d.status for d in world.post.deliveries()] == ["sent", "delivered", "delivered", "delivered"]


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
        ("escalate", "escalated", "Waking the next."),
        ("reply The line is back", "replied", ""),
    ],
)
def test_a_text_acts_on_the_alert_that_is_open(world: World, text: str, status: str, answer: str) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    said = world.hear(ALICE, text.format(id=alert))
    assert said
    assert not answer or said == answer.format(id=alert)
    event = AlertEvent.objects.filter(alert=alert).order_by("-pk")[0]
    assert (event.kind, event.via, event.actor_name) == (status, "sms", "Alice")


def test_a_text_is_answered_in_its_writers_language_and_the_letters_of_phones(world: World) -> None:
    world.post.user("alice", SMS, language="de")
    first, second = world.post.alert("VPN “down” 😀 again"), world.post.alert("Disk full")
    for alert in (first, second):
        world.post.page(alert, "alice")
    world.post.go()
    world.post.go(15)
    assert world.hear(ALICE, "1") == f'#{first} VPN "down" again; #{second} Disk full.'
    assert world.hear(ALICE, "ack") == (
        f"2 Alarme sind für Sie offen: #{first}, #{second}. Senden Sie ACK {first} oder ACK ALL."
    )
    assert world.hear(ALICE, "ack all") == "Sie haben 2 Alarme bestätigt."
    assert world.hear(ALICE, f"take {second}") == f"Sie haben Alarm {second}."
    hints = world.hear(ALICE, "help") or ""
    assert hints.startswith("ACK: ")
    assert hints != command_parser.HELP
    assert sms.ONE_ALERT.fits(hints)
    assert sms.is_gsm(hints)
    assert world.hear(ALICE, "STOP") in (None, "")
    assert world.hear(ALICE, "START") == "Sie bekommen wieder Textnachrichten von Tocsin."


def test_a_text_whose_answer_was_lost_can_be_answered(world: World) -> None:
    world.post.user("alice", SMS)
    world.post.page(alert := world.post.alert(), "alice")
    world.first.refusals, world.second.refusals = [Response(hangs_up=True)], [Response(503)]
    world.post.go()
    assert world.hear(ALICE, "ack") == f"You acknowledged alert {alert}."
    world.post.go(600)
    assert (world.first.messages, world.second.messages) == ([], [])


def test_several_alerts_are_named_in_one_text(world: World) -> None:
    world.post.user("alice", SMS)
    first, second, third = (world.post.alert(subject) for subject in ("VPN down", "Disk full", "Site down"))
    for alert in (first, second, third):
        world.post.page(alert, "alice")
    world.post.go()
    world.post.go(10)
    assert world.hear(ALICE, f"ack {first} {second} 99999999") == (
        f"You acknowledged alert {first}. You acknowledged alert {second}. "
        "You were not paged about alert 99999999. Open it in Tocsin to act on it."
    )
    acknowledged = AlertEvent.objects.filter(kind="acknowledged").values_list("alert_id", flat=True)
    assert sorted(acknowledged) == [first, second]


def test_a_reply_that_begins_with_a_number_of_minutes_is_about_the_alert_that_is_open(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    assert "not paged" not in str(world.hear(ALICE, "reply 555 minutes, on my way"))
    event = AlertEvent.objects.get(alert=alert, kind="replied")
    assert "555 minutes, on my way" in f"{event.reason} {event.data}"


def test_who_has_several_alerts_says_which_or_all(world: World) -> None:
    world.post.user("alice", SMS)
    first, second = world.post.alert(), world.post.alert("Disk full")
    for alert in (first, second):
        world.post.page(alert, "alice")
    world.post.go()
    world.post.go(10)
    assert world.hear(ALICE, "ack") == (
        f"2 alerts are open for you: #{first}, #{second}. Send ACK {first}, or ACK ALL."
    )
    assert world.hear(ALICE, "ack all") == "You acknowledged 2 alerts."
    assert world.hear(ALICE, "reply 99999999 hello") == (
        "You were not paged about alert 99999999. Open it in Tocsin to act on it."
    )
    assert world.hear(ALICE, "help") == command_parser.HELP
    assert world.hear(ALICE, "what?") == command_parser.UNKNOWN


@pytest.mark.parametrize("text", ["ack", "ack {child}", "ack {parent}", "reply On my way", "reply {child} On my way"])
def test_an_answer_about_an_alert_that_was_merged_since_acts_on_the_one_it_is_merged_into(
    world: World, text: str
) -> None:
    world.post.user("alice", SMS)
    child, parent = world.post.alert(), world.post.alert("Everything down")
    world.post.page(child, "alice")
    world.post.go()
    world.post.act(child, merge_into(parent, Close(actor=world.post.actor("alice"))))
    said = world.hear(ALICE, text.format(child=child, parent=parent))
    told = "Your reply is on" if "reply" in text else "You acknowledged"
    direct = text in ("ack", "ack {parent}", "reply On my way")
    assert said == ("" if direct else f"Alert {child} is merged into {parent}. ") + f"{told} alert {parent}."
    kind = "replied" if "reply" in text else "acknowledged"
    assert AlertEvent.objects.get(kind=kind).alert_id == parent


def test_a_call_about_an_alert_that_was_merged_since_is_about_the_one_it_is_merged_into(world: World) -> None:
    world.post.user("alice", {**CALL, "wait": "0s"})
    child, parent = world.post.alert(), world.post.alert("Everything down")
    world.post.page(child, "alice")
    world.post.go()
    (call,) = world.first.calls
    world.post.act(child, merge_into(parent, Close(actor=world.post.actor("alice"))))
    heard = world.first.pick_up(call)
    assert "Everything down" in heard.text
    world.first.press(call, heard, "7")
    assert AlertEvent.objects.get(kind="acknowledged").alert_id == parent


def test_a_call_about_several_alerts_of_which_one_was_merged_into_another_tells_that_once(world: World) -> None:
    world.post.user("alice", {**CALL, "wait": "0s"})
    first, parent, child = (world.post.alert(subject) for subject in ("Printer", "Everything down", "VPN down"))
    for alert in (first, parent, child):
        world.post.page(alert, "alice")
    world.post.go()
    world.post.go(10)
    world.post.act(child, merge_into(parent, Close(actor=world.post.actor("alice"))))
    heard = world.first.pick_up(world.first.calls[1])
    assert heard.text.count("Everything down") == heard.text.count("Acme:") > 0
    assert "2 alerts" not in heard.text
    done = world.first.press(world.first.calls[1], heard, "7")
    assert done.text == f"You acknowledged alert {parent}. Goodbye."


def test_nobody_who_is_not_known_gets_an_answer_and_second_comers_hear_how_it_stands(world: World) -> None:
    world.post.user("alice", SMS)
    world.post.user("bob", {"label": "SMS", "channel": "sms", "address": BOB})
    alert, other = world.post.alert(), world.post.alert("Disk full")
    world.post.page(alert, "alice", "bob")
    world.post.page(other, "alice")
    world.post.go()
    assert world.hear("+41790009999", f"ack {alert}") is None
    assert world.hear("+41790009999", "help") is None
    assert world.hear(BOB, f"ack {other}") == f"You were not paged about alert {other}. Open it in Tocsin to act on it."
    world.hear(ALICE, f"close {alert}")
    assert "already closed by Alice" in str(world.hear(BOB, f"ack {alert}"))
    assert world.hear(BOB, "ack") == command_parser.NONE_OPEN


def test_a_text_that_comes_twice_acts_once_and_is_answered_alike(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    answers = {world.hear(ALICE, "reply On my way", sid="SM-same") for _ in range(2)}
    assert len(answers) == 1
    assert AlertEvent.objects.filter(alert=alert, kind="replied").count() == 1


def test_a_text_that_comes_twice_at_one_moment_acts_once(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: world.hear(ALICE, "reply On my way", sid="SM-same"), range(6)))
    assert AlertEvent.objects.filter(alert=alert, kind="replied").count() == 1
    assert world.hear(ALICE, "reply On my way", sid="SM-same")
    # A process that stopped between hearing and acting: what comes again later acts.
    ProcessedCallback.objects.update(answer="", at=world.post.at(-31))
    assert world.hear(ALICE, "reply On my way", sid="SM-same")
    assert AlertEvent.objects.filter(alert=alert, kind="replied").count() == 2


def test_without_a_valid_signature_nothing_is_heard(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    url, fields = f"{BASE}/hooks/twilio/sms", {"From": ALICE, "Body": "close", "MessageSid": "SM9", "To": NUMBER}
    assert world.first.post(url, fields, signature="")[0] == 403
    assert world.first.post(url, fields, signature=world.first.sign(url, {**fields, "Body": "help"}))[0] == 403
    assert world.first.post(url, fields, signature=world.second.sign(url, fields))[0] == 403
    assert world.first.post(f"{BASE}/hooks/nobody/sms", fields)[0] == 404
    assert world.first.post(f"{BASE}/hooks/twilio/elsewhere", fields)[0] == 404
    assert Alert.objects.get(pk=alert).status == "open"
    assert world.first.post(url, fields)[0] == 200
    assert Alert.objects.get(pk=alert).status == "closed"


def test_a_provider_that_was_switched_off_is_still_heard_about_what_it_sent(world: World) -> None:
    world.post.user("alice", SMS, {**CALL, "wait": "0s"})
    alert, other = world.post.alert(), world.post.alert("Site down")
    world.post.page(alert, "alice")
    world.post.go()
    (text,), (call,) = world.first.messages, world.first.calls
    heard = world.first.pick_up(call)
    Provider.objects.filter(name="Twilio").update(is_enabled=False)
    changed()
    assert world.first.message_status(text, "delivered") == 204
    assert world.delivery("SMS").status == "delivered"
    assert world.first.press(call, heard, "7").hangs_up
    assert AlertEvent.objects.filter(alert=alert, kind="acknowledged", via="voice").exists()
    assert world.hear(ALICE, "take")
    assert AlertEvent.objects.filter(alert=alert, kind="assigned", via="sms").exists()
    url, fields = f"{BASE}/hooks/twilio/sms", {"From": ALICE, "Body": "close", "MessageSid": "SM9", "To": NUMBER}
    assert world.first.post(url, fields, signature="")[0] == 403
    world.post.page(other, "alice")
    world.post.go(60)
    assert (len(world.first.messages), len(world.second.messages)) == (1, 1), "nothing more is sent by it"


def test_a_provider_that_was_renamed_is_heard_about_what_it_sent_under_its_old_name(world: World) -> None:
    world.post.user("alice", SMS, {**CALL, "wait": "0s"})
    world.post.page(alert := world.post.alert(), "alice")
    world.post.go()
    (text,), (call,) = world.first.messages, world.first.calls
    heard = world.first.pick_up(call)
    row = Provider.objects.get(name="Twilio")
    commands.save_provider(
        {**commands.provider_spec(row), "name": "Swiss"}, existing=row, actor=ACTOR, now=world.post.now
    )
    assert world.first.message_status(text, "delivered") == 204
    assert world.delivery("SMS").status == "delivered"
    assert world.first.press(call, heard, "7").hangs_up
    assert AlertEvent.objects.filter(alert=alert, kind="acknowledged", via="voice").exists()
    assert world.hear(ALICE, "take") == f"You have alert {alert}."
    assert world.first.post(f"{BASE}/hooks/nobody/sms", {})[0] == 404


def test_a_call_says_it_twice_repeats_on_a_wrong_key_and_closes_on_nine_and_nine(world: World) -> None:
    world.post.user("alice", {**CALL, "wait": "0s"})
    alert = world.post.alert(short_text="VPN down, 40 users")
    world.post.page(alert, "alice")
    world.post.go()
    (call,) = world.first.calls
    assert (call["To"], call["MachineDetection"]) == (ALICE, "Enable")
    heard = world.first.pick_up(call)
    assert heard.text == (
        "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Acme: VPN down, 40 users. Press 7 to acknowledge, "
        "8 to take it, 6 to wake the next person, 9 to close, 1 to hear it again."
    )
    assert heard.then == heard.text[heard.text.index("Press 7") :]
    assert world.delivery("Phone").status == "delivered"
    wrong = world.first.press(call, heard, "5")
    assert wrong.text.startswith("This key does nothing. Tocsin. Critical alert")
    again = world.first.press(call, wrong, "1")
    assert again.text == heard.text
    sure = world.first.press(call, again, "9")
    assert sure.text == "Press 9 again to close."
    assert Alert.objects.get(pk=alert).status == "open"
    done = world.first.press(call, sure, "9")
    assert (done.text, done.hangs_up) == (f"Alert {alert} is closed. Goodbye.", True)
    assert Alert.objects.get(pk=alert).status == "closed"
    event = AlertEvent.objects.filter(alert=alert, kind="closed").get()
    assert (event.via, event.actor_name) == ("voice", "Alice")
    assert world.first.call_status(call, "completed") == 204
    assert (world.delivery("Phone").status, world.delivery("Phone").receipt) == ("delivered", "answered")
    # Whoever is called about what is over hears that, and no menu.
    late = world.first.pick_up(call)
    assert "already closed by Alice" in late.text
    assert late.hangs_up


@pytest.mark.parametrize(("key", "kind"), [("7", "acknowledged"), ("8", "assigned"), ("6", "escalated")])
def test_a_key_acts(world: World, key: str, kind: str) -> None:
    world.post.user("alice", {**CALL, "wait": "0s"}, language="de")
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    heard = world.first.pick_up(world.first.calls[0])
    assert heard.text.startswith("Tocsin. Kritischer Alarm für Alice.")
    assert set(heard.languages) == {"de-DE"}
    done = world.first.press(world.first.calls[0], heard, key)
    assert done.hangs_up
    assert AlertEvent.objects.filter(alert=alert, kind=kind, via="voice").exists()


@pytest.mark.parametrize("how", ["machine", "no-answer", "busy", "completed", "off"])
def test_a_call_that_reaches_nobody_moves_on_to_the_next_way(world: World, how: str) -> None:
    world.post.user("alice", {**CALL, "wait": "0s"}, {**SMS, "wait": "10m"})
    world.post.page(world.post.alert(), "alice")
    world.post.go()
    (call,) = world.first.calls
    if how == "machine":
        assert world.first.pick_up(call, by="machine_start").hangs_up
        world.first.call_status(call, "completed", AnsweredBy="machine_start")
    elif how == "off":
        world.first.call_status(call, "failed", SipResponseCode="480")
    else:
        world.first.call_status(call, how)
    told = world.delivery("Phone")
    assert (told.status, told.receipt) == ("sent", "not_reached")
    assert told.reason in (
        "A machine answered the call.", "Nobody picked up.", "The phone was busy.",
        "The phone was off or out of reach.",
        # It was put down while Twilio was still listening for a machine.
        "The call ended before anybody was told anything.",
    )  # fmt: skip
    world.post.go()
    assert len(world.first.messages) == 1
    assert "Brought forward, because the call before it reached nobody." in world.delivery("SMS").reason
    # The provider did all it could.
    assert not ProviderHealth.objects.filter(failures__gt=0).exists()


def test_a_text_that_is_reported_as_failed_goes_by_the_next_provider_at_once(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    world.first.message_status(world.first.messages[0], "undelivered", 30007)
    world.post.go()
    assert world.post.states(alert) == [("SMS", "failed", "Twilio"), ("SMS", "sent", "Twilio two")]
    failed = world.post.deliveries(alert)[0]
    assert failed.error.startswith("The operator took the text for spam.")
    # A late word that it was accepted changes nothing any more.
    world.first.message_status(world.first.messages[0], "sent")
    world.second.message_status(world.second.messages[0], "failed", 30005)
    assert world.post.states(alert)[1] == ("SMS", "failed", "Twilio two")
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1


def test_a_text_that_failed_for_what_passes_is_sent_again_and_the_next_way_does_not_wait(world: World) -> None:
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    changed()
    world.post.user("alice", SMS, {**CALL, "wait": "10m"})
    world.post.page(alert := world.post.alert(), "alice")
    world.post.go()
    (first,) = world.first.messages
    world.first.message_status(first, "failed", 30001)
    assert world.post.states(alert)[0] == ("SMS", "queued", "Twilio")
    world.post.go(10)
    assert world.post.states(alert) == [("SMS", "sent", "Twilio"), ("Phone", "sent", "Twilio")]
    # What is said again of the first is not about the second.
    world.first.message_status(first, "failed", 30001)
    assert world.post.states(alert)[0] == ("SMS", "sent", "Twilio")
    world.first.message_status(world.first.messages[1], "delivered")
    assert (world.delivery("SMS").status, len(world.first.messages)) == ("delivered", 2)


def test_what_is_not_reported_in_time_moves_on_and_a_provider_that_never_delivers_is_passed_over(world: World) -> None:
    world.post.user("alice", SMS, {**CALL, "wait": "10m"})
    world.post.page(world.post.alert(), "alice")
    world.post.go()
    box = world.post.outboxes[0]
    world.post.seconds = 59
    box.keep_leases()
    world.post.go()
    assert world.first.calls == []
    world.post.seconds = 61
    box.keep_leases()
    world.post.go()
    assert len(world.first.calls) == 1
    assert "Twilio did not report it as delivered within 60 seconds." in world.delivery("SMS").reason
    assert "Twilio did not report the way before as delivered" in world.delivery("Phone").reason
    assert ProviderHealth.objects.get(name="Twilio").failures == 1


def test_one_phone_that_is_off_does_not_have_its_provider_passed_over_for_all(world: World) -> None:
    for number in range(3):
        world.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
    box = world.post.outbox()
    for minute in range(4):
        world.post.seconds = 120 * minute
        world.post.page(world.post.alert(), "user0")
        world.post.go()
        world.post.seconds += 61
        box.keep_leases()
    health = ProviderHealth.objects.get(name="Twilio")
    assert (health.failures, health.is_open) == (1, False)
    world.post.seconds = 1000
    world.post.page(world.post.alert(), "user1", "user2")
    world.post.go()
    world.post.seconds = 1061
    box.keep_leases()
    assert ProviderHealth.objects.get(name="Twilio").is_open


def test_a_provider_that_fails_on_end_is_passed_over_until_it_answers_again(world: World) -> None:
    for number in range(5):
        world.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
    world.first.is_down = True
    for number in range(5):
        world.post.page(world.post.alert(), f"user{number}")
        world.post.go()
    assert len(world.second.messages) == 5
    asked = [request for request in world.first.http.requests if request.method == "POST"]
    assert len(asked) == 3
    health = ProviderHealth.objects.get(name="Twilio")
    assert health.is_open
    assert health.retry_at == world.post.now + timedelta(seconds=30)
    assert "+417900001" not in health.error
    box = world.post.outboxes[0]
    world.post.seconds = 31
    box.ask_providers()
    assert ProviderHealth.objects.get(name="Twilio").is_open
    world.first.is_down = False
    world.post.seconds = 200
    box.ask_providers()
    assert not ProviderHealth.objects.get(name="Twilio").is_open
    world.post.page(world.post.alert(), "user0")
    world.post.go()
    assert len(world.first.messages) == 1


def test_what_was_known_of_a_provider_is_forgotten_when_it_is_changed_or_deleted(world: World) -> None:
    row = Provider.objects.get(name="Twilio")
    spec = commands.provider_spec(row)
    broken = ProviderHealth(name="Twilio", failures=3, is_open=True, retry_at=world.post.now, error="It refuses.")
    broken.save()
    commands.save_provider(spec, existing=row, actor=ACTOR, now=world.post.now)
    assert [text for text, _, _ in provider_warnings.found(world.post.now)] == [
        "Twilio fails, and others take its turn: It refuses."
    ]
    commands.save_provider({**spec, "auth_token": "corrected"}, existing=row, actor=ACTOR, now=world.post.now)
    assert not ProviderHealth.objects.exists(), "it is used in its turn at once"
    broken.save()
    commands.delete_provider(row, actor=ACTOR, now=world.post.now)
    assert list(provider_warnings.found(world.post.now)) == []
    # One that went with the environment's variables.
    ProviderHealth.objects.create(name="SMTP (environment)", is_open=True, retry_at=world.post.now)
    assert list(provider_warnings.found(world.post.now)) == []


def test_home_tells_what_another_provider_sent_from_what_nobody_did(world: World) -> None:
    world.post.user("alice", SMS)
    world.first.refusals.append("country")
    world.post.page(world.post.alert(), "alice")
    world.post.go()
    assert list(provider_warnings.found(world.post.now)) == [
        ("Twilio could not send 1 message in the last 24 hours; another provider did", "/providers/", False)
    ]
    for double in (world.first, world.second):
        double.refusals.append("country")
    world.post.page(world.post.alert("Disk full"), "alice")
    world.post.go(11)
    text = "1 message of the last 24 hours could not be sent at all: Twilio, Twilio two"
    assert (text, "/providers/", True) in list(provider_warnings.found(world.post.now))


def test_an_address_that_is_refused_says_nothing_against_the_provider(world: World) -> None:
    world.post.user("alice", SMS)
    world.first.refusals.append("country")
    world.second.refusals.append(Response(400, b'{"code": 21610, "status": 400}'))
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    assert [d.error.split(".")[0] for d in world.post.deliveries(alert)] == [
        "Texts to this country are switched off",
        "The recipient has opted out with STOP, and must send START to get texts again (Twilio 21610)",
    ]
    world.post.user("bob", {**CALL, "address": BOB, "wait": "0s"})
    world.post.page(alert, "bob")
    world.post.go()
    world.first.call_status(world.first.calls[0], "failed", SipResponseCode="404")
    assert "The number is not in service." in [d.error for d in world.post.deliveries(alert)]
    assert not ProviderHealth.objects.filter(failures__gt=0).exists()


def test_stop_is_honoured_until_start_comes(world: World) -> None:
    world.post.user("alice", SMS)
    assert world.hear(ALICE, "STOP") is None
    assert world.hear("+41790009999", "STOP") is None
    assert [row.address for row in OptOut.objects.all()] == [ALICE]
    with database.transaction() as connection:
        assert [(name, label) for _, name, label, _ in opt_outs.opted_out(connection)] == [("Alice", "SMS")]
    assert "people.opted_out" in {finding.id for finding in checks.check(world.post.now)}
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    assert world.first.messages == []
    assert "STOP was sent from this number" in world.delivery("SMS").error
    assert world.hear(ALICE, "start") == opt_outs.START_ANSWER
    # A vendor's word for START, said to a question of Tocsin's.
    assert world.hear(ALICE, "Yes") == command_parser.UNKNOWN
    world.post.page(world.post.alert(), "alice")
    world.post.go()
    assert len(world.first.messages) == 1


def test_a_provider_with_a_limit_a_minute_leaves_the_rest_to_the_next(world: World) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**world.first.settings, "rate": 12})
    changed()
    for number in range(7):
        world.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
    for number in range(6):
        world.post.page(world.post.alert(), f"user{number}")
    world.post.go()
    assert (len(world.first.messages), len(world.second.messages)) == (2, 4)
    world.post.seconds = 5
    world.post.page(world.post.alert(), "user6")
    world.post.go()
    assert len(world.first.messages) == 3


def test_what_waits_for_its_turn_leaves_when_the_provider_may_send_more(world: World) -> None:
    Provider.objects.filter(name="Twilio two").update(is_enabled=False)
    Provider.objects.filter(name="Twilio").update(settings={**world.first.settings, "rate": 1})
    changed()
    for number in range(3):
        world.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
        world.post.page(world.post.alert(), f"user{number}")
    world.post.go()
    assert len(world.first.messages) == 1
    slow = Provider.objects.get(name="Twilio")
    commands.save_provider(
        {**commands.provider_spec(slow), "rate": 600}, existing=slow, actor=ACTOR, now=world.post.now
    )
    world.post.go(1)
    assert len(world.first.messages) == 3


def test_what_a_provider_with_a_limit_cannot_take_yet_keeps_nothing_else_waiting(world: World) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**world.first.settings, "rate": 12, "prefixes": "+1"})
    Provider.objects.filter(name="Twilio two").update(settings={**world.second.settings, "prefixes": "+41"})
    changed()
    for number in range(8):
        world.post.user(f"user{number}", {**SMS, "address": f"+120255501{number:02}"})
        world.post.page(world.post.alert(), f"user{number}")
    world.post.seconds = 1
    world.post.user("alice", SMS)
    world.post.page(world.post.alert(), "alice")
    box = world.post.outbox(slots=6)
    turns = 0
    while box.turn() and turns < 20:
        box.settle()
        turns += 1
    box.settle()
    assert turns < 20, "nothing can leave now, and it goes on looking"
    assert (len(world.first.messages), len(world.second.messages)) == (2, 1)
    world.post.go(7, box)
    assert len(world.first.messages) == 3


def test_what_waits_for_a_provider_with_a_limit_leaves_in_the_order_in_which_it_came(world: World) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**world.first.settings, "rate": 12, "prefixes": "+1"})
    Provider.objects.filter(name="Twilio two").update(settings={**world.second.settings, "prefixes": "+41"})
    changed()
    addresses = [f"+120255501{number:02}" for number in (7, 3, 9, 1, 8, 2, 6, 4)]
    for number, address in enumerate(addresses):
        world.post.user(f"user{number}", {**SMS, "address": address})
    box = world.post.outbox()
    # Each comes at another part of a second, and more of them than may leave.
    for step in range(200):
        if step % 9 == 0 and step // 9 < len(addresses):
            world.post.page(world.post.alert(), f"user{step // 9}")
        world.post.go(0.3 * step, box)
    assert [message["To"] for message in world.first.messages] == addresses


def test_a_provider_that_hangs_for_its_own_countries_keeps_no_others_waiting(world: World) -> None:
    Provider.objects.filter(name="Twilio").update(settings={**world.first.settings, "prefixes": "+1"})
    Provider.objects.filter(name="Twilio two").update(settings={**world.second.settings, "prefixes": "+41"})
    changed()
    world.second.takes = 2.0
    for number in range(9):
        world.post.user(f"user{number}", {**SMS, "address": f"+4179000010{number}"})
        world.post.page(world.post.alert(), f"user{number}")
    world.post.seconds = 1
    world.post.user("alice", {**SMS, "address": "+12025550101"})
    alert = world.post.alert()
    world.post.page(alert, "alice")
    box = world.post.outbox(slots=6)
    begun = time.monotonic()
    for _ in range(8):
        box.turn()
    assert time.monotonic() - begun < 2.0, "it waits for the one that hangs"
    assert world.post.deliveries(alert)[0].status in ("sending", "sent")
    world.second.takes = 0.0
    box.settle()
    world.post.go(3, box)
    assert (len(world.first.messages), len(world.second.messages)) == (1, 9)


def test_whoever_tests_a_phone_is_told_which_key_was_pressed(world: World) -> None:
    user = world.post.user("alice", {**CALL, "wait": "0s"})
    method = user.contact_methods.get()
    with database.transaction() as connection:
        contact_tests.queue_test(connection, user.pk, method.pk, world.post.now)
    world.post.go()
    (call,) = world.first.calls
    done = world.first.press(call, world.first.pick_up(call), "7")
    assert done.text == "You pressed 7. This phone works. Goodbye."
    assert "The key 7 was pressed." in world.delivery("Phone").reason


def test_who_is_deleted_leaves_no_number_behind(world: World, now: datetime) -> None:
    mail = {"label": "Email", "channel": "email", "address": "alice@private.example"}
    user = world.post.user("alice", SMS, mail)
    people.save_contact_method(user, {**SMS, "label": "Called", "channel": "voice"}, actor=ACTOR, now=now)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    world.hear(ALICE, "help")
    world.hear(ALICE, "stop")
    MailReply.objects.create(
        mail_hash="1", received_at=now, provider_name="Mailbox", sender="alice@private.example", subject="Re: VPN",
        user=user, reason="alice@private.example is not one of Bob's own addresses.",
    )  # fmt: skip
    world.post.act(alert, Close(actor=world.post.actor("alice")))
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


def test_a_page_that_somebody_answered_is_not_handed_to_the_next_provider_when_its_receipt_says_failed(
    world: World,
) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    with database.transaction() as connection:
        queue.cancel(connection, [alert], None, "Bob acknowledged it.", world.post.now)
    world.first.message_status(world.first.messages[0], "failed", 30003)
    world.post.go()
    assert world.second.messages == []
    assert world.post.states(alert) == [("SMS", "failed", "Twilio")]
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1


def test_a_closed_alert_is_not_texted_again_when_its_receipt_says_failed(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    world.post.act(alert, Close(actor=world.post.actor("alice")))
    world.first.message_status(world.first.messages[0], "failed", 30003)
    world.post.go()
    assert world.second.messages == []
    assert [d.status for d in world.post.deliveries(alert)] == ["failed", "cancelled"]


def test_the_second_vendor_hears_replies_and_receipts_only_with_its_signature(world: World) -> None:
    Provider.objects.all().delete()
    world.post.user("alice", SMS)
    with telnyx_double() as telnyx:
        telnyx.server = world.first.server
        provider("Telnyx", "telnyx", ["sms"], secrets={"api_key": telnyx.key}, **telnyx.settings)
        alert = world.post.alert()
        world.post.page(alert, "alice")
        world.post.go()
        (message,) = telnyx.messages
        at, url = world.post.now.timestamp(), f"{BASE}/hooks/telnyx/sms"
        payload = {"id": "x", "from": {"phone_number": ALICE}, "text": "close"}
        assert telnyx.post(url, "message.received", payload, at, signature=bytes(64)) == 403
        assert telnyx.received(url, ALICE, "close", at - 600) == 403
        assert telnyx.received(url, "+41790009999", "ack", at) == 200
        assert len(telnyx.messages) == 1
        assert telnyx.received(url, ALICE, "ack", at) == 200
        assert (telnyx.messages[-1]["to"], telnyx.messages[-1]["text"]) == (ALICE, f"You acknowledged alert {alert}.")
        assert AlertEvent.objects.filter(alert=alert, kind="acknowledged", via="sms").exists()
        assert telnyx.finalized(message, "delivered", at) == 200
        assert world.delivery("SMS").status == "delivered"


def test_a_number_without_a_country_code_is_of_the_installations_own_country_or_refused() -> None:
    with pytest.raises(Rejected, match="country code"):
        addresses.checked("sms", "079 000 00 01")
    settings_store.set(settings_store.PHONE_REGION, "CH")
    assert addresses.checked("sms", "079 000 00 01") == ALICE


def test_a_text_with_characters_that_cannot_be_stored_is_taken_without_them(world: World) -> None:
    world.post.user("alice", SMS)
    alert = world.post.alert()
    world.post.page(alert, "alice")
    world.post.go()
    assert world.hear(ALICE, "reply mail me\x00 example.org")
    event = AlertEvent.objects.get(alert=alert, kind="replied")
    assert event.data["text"] == "mail me\ufffd example.org"
    assert not world.hear(f"\x00{ALICE}", "ack")


@pytest.fixture
def with_codes(world: World) -> World:
    settings_store.set("sms_reply_codes", True)
    changed()
    return world


def test_text_message_says_the_code_of_its_answer(with_codes: World) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = reply_codes.code_of(user.pk, alert)
    (message,) = with_codes.first.messages
    assert f"Reply ACK {alert} {code}, TAKE {alert} {code}. " in message["Body"]
    assert with_codes.hear(ALICE, f"ack {alert} {code}") == f"You acknowledged alert {alert}."


@pytest.mark.parametrize(
    "text", ["ack", "7", "ack {alert}", "ack all", "ack {alert} {wrong}", "close {alert}", "ack 9999"]
)
def test_forged_answer_without_the_code_does_nothing(with_codes: World, text: str) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = reply_codes.code_of(user.pk, alert)
    wrong = f"{(int(code) + 1) % 10_000:04}"
    answer = str(with_codes.hear(ALICE, text.format(alert=alert, wrong=wrong)))
    word = "CLOSE" if "close" in text else "ACK"
    assert answer == f"Nothing was done: an answer ends with the code of its alert. Send {word} {alert} {code}."
    assert not AlertEvent.objects.filter(kind__in=["acknowledged", "closed"]).exists()


@pytest.mark.parametrize(
    "text", ["ack {code}", "ACK {alert} {code}!", "ack all {code}", "7 {code}", "reply On my way {code}"]
)
def test_answer_with_the_code_is_taken(with_codes: World, text: str) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    with_codes.hear(ALICE, text.format(alert=alert, code=reply_codes.code_of(user.pk, alert)))
    event = AlertEvent.objects.get(kind__in=["acknowledged", "replied"])
    assert event.data.get("text", "On my way") == "On my way"


def test_codes_cannot_be_guessed(with_codes: World) -> None:
    user = with_codes.post.user("alice", SMS)
    alert = with_codes.post.alert()
    with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = reply_codes.code_of(user.pk, alert)
    for number in range(1, reply_codes.MAX_WRONG + 1):
        with_codes.hear(ALICE, f"ack {alert} {(int(code) + number) % 10_000:04}")
    assert with_codes.hear(ALICE, f"ack {alert} {code}") == reply_codes.TOO_MANY_WRONG
    assert with_codes.hear(ALICE, "help") == sms.for_phones(command_parser.HELP)


def test_several_alerts_share_the_code_of_the_first(with_codes: World) -> None:
    user = with_codes.post.user("alice", SMS)
    first, second = with_codes.post.alert(), with_codes.post.alert()
    for alert in (first, second):
        with_codes.post.page(alert, "alice")
    with_codes.post.go()
    code = reply_codes.code_of(user.pk, first)
    assert with_codes.hear(ALICE, f"ack {second} {code}") == f"You acknowledged alert {second}."
    assert "You acknowledged" in str(with_codes.hear(ALICE, f"ack all {code}"))


def test_codes_differ_by_user_and_alert() -> None:
    assert len({reply_codes.code_of(user, alert) for user in range(10) for alert in range(10)}) > 90
