"""Phone providers on pages: health, webhook URLs, and tests of one provider."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tests.doubles.twilio import NUMBER, twilio_double
from tests.support.outbox_harness import allow_loopback
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.db import database
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.inbound import responder_actions
from tocsin.notify.models import Delivery, Provider
from tocsin.notify.providers import health
from tocsin.people.changes import users as people

type BrowserOf = Callable[..., Client]

BASE = "https://tocsin.example.org"


def test_a_provider_of_phones_is_added_tried_alone_and_watched(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch, base_url=BASE)
    client = browser_of(company.admin)
    with twilio_double() as first, twilio_double() as second:
        for number, (name, double) in enumerate({"Twilio": first, "Other": second}.items(), 1):
            form = {**double.settings, "name": name, "channels": ["sms", "voice"], "order": number, "enabled": "on"}
            answer = client.post("/providers/add/twilio/", {**form, "auth_token": double.token})
            assert answer.status_code == 302, answer.content.decode()
        one = Provider.objects.get(name="Twilio")
        shown = client.get(f"/providers/{one.pk}/").content.decode()
        assert f"{BASE}/hooks/twilio/sms" in shown
        assert first.token not in shown
        bad = client.post(f"/providers/{one.pk}/send-test", {"channel": "sms", "address": "call me"}, follow=True)
        assert "is not a phone number" in bad.content.decode()
        first.refusals.append("broken")
        sent = client.post(f"/providers/{one.pk}/send-test", {"channel": "sms", "address": "+41 79 000 00 01"})
        assert sent.headers["Location"].startswith(f"/providers/{one.pk}/?test="), "the result is beside the provider"
        box = DeliveryDispatcher()
        while box.run_once():
            box.settle()
        box.settle()
        box.close()
        assert (first.messages, second.messages) == ([], [])
        assert [d.status for d in Delivery.objects.all()] == ["failed"]
        assert "Twilio has an internal problem" in client.get(sent["Location"]).content.decode()
    refused = "The recipient has opted out with STOP"
    with twilio_double() as third:
        third.refusals.append("opted out")
        settings = {**third.settings, "name": "Third", "channels": ["sms"], "order": 3, "enabled": "on"}
        client.post("/providers/add/twilio/", {**settings, "auth_token": third.token})
        two = Provider.objects.get(name="Third")
        client.post(f"/providers/{two.pk}/send-test", {"channel": "sms", "address": "+41 79 000 00 01"})
        box = DeliveryDispatcher()
        while box.run_once():
            box.settle()
        box.close()
    assert refused in client.get("/providers/").content.decode()
    assert refused in client.get(f"/providers/{two.pk}/").content.decode()
    (received,) = client.get("/api/v1/providers/Third").json()["refused"]
    assert (received["error"]["text"][:37], received["count"]) == (refused, 1)
    assert "last send failed" in client.get("/providers/").content.decode()
    with database.transaction() as connection:
        for _ in range(2):
            health.record_outcomes(
                connection, [health.HealthUpdate("Twilio", clock.now(), as_reason("Twilio does not answer."))]
            )
    assert "unavailable" in client.get("/providers/").content.decode()
    assert "Twilio is failing, and other providers have taken over" in client.get("/").content.decode()
    card = browser_of(company.observer).get("/providers/tocsin.vcf").content.decode()
    assert f"TEL;TYPE=CELL,VOICE:{NUMBER}\r\n" in card
    assert browser_of(company.manager).post(f"/providers/{one.pk}/send-test").status_code == 403


@pytest.mark.parametrize("kind", ["twilio", "telnyx"])
def test_form_and_api_refuse_a_from_number_without_country_code(
    company: Company, browser_of: BrowserOf, kind: str
) -> None:
    client = browser_of(company.admin)
    settings = {
        "twilio": {"account_sid": "AC1", "auth_token": "secret"},
        "telnyx": {"api_key": "secret", "public_key": "key", "texml_application_id": "177"},
    }[kind]
    spec = {"name": "Phones", "channels": ["sms", "voice"], "order": 1, "from_number": "044 555 00 00", **settings}
    shown = client.post(f"/providers/add/{kind}/", {**spec, "enabled": "on"})
    assert "044 555 00 00&quot; has no country code. Enter a number like +41 44 000 00 00" in shown.content.decode()
    answer = client.post("/api/v1/providers", {**spec, "kind": kind}, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["field"] == "from_number", answer.json()
    assert not Provider.objects.exists()


def test_user_who_sent_stop_is_named_to_those_responsible(company: Company, browser_of: BrowserOf) -> None:
    phone = {"label": "SMS-Official", "channel": "sms", "address": "+41790000001"}
    people.save_contact_method(company.responder, phone, actor=COMMAND_LINE, now=company.now)
    with database.transaction() as connection:
        responder_actions.opt_out(connection, "sms", "+41790000001", "Twilio", company.now)
    client = browser_of(company.admin)
    for path, sentence in (("/", "opted out with STOP"), ("/providers/", "opted out with STOP")):
        text = client.get(path).content.decode()
        assert sentence in text
        assert "+41790000001" not in text
