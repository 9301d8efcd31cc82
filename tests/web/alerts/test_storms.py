"""Alerts that look alike are one row of the list, of Home and of the wall board."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.support.company import make_user
from tests.support.walls import enforce_boundaries
from tests.web.conftest import Company
from tocsin.alerts import store
from tocsin.alerts.models import Acknowledgement, Alert
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.people.models import User

type Opens = Callable[..., int]
type BrowserOf = Callable[[User], Client]

SUBJECT = "Host web-# does not answer"


@pytest.fixture
def storm(company: Company, open_alert: Opens) -> list[int]:
    """Six alerts about hosts of one client, and the most urgent among them."""
    numbers = [open_alert(f"Host web-{one:02} does not answer", Priority.HIGH, client="Globex") for one in range(5)]
    return [*numbers, open_alert("Host web-7 does not answer", Priority.CRITICAL, client="Globex")]


def text_of(client: Client, path: str) -> str:
    return client.get(path).content.decode()


def test_alerts_that_look_alike_are_one_row(
    company: Company, browser_of: BrowserOf, open_alert: Opens, storm: list[int]
) -> None:
    open_alert("VPN down")
    text = text_of(browser_of(company.responder), "/alerts/")
    assert text.count("<tr data-key=") == 2
    assert SUBJECT in text
    assert "6 alerts" in text
    assert "Globex" in text
    assert "P1 Critical" in text
    assert "same subject" in text
    assert "web-02" not in text


@pytest.mark.parametrize("path", ["/", "/wall/"])
def test_home_and_wall_show_a_storm_once(company: Company, browser_of: BrowserOf, storm: list[int], path: str) -> None:
    text = text_of(browser_of(company.responder), path)
    assert text.count(SUBJECT) == 1
    assert "6 alerts" in text
    assert "web-02" not in text


def test_a_storm_opens_to_its_alerts(
    company: Company, browser_of: BrowserOf, open_alert: Opens, storm: list[int]
) -> None:
    open_alert("VPN down")
    client = browser_of(company.responder)
    (url,) = set(re.findall(r'href="(\?storm=[^"]+)"', text_of(client, "/alerts/")))
    text = text_of(client, f"/alerts/{url}")
    assert sorted(int(number) for number in re.findall(r'<tr data-key="(\d+)"', text)) == storm
    assert "Acknowledge all 6" in text
    Acknowledgement.objects.create(alert_id=storm[-1], user=company.responder, at=timezone.now())
    assert text_of(client, f"/alerts/{url}").count("<tr data-key=") == 5
    client.post("/alerts/bulk", {"command": "close", "alert": " ".join(map(str, storm[1:])), "sure": "yes"})
    assert text_of(client, f"/alerts/{url}").count("<tr data-key=") == 1


def test_a_storm_is_acknowledged_as_one_after_a_question(
    company: Company, browser_of: BrowserOf, storm: list[int]
) -> None:
    client = browser_of(company.responder)
    (chosen,) = set(re.findall(r'name="only" value="([\d ]+)"', text_of(client, "/alerts/")))
    question = client.post("/alerts/bulk", {"only": chosen}).content.decode()
    assert "Acknowledge 6 alerts?" in question
    assert not Acknowledgement.objects.exists()
    asked = re.findall(r'name="alert" value="(\d+)"', question)
    client.post("/alerts/bulk", {"command": "acknowledge", "alert": asked, "sure": "yes"})
    assert sorted(Acknowledgement.objects.values_list("alert_id", flat=True)) == storm
    assert "6 alerts" in text_of(client, "/alerts/?tab=acknowledged")
    client.post("/alerts/bulk", {"command": "undo"})
    assert not Acknowledgement.objects.exists()


def test_a_storm_is_snoozed_for_a_chosen_time(company: Company, browser_of: BrowserOf, storm: list[int]) -> None:
    client = browser_of(company.responder)
    body = {"command": "hold", "alert": " ".join(map(str, storm))}
    question = client.post("/alerts/bulk", body).content.decode()
    assert "Snooze 6 alerts?" in question
    client.post("/alerts/bulk", {**body, "sure": "yes", "for": "4h"})
    until = set(Alert.objects.values_list("status", "hold_until"))
    assert {status for status, _until in until} == {AlertStatus.ON_HOLD}
    assert all(timedelta(hours=3) < at - timezone.now() <= timedelta(hours=4) for _status, at in until)


def test_an_outsider_sees_no_storm(company: Company, browser_of: BrowserOf, storm: list[int]) -> None:
    enforce_boundaries()
    client = browser_of(make_user("stranger", "responder"))
    for path in ("/alerts/", f"/alerts/?storm=subject-{storm[-1]}", f"/alerts/?storm=host-{storm[-1]}"):
        text = text_of(client, path)
        assert "web-" not in text
        assert "6 alerts" not in text
    client.post("/alerts/bulk", {"command": "acknowledge", "alert": " ".join(map(str, storm)), "sure": "yes"})
    assert not Acknowledgement.objects.exists()


@pytest.mark.parametrize("key", ["subject-", "subject-x", "owner-1", "subject-999999", "subject-9" + "9" * 30])
def test_an_unknown_storm_lists_nothing(company: Company, browser_of: BrowserOf, storm: list[int], key: str) -> None:
    response = browser_of(company.responder).get(f"/alerts/?storm={key}")
    assert response.status_code == 200
    assert b"<tr data-key=" not in response.content


def test_pages_of_entries_leave_out_no_alert(company: Company, open_alert: Opens) -> None:
    opened = [open_alert(f"Ping {one}" if one % 2 else f"{'x' * one} down") for one in range(40)]
    rows, position, seen = Alert.objects.all(), None, set[int]()
    for _page in range(10):
        part = rows if position is None else rows.filter(pk__lt=position)
        entries, position = store.first_entries(part, 7)
        seen |= {number for lead, storm in entries for number in (storm.ids if storm else [lead.pk])}
        if position is None:
            break
    assert seen == set(opened)
    assert position is None


def test_list_of_storms_uses_constant_queries(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    client = browser_of(company.responder)
    counts = []
    for more in (6, 30):
        for number in range(more):
            open_alert(f"Disk {number} full"), open_alert(f"Fan {number} stopped")
        with CaptureQueriesContext(connection) as queries:
            client.get("/alerts/")
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert counts[1] < 20
