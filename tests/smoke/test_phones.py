"""A night with a phone: a text to the primary, no answer, a call, key 7, silence; and nobody notices that the first
provider was down all the time."""

from __future__ import annotations

from tests.doubles.twilio import TwilioDouble, twilio_double
from tests.support.installation import CONFIGURATION, Installation, ticket, traces, until

BASE = "https://tocsin.example.org"
ALICE, BOB = "+41790000001", "+41790000002"

METHODS = "contact_methods: [{label: Email-Official, channel: email, address: alice@example.org}]"
BOBS = METHODS.replace("alice", "bob")
PHONES = (
    "contact_methods: [{{label: SMS, channel: sms, address: '{0}'}}, "
    "{{label: Phone, channel: voice, address: '{0}', wait: 3m}}]"
)


def providers(first: TwilioDouble, second: TwilioDouble) -> str:
    return "providers:\n" + "".join(
        f"  - {{name: {name}, kind: twilio, order: {order}, account_sid: {double.settings['account_sid']}, "
        f"auth_token: {double.token}, from_number: '{double.settings['from_number']}', api_base: '{double.url}'}}\n"
        for order, (name, double) in enumerate({"First": first, "Second": second}.items(), 1)
    )


def test_a_text_then_a_call_then_key_seven_then_silence(tocsin: Installation) -> None:
    with twilio_double("token-one") as first, twilio_double("token-two") as second:
        first.is_down = True
        people = CONFIGURATION.replace(METHODS, PHONES.format(ALICE)).replace(BOBS, PHONES.format(BOB))
        tocsin.apply(people + providers(first, second))
        tocsin.serve(TOCSIN_BASE_URL=BASE, TOCSIN_ALLOW_TARGETS="127.0.0.0/8")
        first.server = second.server = tocsin.url

        number = tocsin.post(ticket(20817)).json()["alert_id"]
        text = until("the text has left", lambda: second.messages)[0]
        assert (text["To"], text["StatusCallback"].partition("?")[0]) == (ALICE, f"{BASE}/hooks/second/status")
        assert f"Reply ACK {number}, ASSIGN {number}." in text["Body"]
        until("it is written down", lambda: second.message_status(text, "delivered") and delivered(tocsin, number))

        tocsin.jump(minutes=3)
        call = until("the phone rings", lambda: second.calls)[0]
        spoken = second.pick_up(call)
        assert spoken.text.count("Acme: VPN 20817 down.") == 2
        done = second.press(call, spoken, "7")
        assert done.text == f"You acknowledged alert {number}. Goodbye."
        assert second.call_status(call, "completed") == 204

        tocsin.jump(minutes=10)
        alert = tocsin.api(f"alerts/{number}")
        assert alert["acknowledged_by"] == ["alice"]
        deliveries = tocsin.api(f"deliveries?alert_id={number}")["items"]
        assert {delivery["user"] for delivery in deliveries} == {"alice"}
        assert [message["To"] for message in second.messages + second.calls] == [ALICE, ALICE]
        failed = [delivery for delivery in deliveries if delivery["status"] == "failed"]
        assert {delivery["provider"] for delivery in failed} == {"First"}
        assert not traces(tocsin.logs())


def delivered(tocsin: Installation, number: int) -> bool:
    results = tocsin.api(f"deliveries?alert_id={number}")["items"]
    return any(delivery["status"] == "delivered" for delivery in results)
