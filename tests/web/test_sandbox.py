"""The sandbox renders each message like its channel; buttons, keys and replies work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.models import OptOut, SandboxMessage
from tocsin.notify.pages import queue_pages
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, User

type SignIn = Callable[[User], Client]

WAYS = (
    ("Mail", "email", "bob@example.org"),
    ("Text", "sms", "+41790000002"),
    ("Call", "voice", "+41790000002"),
    ("Topic", "push", "bob-phone"),
    ("Pushover", "pushover", "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"),
    ("Chat", "chat", "slack:U012AB3CD"),
    ("Teams", "chat", "teams:0b0b0b0b-0000-4000-8000-00000000b0bb"),
)


@pytest.fixture
def alert(company: Company, open_alert: Callable[..., int]) -> Iterator[int]:
    """One that Bob was paged about by every channel, none of which has a provider."""
    company.responder.contact_methods.all().delete()
    for label, channel, address in WAYS:
        spec = {"label": label, "channel": channel, "address": address}
        people.save_contact_method(company.responder, spec, actor=COMMAND_LINE, now=clock.now())
    number = open_alert("VPN down: 40 users")
    with database.transaction() as connection:
        queue_pages(
            connection, [PageRequest(number, clock.now(), "Bob is primary.", company.responder.pk)], clock.now()
        )
    box = DeliveryDispatcher()
    while box.run_once():
        box.settle()
    box.settle()
    yield number
    box.close()


def message(channel: str) -> int:
    return int(SandboxMessage.objects.filter(channel=channel).latest("id").pk)


def test_each_message_is_rendered_like_its_channel_and_marked(company: Company, browser_of: SignIn, alert: int) -> None:
    text = browser_of(company.responder).get("/sandbox/").content.decode()
    for shape in ("mail-frame", "sms-screen", "call-screen", "mock-push", "mock-chat"):
        assert text.count(f'"{shape}') == 1 or shape in text, shape
    repeated = text.partition('"mock-push urgent"')[2].partition("</article>")[0]
    assert "Repeated until someone acknowledges it." in repeated
    assert re.findall(r'name="command" value="(\w+)"', repeated) == ["acknowledge"]
    assert "not sent" in text
    assert re.search(r'<button class="key works"[^>]*value="7"', text)
    assert re.search(r'<button class="key"[^>]*value="2"', text)
    assert "style=" not in text
    # A message acts for its reader: nobody but an administrator sees another's.
    assert "sms-screen" not in browser_of(company.manager).get("/sandbox/").content.decode()
    assert browser_of(company.manager).post(f"/sandbox/{message('push')}/act", {"command": "close"}).status_code == 404
    assert "sms-screen" in browser_of(company.admin).get("/sandbox/").content.decode()


def teams_card(page: str) -> str:
    return page.partition('"adaptive-card"')[2].partition("</article>")[0]


def test_a_teams_card_works_as_in_teams(company: Company, browser_of: SignIn, alert: int) -> None:
    bob = browser_of(company.responder)
    card = teams_card(bob.get("/sandbox/?channel=chat").content.decode())
    assert re.findall(r'name="command" value="(\w+)"', card) == ["acknowledge", "assign", "hold", "close", "reply"]
    assert re.findall(r'<option value="(\w+)"', card) == ["30m", "1h", "4h", "1d"]
    assert "VPN down: 40 users" in card
    row = SandboxMessage.objects.get(address__startswith="teams:")
    url, json = f"/sandbox/{row.pk}/act", {"headers": {"Accept": "application/json"}}
    assert bob.post(url, {"command": "reply", "text": " "}, **json).json()["text"] == "Enter a note."
    assert not AlertEvent.objects.filter(kind="replied").exists()
    bob.post(url, {"command": "reply", "text": "On my way\x00"})
    assert AlertEvent.objects.get(kind="replied").actor_id == company.responder.pk
    bob.post(url, {"command": "hold", "text": "4h"})
    bob.post(url, {"command": "assign"})
    page = bob.get("/sandbox/?channel=chat").content.decode()
    assert re.findall(r'name="command" value="(\w+)"', teams_card(page)) == ["close", "reply"]
    assert page.count("Assigned to Bob Brown · Snoozed until") == 2, "every chat message shows the state"
    assert "adaptive-card" not in browser_of(company.manager).get("/sandbox/?channel=chat").content.decode()
    assert browser_of(company.manager).post(url, {"command": "close"}).status_code == 404
    bob.post(url, {"command": "close"})
    card = teams_card(bob.get("/sandbox/?channel=chat").content.decode())
    assert "Closed by Bob Brown" in card
    assert 'name="command"' not in card


def test_who_presses_in_a_room_acts(company: Company, browser_of: SignIn, alert: int) -> None:
    SandboxMessage.objects.filter(channel="chat").update(
        user=None,
        address="teams:19:room@thread.tacv2",
        content={
            "subject": "VPN down",
            "text": "40 users",
            "priority": "critical",
            "link": f"https://tocsin.example.org/alerts/{alert}",
            "buttons": [{"label": "Open", "url": "https://tocsin.example.org"}],
        },
    )
    admin, url = browser_of(company.admin), f"/sandbox/{message('chat')}/act"
    assert 'value="acknowledge"' in teams_card(admin.get("/sandbox/?channel=chat").content.decode())
    admin.post(url, {"command": "acknowledge"})
    assert AlertEvent.objects.get(kind="acknowledged").actor_id == company.admin.pk
    assert browser_of(company.responder).post(url, {"command": "close"}).status_code == 404


def test_mail_html_is_rendered_without_active_content(company: Company, browser_of: SignIn, alert: int) -> None:
    answer = browser_of(company.responder).get(f"/sandbox/{message('email')}/mail")
    assert "VPN down" in answer.content.decode()
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "script-src" not in policy
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    assert browser_of(company.responder).get(f"/sandbox/{message('sms')}/mail").status_code == 404


def test_sandbox_replies_buttons_and_keys_act_as_their_reader(company: Company, browser_of: SignIn, alert: int) -> None:
    bob = browser_of(company.responder)
    json = {"headers": {"Accept": "application/json"}}
    body = bob.post(f"/sandbox/{message('sms')}/text", {"text": "ack"}, **json).json()["text"]
    assert body == f"You acknowledged alert {alert}."
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor_id, event.via) == (company.responder.pk, "sms")
    # Without scripts the same form leads back to the message.
    page = bob.post(f"/sandbox/{message('push')}/act", {"command": "assign"}, follow=True)
    assert f"Alert {alert} is assigned to you." in page.content.decode()
    assert AlertEvent.objects.get(kind="assigned").via == "push"
    call = f"/sandbox/{message('voice')}/key"
    begun = bob.post(call, {"digit": ""}, **json).json()
    assert begun["keys"] == "16789"
    assert begun["sentences"][1] == begun["sentences"][2] == "VPN down: 40 users."
    requested = bob.post(call, {"digit": "9"}, **json).json()
    assert requested["expected_digit"] == "9"
    assert Alert.objects.get(pk=alert).status == "assigned"
    assert bob.post(call, {"digit": "9", "expected_digit": "9"}, **json).json()["is_over"]
    assert (Alert.objects.get(pk=alert).status, AlertEvent.objects.get(kind="closed").via) == ("closed", "voice")
    late = bob.post(f"/sandbox/{message('chat')}/act", {"command": "acknowledge"}, **json).json()["text"]
    assert f"Alert {alert} was already closed by Bob Brown" in late


def test_self_entered_number_never_answers_for_another_user(company: Company, browser_of: SignIn, alert: int) -> None:
    """The code that confirms it lies in the sandbox of whoever asked for it, with a field to answer from there."""
    olga = browser_of(company.observer)
    olga.post("/me/contact-methods/new/", {"label": "Text", "channel": "sms", "address": "+41790000002"})
    method = ContactMethod.objects.get(user=company.observer, channel="sms")
    assert method.awaits_code
    box = DeliveryDispatcher()
    while box.run_once():
        box.settle()
    box.settle()
    box.close()
    row = SandboxMessage.objects.get(user=company.observer, channel="sms")
    body = olga.post(f"/sandbox/{row.pk}/text", {"text": "ack"}, headers={"Accept": "application/json"}).json()["text"]
    assert not AlertEvent.objects.filter(kind="acknowledged").exists(), body
    olga.post(f"/sandbox/{row.pk}/text", {"text": "stop"})
    assert not OptOut.objects.exists()


def test_the_phone_works_without_scripts(company: Company, browser_of: SignIn, alert: int) -> None:
    bob = browser_of(company.responder)
    number = message("voice")
    page = bob.post(f"/sandbox/{number}/key", {"digit": "9"}, follow=True).content.decode()
    assert "Press the key again here." in page
    assert re.search(r'name="expected_digit" value="9"', page)
    bob.post(f"/sandbox/{number}/key", {"digit": "9", "expected_digit": "9"})
    assert Alert.objects.get(pk=alert).status == "closed"
