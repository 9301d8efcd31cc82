"""Calls through each vendor that speaks TwiML: one flow, the same answers, and failover between two of them. Real HTTP
both ways with a controlled clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.doubles.http import Response
from tests.doubles.telnyx import TelnyxDouble, telnyx_double
from tests.doubles.twilio import Phone, TwilioDouble, twilio_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, outbox_harness, provider
from tests.support.webhook_server import hook_server
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database
from tocsin.core.reasons import each_of
from tocsin.core.runtime import clock
from tocsin.notify.inbound import verification
from tocsin.notify.models import Delivery, Provider, ProviderHealth
from tocsin.notify.pages import cancel_pages
from tocsin.notify.rules import page_planner

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
ALICE = "+41790000001"
CALL = {"label": "Phone", "channel": "voice", "address": ALICE, "wait": "0s"}
SMS = {"label": "SMS", "channel": "sms", "address": ALICE, "wait": "10m"}

#: Which vendor is called first, and which second.
ORDERS = [("twilio", "telnyx"), ("telnyx", "twilio")]


@dataclass
class CallScenario:
    """A post office with two vendors of calls."""

    post: OutboxHarness
    first: TwilioDouble | TelnyxDouble
    second: TwilioDouble | TelnyxDouble
    #: The providers' names.
    one: str
    two: str

    def call(self, subject: str = "VPN down", **spec: Any) -> int:
        """Alice is called about an alert."""
        if "alice" not in self.post.users:
            self.post.user("alice", CALL, SMS, **spec)
        alert = self.post.alert(subject)
        self.post.page(alert, "alice")
        self.post.go()
        return alert

    def wait(self, seconds: float) -> None:
        """Time passes; what is overdue is noticed, and what is due is sent."""
        self.post.seconds += seconds
        self.post.outboxes[0].maintain_leases()
        self.post.go()

    def states(self) -> list[tuple[str, str, str]]:
        return [state for state in self.post.states() if state[0] == "Phone"]

    @property
    def delivery(self) -> Delivery:
        return [d for d in self.post.deliveries() if d.channel == "voice"][-1]

    @property
    def texts(self) -> int:
        return len(self.first.messages) + len(self.second.messages)


@pytest.fixture(params=ORDERS, ids=lambda order: "-".join(order))
def scenario(request: pytest.FixtureRequest, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[CallScenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now) as post, ExitStack() as stack:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        server, doubles = stack.enter_context(hook_server()), []
        for order, kind in enumerate(request.param, 1):
            made = {"twilio": twilio_double, "telnyx": telnyx_double}[kind]
            double = stack.enter_context(made("secret"))
            double.server = server
            if isinstance(double, TelnyxDouble):
                double.now = lambda: post.now.timestamp()
            secrets = {"auth_token": "secret", "api_key": "secret"}
            provider(kind, kind, ["sms", "voice"], order, secrets=secrets, **double.settings)
            doubles.append(double)
        yield CallScenario(post, *doubles, *request.param)


def acknowledged() -> list[int]:
    """The alerts that were acknowledged by phone, each time."""
    events = AlertEvent.objects.filter(kind="acknowledged", via="voice")
    return list(events.order_by("alert_id").values_list("alert_id", flat=True))


def refuse(double: Phone, answer: Response) -> None:
    """The vendor answers the next request like this."""
    (double.refusals if isinstance(double, TwilioDouble) else double.answers).append(answer)  # type: ignore[attr-defined]


def test_call_is_read_reprompted_and_answered_by_key(scenario: CallScenario) -> None:
    alert = scenario.call()
    (call,) = scenario.first.calls
    assert (call["To"], call["MachineDetection"]) == (ALICE, "DetectMessageEnd")
    for status in ("initiated", "ringing"):
        assert scenario.first.call_status(call, status) == 204
    spoken = scenario.first.pick_up(call)
    menu = "Press 7 to acknowledge, 8 to assign to yourself, 6 to escalate, 9 to close, 1 to repeat."
    assert spoken.text == f"Tocsin. Critical alert for Alice. Acme: VPN down. Acme: VPN down. {menu}"
    assert spoken.then == menu
    assert scenario.delivery.status == "delivered"
    sure = scenario.first.press(call, spoken, "9")
    assert (sure.text, sure.hangs_up) == ("Press 9 again to close.", False)
    done = scenario.first.press(call, scenario.first.press(call, sure, "1"), "7")
    assert (done.text, done.hangs_up) == (f"You acknowledged alert {alert}. Goodbye.", True)
    assert scenario.first.call_status(call, "completed") == 204
    assert (scenario.delivery.status, scenario.delivery.receipt) == ("delivered", "answered")
    assert acknowledged() == [alert]
    assert scenario.second.calls == []


@pytest.mark.parametrize("by", ["machine_end_beep", "machine_end_other", "fax"])
def test_machine_hears_the_message_and_next_method_follows(scenario: CallScenario, by: str) -> None:
    scenario.call()
    (call,) = scenario.first.calls
    heard = scenario.first.pick_up(call, by=by)
    assert heard.text == "Tocsin. Critical alert for Alice. Acme: VPN down. Acme: VPN down."
    assert (heard.action, heard.hangs_up) == ("", True)
    scenario.first.call_status(call, "completed", AnsweredBy=by)
    assert (scenario.delivery.status, scenario.delivery.receipt) == ("sent", "not_reached")
    assert page_planner.MACHINE_ANSWERED() in each_of(scenario.delivery.reason)
    scenario.post.go()
    assert (scenario.texts, scenario.second.calls) == (1, [])


def test_machine_reported_to_the_status_url_hears_it_too(scenario: CallScenario) -> None:
    scenario.call()
    (call,) = scenario.first.calls
    heard = scenario.first.ask(
        call, call["StatusCallback"], {"CallStatus": "in-progress", "AnsweredBy": "machine_end_beep"}
    )
    assert "Acme: VPN down." in heard.text
    assert scenario.delivery.receipt == "not_reached"
    # The document is asked for all the same: nobody was reached.
    scenario.first.pick_up(call, by="")
    assert scenario.delivery.receipt == "not_reached"


def test_code_is_never_left_on_a_machine(scenario: CallScenario) -> None:
    user = scenario.post.user("alice", CALL)
    verification.send_code(user.contact_methods.get(), now=scenario.post.now)
    scenario.post.go()
    heard = scenario.first.pick_up(scenario.first.calls[0], by="machine_end_beep")
    assert (heard.text, heard.hangs_up) == ("", True)


@pytest.mark.parametrize("status", ["busy", "no-answer", "canceled"])
def test_unreached_person_is_no_failure_of_the_vendor(scenario: CallScenario, status: str) -> None:
    scenario.call()
    scenario.first.call_status(scenario.first.calls[0], status)
    scenario.post.go()
    assert scenario.states() == [("Phone", "sent", scenario.one)]
    assert (scenario.texts, scenario.second.calls) == (1, [])
    assert not ProviderHealth.objects.filter(failures__gt=0).exists()


@pytest.mark.parametrize("answer", [Response(503), Response(403), Response(hangs_up=True)])
def test_refused_call_is_made_by_the_next_vendor(scenario: CallScenario, answer: Response) -> None:
    refuse(scenario.first, answer)
    scenario.call()
    assert (len(scenario.first.calls), len(scenario.second.calls)) == (0, 1)
    assert scenario.states() == [("Phone", "failed", scenario.one), ("Phone", "sent", scenario.two)]


def test_failed_call_is_made_by_the_next_vendor(scenario: CallScenario) -> None:
    alert = scenario.call()
    scenario.first.call_status(scenario.first.calls[0], "failed", SipResponseCode="503")
    scenario.post.go()
    assert scenario.states() == [("Phone", "failed", scenario.one), ("Phone", "sent", scenario.two)]
    assert "could not make the call." in str(scenario.post.deliveries()[0].error)
    (call,) = scenario.second.calls
    done = scenario.second.press(call, scenario.second.pick_up(call), "7")
    assert done.text == f"You acknowledged alert {alert}. Goodbye."
    assert scenario.texts == 0


def test_silent_vendor_is_replaced_within_ten_seconds(scenario: CallScenario) -> None:
    alert = scenario.call()
    scenario.wait(5)
    assert scenario.second.calls == []
    scenario.wait(3)
    assert len(scenario.second.calls) == 1
    assert scenario.states() == [("Phone", "failed", scenario.one), ("Phone", "sent", scenario.two)]
    failed = next(d for d in scenario.post.deliveries() if d.status == "failed")
    assert str(failed.error) == "It did not report that it is making the call within 6 seconds."
    assert ProviderHealth.objects.get(name=scenario.one).failures == 1
    # It rings there after all: the key counts.
    late = scenario.first.calls[0]
    scenario.first.press(late, scenario.first.pick_up(late), "7")
    assert acknowledged() == [alert]


def test_call_that_rings_is_waited_for(scenario: CallScenario) -> None:
    scenario.call()
    scenario.first.call_status(scenario.first.calls[0], "initiated")
    scenario.wait(30)
    assert (scenario.texts, scenario.second.calls) == (0, [])
    scenario.wait(31)
    assert (scenario.texts, scenario.second.calls) == (1, [])
    assert "did not report it as delivered within 1 minute." in str(scenario.delivery.reason)


def test_report_before_the_recorded_answer_counts(scenario: CallScenario) -> None:
    scenario.post.user("alice", CALL, SMS)
    scenario.post.page(scenario.post.alert(), "alice")
    box = scenario.post.outbox()
    key = scenario.delivery.notification_id
    record = box.in_flight._write  # type: ignore[attr-defined]

    def report_first(results: Any) -> None:
        call = scenario.first.calls[0]
        scenario.first.call_status(call, "ringing")
        record(results)

    box.in_flight._write = report_first  # type: ignore[attr-defined]
    scenario.post.go()
    assert str(key) in scenario.first.calls[0]["Url"]
    scenario.wait(20)
    assert scenario.second.calls == []


def test_without_another_vendor_the_next_method_follows_silence(scenario: CallScenario) -> None:
    Provider.objects.filter(name=scenario.two).update(channels=["sms"])
    scenario.call()
    scenario.wait(8)
    assert scenario.states() == [("Phone", "sent", scenario.one)]
    assert (len(scenario.first.calls), scenario.texts) == (1, 1)
    scenario.wait(120)
    assert len(scenario.first.calls) == 1, "it rings once"


def test_acknowledged_page_is_not_taken_over(scenario: CallScenario) -> None:
    alert = scenario.call()
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Bob took it.", scenario.post.now)
    scenario.wait(8)
    assert (scenario.texts, scenario.second.calls) == (0, [])


@pytest.mark.parametrize("digits", ["", "77", "*#", "abc", "3", "7" * 400, "٧"])
def test_noise_of_keys_is_answered_and_does_nothing(scenario: CallScenario, digits: str) -> None:
    alert = scenario.call()
    (call,) = scenario.first.calls
    spoken = scenario.first.pick_up(call)
    again = scenario.first.press(call, spoken, digits)
    assert again.text.endswith(spoken.text)
    assert again.text.startswith("Invalid key.") == bool(digits)
    assert again.action == spoken.action
    assert acknowledged() == []
    assert (page_planner.KEY_PRESSED(key=digits[:20]) in each_of(scenario.delivery.reason)) == bool(digits)
    scenario.first.press(call, again, "7")
    assert acknowledged() == [alert]


def test_repeated_and_disordered_callbacks_act_once(scenario: CallScenario) -> None:
    alert = scenario.call()
    (call,) = scenario.first.calls
    spoken = scenario.first.pick_up(call)
    for _ in range(3):
        assert scenario.first.press(call, spoken, "7").hangs_up
    for status in ("completed", "ringing", "initiated", "no-answer", "failed", "in-progress"):
        assert scenario.first.call_status(call, status) == 204
    assert acknowledged() == [alert]
    assert (scenario.delivery.status, scenario.delivery.receipt) == ("delivered", "answered")
    scenario.wait(120)
    assert (len(scenario.first.calls), scenario.second.calls, scenario.texts) == (1, [], 0)


def test_callback_of_an_unknown_call_changes_nothing(scenario: CallScenario) -> None:
    scenario.call()
    stranger = {"sid": "CA-unknown", "To": "+41790009999", "From": "+41445550000"}
    for key in ("", "?n=", "?n=nonsense", "?n=00000000-0000-7000-8000-000000000000"):
        hook = f"{BASE}/hooks/{scenario.one}"
        call = {**stranger, "Url": f"{hook}/voice{key}", "StatusCallback": f"{hook}/status{key}"}
        heard = scenario.first.pick_up(call)
        assert (heard.text, heard.hangs_up) == ("You have no open alerts. Goodbye.", True)
        assert scenario.first.press(call, scenario.first.pick_up(scenario.first.calls[0]), "1").text
        assert scenario.first.call_status(call, "failed") == 204
    assert acknowledged() == []
    assert scenario.delivery.status == "delivered"


def test_forged_or_old_callback_is_refused(scenario: CallScenario) -> None:
    alert = scenario.call()
    url = f"{scenario.first.calls[0]['Url']}"
    fields = {"CallSid": scenario.first.calls[0]["sid"], "Digits": "7", "CallStatus": "in-progress", "To": ALICE}
    if isinstance(scenario.first, TelnyxDouble):
        old = scenario.post.now.timestamp() - 301
        assert scenario.first.post_form(url, fields, old)[0] == 403
        key = scenario.first.signing
        scenario.first.signing = Ed25519PrivateKey.generate()
        assert scenario.first.post_form(url, fields)[0] == 403
        scenario.first.signing = key
    else:
        assert scenario.first.post(url, fields, signature="x")[0] == 403
    assert acknowledged() == []
    assert scenario.first.post_form(url, fields)[0] == 200
    assert acknowledged() == [alert]


def test_call_in_a_storm_counts_alerts_and_lists_them(scenario: CallScenario) -> None:
    scenario.call("Router down")
    alerts = [scenario.post.alert(f"Disk of {name} full") for name in "abcdefghijklmn"]
    for alert in alerts:
        scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.go(10)
    call = scenario.first.calls[1]
    spoken = scenario.first.pick_up(call)
    menu = "Press 7 to acknowledge all, 8 to assign all to yourself, 2 for the list, 1 to repeat."
    assert spoken.text.startswith("Tocsin. 14 alerts for Alice. ")
    assert spoken.text.endswith(menu)
    listed = scenario.first.press(call, spoken, "2")
    assert listed.text.startswith(f"Critical alert {alerts[0]}. Acme: Disk of a full. Critical alert {alerts[1]}.")
    assert listed.text.endswith(f"Acme: Disk of j full. And 4 more. {menu}")
    assert listed.then == menu
    assert scenario.first.press(call, listed, "1").text == spoken.text
    done = scenario.first.press(call, listed, "7")
    assert done.text == "Done for 14 alerts. Goodbye."
    assert acknowledged() == alerts


def test_storm_is_spoken_in_german(scenario: CallScenario) -> None:
    scenario.call("Router down", language="de")
    alerts = [scenario.post.alert(subject) for subject in ("Platte voll", "Drucker aus")]
    for alert in alerts:
        scenario.post.page(alert, "alice")
    scenario.post.go()
    scenario.post.go(10)
    call = scenario.first.calls[1]
    spoken = scenario.first.pick_up(call)
    assert spoken.text.startswith("Tocsin. 2 Alarme für Alice. Kritischer Alarm. Acme: Platte voll.")
    assert "2 für die Liste" in spoken.text
    listed = scenario.first.press(call, spoken, "2")
    assert listed.text.startswith(f"Kritischer Alarm {alerts[0]}. Acme: Platte voll.")
    assert set(listed.languages) == {"de-DE"}
