"""The steps after an invitation: phone, push on this device, a test that is confirmed; each can be skipped."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from tests.web.conftest import PASSWORD, Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.config import environment
from tocsin.core.runtime import clock
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.inbound import responder_actions, verification
from tocsin.notify.interfaces import CallState
from tocsin.notify.models import Provider, SandboxMessage
from tocsin.people.changes import users
from tocsin.people.models import ContactMethod, User
from tocsin.web.accounts import views

PHONE, PUSH, TEST, DONE = (f"/me/welcome/{step}/" for step in ("phone", "push", "test", "done"))


def send_all() -> None:
    box = DeliveryDispatcher()
    while box.run_once():
        box.settle()
    box.settle()
    box.close()


def last_code() -> str:
    send_all()
    match = re.search(r"\d{6}", str(SandboxMessage.objects.latest("pk").content["text"]))
    assert match
    return match[0]


@pytest.fixture
def bob(company: Company, browser_of: Callable[[User], Client]) -> Client:
    return browser_of(company.responder)


def test_invitation_leads_to_the_phone(company: Company) -> None:
    spec = {"username": "nora", "email": "nora@example.org", "role": "responder"}
    nora = users.save_user(spec, actor=COMMAND_LINE, now=company.now)
    client = Client()
    path = views.link(nora).removeprefix(environment.current().public_url)
    assert "Step 1 of 5" in client.get(path).content.decode()
    answer = client.post(path, {"password": PASSWORD, "time_zone": "UTC"}, follow=True)
    assert answer.redirect_chain == [(PHONE, 302)]
    assert "Step 2 of 5" in answer.content.decode()


def test_code_verifies_the_phone_for_texts_and_calls(company: Company, bob: Client) -> None:
    answer = bob.post(PHONE, {"address": "+41 79 000 00 01"}, follow=True)
    assert "Enter the code sent to +41 79 000 00 01." in answer.content.decode()
    answer = bob.post(PHONE, {"code": last_code()}, follow=True)
    assert answer.redirect_chain == [(PUSH, 302)]
    methods = company.responder.contact_methods.exclude(channel="email")
    assert [(one.label, one.channel, one.awaits_code, bool(one.verified_at)) for one in methods] == [
        ("SMS", "sms", False, True),
        ("Call", "voice", False, True),
    ]
    assert bob.get(PHONE, follow=True).redirect_chain == [(PUSH, 302)], "a verified phone needs no step"


def test_only_channels_with_a_provider_are_added(company: Company, bob: Client) -> None:
    Provider.objects.create(name="Calls", kind="twilio", channels=["voice"])
    bob.post(PHONE, {"address": "+41790000001"})
    assert list(company.responder.contact_methods.values_list("channel", flat=True)) == ["email", "voice"]


def test_wrong_number_is_named_beside_its_field(company: Company, bob: Client) -> None:
    answer = bob.post(PHONE, {"address": "call me"})
    assert answer.status_code == 422
    assert answer.context["phone_form"].errors.keys() == {"address"}
    assert company.responder.contact_methods.count() == 1


def test_wrong_code_is_named_beside_its_field(bob: Client) -> None:
    bob.post(PHONE, {"address": "+41790000001"})
    for _ in range(verification.MAX_CODE_TRIES + 1):
        answer = bob.post(PHONE, {"code": "no"})
    assert answer.status_code == 422
    assert answer.context["code_form"].errors.keys() == {"code"}
    assert "Send a new code" in answer.content.decode()


def test_another_number_replaces_the_pending_one(company: Company, bob: Client) -> None:
    bob.post(PHONE, {"address": "+41790000001"})
    bob.post(PHONE, {"address": "+41790000002"})
    (method,) = ContactMethod.objects.filter(user=company.responder, channel="sms")
    assert (method.address, method.awaits_code) == ("+41790000002", True)


def test_call_is_confirmed_by_a_key_and_shown(company: Company, bob: Client) -> None:
    call = {"label": "Call", "channel": "voice", "address": "+41790000001"}
    method = users.save_contact_method(company.responder, call, actor=COMMAND_LINE, now=company.now)
    answer = bob.post(TEST, {"method": method.pk})
    assert re.fullmatch(rf"{TEST}[\w-]+/", answer["Location"])
    live = {"headers": {"X-Part": "result"}}
    assert "Sending to +41 79 000 00 01" in bob.get(answer["Location"], **live).content.decode()
    send_all()
    key = answer["Location"].rstrip("/").rpartition("/")[2]
    responder_actions.continue_call("sandbox", CallState(key, number=method.address, digits="5"), clock.now())
    text = bob.get(answer["Location"], **live).content.decode()
    assert "Confirmed: you pressed 5 on +41 79 000 00 01." in text
    assert DONE in text


def test_test_of_another_users_contact_method_is_refused(company: Company, bob: Client) -> None:
    other = company.admin.contact_methods.get()
    assert bob.post(TEST, {"method": other.pk}).status_code == 404
    assert bob.post(TEST, {"method": "x"}).status_code == 404


def test_every_step_can_be_skipped(bob: Client) -> None:
    for path, following in ((PHONE, PUSH), (PUSH, TEST), (TEST, DONE)):
        assert f'href="{following}"' in bob.get(path).content.decode()
    assert "Email" in bob.get(DONE).content.decode()


def test_push_of_this_device_returns_to_its_step(bob: Client) -> None:
    assert f'name="next" value="{PUSH}"' in bob.get(PUSH).content.decode()
    assert bob.post("/me/devices/", {"subscription": "x", "next": PUSH})["Location"] == PUSH
    assert bob.post("/me/devices/", {"subscription": "x", "next": "//evil.example.org"})["Location"] == "/me/devices/"
