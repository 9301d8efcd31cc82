"""The page of a signed link: it acts only on a button press, as the link's user."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.alerts import service
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import AlertStatus
from tocsin.core import ids
from tocsin.core.runtime import clock
from tocsin.notify.models import Delivery, Notification
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.people.models import User
from tocsin.web.http.request import alert_actor

type Opens = Callable[..., int]


def link(number: int, user: User, age: timedelta = timedelta()) -> str:
    return signed_links.path(signed_links.sign(number, user.pk, clock.now() - age))


def test_opening_the_link_shows_the_alert_and_changes_nothing(company: Company, open_alert: Opens) -> None:
    number = open_alert("VPN down")
    before = AlertEvent.objects.count()
    for method in ("get", "head", "get"):
        assert getattr(Client(), method)(link(number, company.responder)).status_code == 200
    text = Client().get(link(number, company.responder)).content.decode()
    assert "VPN down" in text
    assert "You act as Bob Brown" in text
    assert f'<span class="push soft">{company.responder.time_zone}</span>' in text
    assert "Sign in for details" in text
    assert AlertEvent.objects.count() == before


def test_link_button_acts_as_its_user_without_sign_in(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    client = Client()
    text = client.post(link(number, company.responder), {"command": "acknowledge"}, follow=True).content.decode()
    assert f"You acknowledged alert {number}." in text
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor_id, event.via) == (company.responder.pk, "email")
    assert client.get("/").status_code == 302, "the link signs nobody in"


def test_link_acts_as_its_user_despite_other_session(
    company: Company, browser_of: Callable[[User], Client], open_alert: Opens
) -> None:
    number = open_alert()
    browser_of(company.admin).post(link(number, company.responder), {"command": "assign"})
    assert Alert.objects.get(pk=number).owner == company.responder


def test_link_to_merged_alert_leads_to_its_parent(company: Company, open_alert: Opens) -> None:
    child, parent = open_alert(), open_alert()
    order = Close(actor=alert_actor(company.admin))
    service.apply_command(
        FoundAlert.by_tocsin(child), service.merge_into(FoundAlert.by_tocsin(parent), order), now=clock.now()
    )
    client = Client()
    text = client.get(link(child, company.responder)).content.decode()
    assert f"Alert {child}, about which you were paged, is merged into this one." in text
    client.post(link(child, company.responder), {"command": "acknowledge"})
    assert AlertEvent.objects.get(kind="acknowledged").alert_id == parent


def test_late_button_press_shows_the_current_state(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    Client().post(link(number, company.admin), {"command": "close"})
    text = Client().post(link(number, company.responder), {"command": "assign"}, follow=True).content.decode()
    assert f"Alert {number} was already closed by Alice Andersson" in text


def test_assignment_by_mail_link_can_be_undone_there(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    client = Client()
    text = client.post(link(number, company.responder), {"command": "assign"}, follow=True).content.decode()
    assert "Undo within" in text
    client.post(link(number, company.responder), {"command": "undo"})
    assert Alert.objects.get(pk=number).status == AlertStatus.OPEN


@pytest.mark.parametrize("command", ["cancel", "merge", "unassign", "reopen", "explode", ""])
def test_a_link_offers_no_other_command(company: Company, open_alert: Opens, command: str) -> None:
    number = open_alert()
    Client().post(link(number, company.responder), {"command": command, "text": "x"})
    assert AlertEvent.objects.filter(alert=number, actor=company.responder).count() == 0


def test_expired_link_is_explained(company: Company, open_alert: Opens) -> None:
    response = Client().get(link(open_alert(), company.responder, age=timedelta(days=7, minutes=2)))
    assert response.status_code == 410
    assert "This link has expired" in response.content.decode()


def test_note_typed_on_an_expired_link_is_shown_again(company: Company, open_alert: Opens) -> None:
    address = link(open_alert(), company.responder, age=timedelta(days=7, minutes=2))
    response = Client().post(address, {"command": "reply", "text": "The router <was> off"})
    assert response.status_code == 410
    assert "The router &lt;was&gt; off" in response.content.decode()
    assert not AlertEvent.objects.filter(actor=company.responder).exists()


def test_note_of_a_rejected_command_is_shown_again(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    address = link(number, company.responder)
    Client().post(link(number, company.admin), {"command": "close"})
    page = Client().post(address, {"command": "close", "note": "Fixed the router"}, follow=True).content.decode()
    assert "Not saved: “Fixed the router”" in page


@pytest.mark.parametrize("token", ["x", "x" * 300, "äöü", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_truncated_link_is_explained(database: str, token: str) -> None:
    assert Client().get(f"/a/{token}").status_code == 410


def test_link_of_user_without_permission_does_nothing(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    address = link(number, company.responder)
    User.objects.filter(pk=company.responder.pk).update(role="observer")
    assert Client().post(address, {"command": "close"}).status_code == 403
    User.objects.filter(pk=company.responder.pk).update(role="responder", is_active=False)
    assert Client().post(address, {"command": "close"}).status_code == 403
    assert Alert.objects.get(pk=number).status == AlertStatus.OPEN


def test_link_snoozes_reassigns_and_adds_a_note(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    client, path = Client(), link(number, company.responder)
    client.post(path, {"command": "reply", "text": "on my way"})
    assert AlertEvent.objects.get(alert=number, kind="replied").data["text"] == "on my way"
    client.post(path, {"command": "hold", "for": "30m"})
    assert Alert.objects.get(pk=number).status == AlertStatus.ON_HOLD
    client.post(path, {"command": "assign", "user": str(company.manager.pk)})
    assert Alert.objects.get(pk=number).owner == company.manager


def test_link_lists_only_people_of_the_alerts_groups(company: Company, open_alert: Opens) -> None:
    text = Client().get(link(open_alert(), company.responder)).content.decode()
    assert "Mia Manager" in text
    assert "Olga Observer" not in text


def test_link_of_several_alerts_shows_those_that_paged_the_user(company: Company, open_alert: Opens) -> None:
    paged, other = open_alert("VPN down"), open_alert("Printer stuck")
    note_page(company.responder, paged)
    path = signed_links.path(signed_links.sign(0, company.responder.pk, clock.now(), LinkSubject.PAGED))
    client = Client()
    text = client.get(path).content.decode()
    assert "VPN down" in text
    assert "Printer stuck" not in text
    assert re.search(r'href="/a/[\w-]+"', text)
    form = {"alert": [paged, other], "command": "acknowledge"}
    assert "1 alert acknowledged." in client.post(path, form, follow=True).content.decode()
    assert list(Acknowledgement.objects.values_list("alert", "user")) == [(paged, company.responder.pk)]
    expired = signed_links.sign(0, company.responder.pk, clock.now() - timedelta(days=8), LinkSubject.PAGED)
    assert client.get(signed_links.path(expired)).status_code == 410


def note_page(user: User, alert: int) -> None:
    """A page about the alert that was delivered to the user."""
    notification = Notification.objects.create(
        id=ids.uuid7(),
        alert_id=alert,
        user=user,
        purpose="page",
        channel="sms",
        label="SMS",
        address="+41790000001",
        created_at=clock.now(),
    )
    Delivery.objects.create(
        id=ids.uuid7(), notification=notification, status="delivered", due_at=clock.now(), queued_at=clock.now()
    )
