"""Push devices on the profile page, and push buttons that act as their user."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

from django.test import Client

from tests.doubles.push import Browser
from tests.web.conftest import Company
from tocsin.alerts.models import AlertEvent
from tocsin.core.runtime import clock
from tocsin.notify.models import PushDevice
from tocsin.notify.text import signed_links
from tocsin.people.models import User

type SignIn = Callable[[User], Client]
type Opens = Callable[..., int]


def press(token: str, command: str) -> tuple[int, str]:
    response = Client(enforce_csrf_checks=True).post(
        "/push/act", json.dumps({"token": token, "command": command}), content_type="application/json"
    )
    return response.status_code, response.json()["text"]


def test_device_is_added_renamed_removed_and_keys_stay_hidden(company: Company, browser_of: SignIn) -> None:
    client, phone = browser_of(company.responder), Browser("https://push.example.org/v2/endpoint-of-bobs")
    page = client.get("/me/devices/", headers={"User-Agent": "Firefox/133 (Android 15)"}).content.decode()
    assert "Firefox on Android" in page
    assert "Push is your only contact method" not in page
    given = {"subscription": json.dumps(phone.subscription()), "name": "My phone"}
    page = client.post("/me/devices/", given, follow=True).content.decode()
    assert "My phone now receives your pages" in page
    assert "endpoint-of-bobs" not in page
    device = PushDevice.objects.get()
    assert device.user == company.responder
    assert client.post("/me/devices/", {"subscription": "nonsense", "name": "x"}, follow=True).status_code == 200
    assert browser_of(company.admin).post(f"/me/devices/{device.pk}/remove").status_code == 404
    client.post(f"/me/devices/{device.pk}/name", {"name": "Work phone"})
    assert "Work phone" in client.get("/me/").content.decode()
    company.responder.contact_methods.exclude(channel="push").delete()
    assert "Push is your only contact method" in client.get("/me/").content.decode()
    client.post(f"/me/devices/{device.pk}/remove")
    assert not PushDevice.objects.exists()


def test_push_button_acts_as_its_user_and_returns_result(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    bob = signed_links.sign(number, company.responder.pk, clock.now())
    assert press(bob, "acknowledge") == (200, f"You acknowledged alert {number}.")
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor_id, event.via) == (company.responder.pk, "push")
    assert press(bob, "close")[0] == 200
    alice = signed_links.sign(number, company.admin.pk, clock.now())
    status, text = press(alice, "assign")
    assert status == 409
    assert f"Alert {number} was already closed by Bob Brown" in text


def test_a_button_without_its_own_token_does_nothing(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    before = AlertEvent.objects.count()
    old = signed_links.sign(number, company.responder.pk, clock.now() - timedelta(days=8))
    watcher = signed_links.sign(number, company.observer.pk, clock.now())
    good = signed_links.sign(number, company.responder.pk, clock.now())
    assert [press(*one)[0] for one in (("x", "close"), (old, "close"), (watcher, "close"), (good, "merge"))] == [
        410, 410, 409, 422,
    ]  # fmt: skip
    assert Client().get("/push/act").status_code == 405
    assert Client().post("/push/act", b"[]", content_type="application/json").status_code == 410
    assert AlertEvent.objects.count() == before


def test_a_renewed_subscription_is_the_same_device(company: Company, browser_of: SignIn) -> None:
    before, after = Browser("https://push.example.org/v2/one"), Browser("https://push.example.org/v2/two")
    client = browser_of(company.responder)
    client.post("/me/devices/", {"subscription": json.dumps(before.subscription()), "name": "Phone"})
    hashed = PushDevice.objects.get().endpoint_hash

    def renew(endpoint: str) -> int:
        body = json.dumps({"before": endpoint, "after": after.subscription()})
        return Client().post("/push/changed", body, content_type="application/json").status_code

    assert renew("https://push.example.org/v2/guessed") == 404
    assert PushDevice.objects.get().endpoint_hash == hashed
    assert renew(before.endpoint) == 200
    assert PushDevice.objects.get().endpoint_hash != hashed
