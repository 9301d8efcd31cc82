"""The seven states of a delivery: one rule, and the same words wherever deliveries are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from django.test import Client

import tocsin.web
from tests.web.conftest import Company
from tocsin.core import ids
from tocsin.core.runtime import clock
from tocsin.notify.models import STATE_IN_SQL, Delivery, Notification
from tocsin.notify.states import SANDBOX, DeliveryState, DeliveryStatus, ReceiptState, furthest, state_of
from tocsin.people.models import User
from tocsin.web.templatetags.ui_tags import delivery_state

type Opens = Callable[..., int]
type BrowserOf = Callable[[User], Client]

WEB = Path(next(iter(tocsin.web.__path__)))


def page(user: User, alert: int | None, label: str = "SMS-Official", **stored: str) -> Delivery:
    """A page to the user with one delivery."""
    common = {"alert_id": alert, "user": user, "purpose": "page", "channel": "sms", "address": "+41790000001"}
    notification = Notification.objects.create(id=ids.uuid7(), label=label, created_at=clock.now(), **common)
    values = {"status": "sent", "provider_name": "Twilio", **stored}
    moments = {"queued_at": clock.now(), "due_at": clock.now(), "sent_at": clock.now()}
    return Delivery.objects.create(id=ids.uuid7(), notification=notification, **common, **moments, **values)


@pytest.mark.parametrize(
    ("status", "receipt", "provider", "state"),
    [
        ("queued", "", "", DeliveryState.QUEUED),
        ("sending", "", "Twilio", DeliveryState.QUEUED),
        ("sandboxed", "", "", DeliveryState.SANDBOXED),
        ("sent", "", SANDBOX, DeliveryState.SANDBOXED),
        ("sent", "", "Twilio", DeliveryState.SENT),
        ("delivered", "delivered", "Twilio", DeliveryState.DELIVERED),
        ("delivered", "answered", "Twilio", DeliveryState.ANSWERED),
        ("delivered", "answered", SANDBOX, DeliveryState.ANSWERED),
        ("sent", "not_reached", "Twilio", DeliveryState.FAILED),
        ("failed", "failed", "Twilio", DeliveryState.FAILED),
        ("cancelled", "", "", DeliveryState.CANCELLED),
    ],
)
def test_stored_columns_make_one_of_seven_states(
    status: str, receipt: str, provider: str, state: DeliveryState
) -> None:
    assert state_of(Delivery(status=status, receipt=receipt, provider_name=provider)) is state


def test_python_and_sql_agree_on_every_state(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    for status, receipt, provider in product(DeliveryStatus, ("", *ReceiptState), ("", "Twilio", SANDBOX)):
        page(company.responder, number, status=status, receipt=receipt, provider_name=provider)
    rows = Delivery.objects.annotate(in_sql=STATE_IN_SQL)
    assert {row.in_sql for row in rows} == set(DeliveryState)
    assert [row for row in rows if row.in_sql != row.state] == []


def test_seven_states_have_seven_words_and_looks() -> None:
    shown = [delivery_state(state) for state in DeliveryState]
    assert len({state.label for state in DeliveryState}) == 7
    assert len({re.sub(">.*", "", one) for one in shown}) == 7, "a class of its own"
    assert len({re.search("#([a-z-]+)", one)[1] for one in shown}) == 7, "an icon of its own"  # type: ignore[index]
    assert furthest([]) is DeliveryState.CANCELLED
    assert furthest([DeliveryState.FAILED, DeliveryState.SENT]) is DeliveryState.SENT


def test_no_page_has_its_own_words_for_deliveries() -> None:
    old = re.compile(
        r"(?<!class=\")delivery\.(status|receipt|provider_name == )|not_reached"
        r"|\b(no provider|on its way|no one reached|waits until)\"", re.IGNORECASE
    )  # fmt: skip
    found = [
        f"{path.name}: {match[0]}"
        for folder, kind in (("templates", "*.html"), ("alerts", "*.py"), ("me", "*.py"))
        for path in (WEB / folder).rglob(kind)
        for match in old.finditer(path.read_text())
    ]
    assert found == []


def test_timeline_and_paged_say_the_same_of_a_page(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert("VPN down")
    page(company.responder, number, status="delivered", receipt="delivered")
    page(company.observer, number, status="sent", receipt="not_reached")
    page(company.admin, number, status="sent", provider_name=SANDBOX)
    text = browser_of(company.manager).get(f"/alerts/{number}/").content.decode()
    paged = text.partition("<h2>Paged</h2>")[2].partition("</table>")[0]
    for name, word in (
        ("Bob Brown", "delivered"),
        ("Olga Observer", "failed"),
        ("Alice Andersson", "kept in the sandbox"),
    ):
        assert f" {word}</span>" in paged.partition(f">{name}<")[2].partition("</tr>")[0], name
        line = text.partition(f"SMS → {name}")[2].partition("</li>")[0]
        assert f" {word}</span>" in line, name


def test_your_pages_have_one_row_an_alert(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number, other = open_alert("VPN down"), open_alert("Disk full")
    page(company.responder, number, status="failed")
    page(company.responder, number, "Call-Official", status="delivered", receipt="answered")
    page(company.responder, other)
    page(company.responder, number, status="delivered", receipt="delivered")
    page(company.manager, other, "Mail of Mia")
    for path in ("/me/", "/me/pages/"):
        text = browser_of(company.responder).get(path).content.decode()
        assert text.count("VPN down") == 1
        assert text.count("Disk full") == 1
        row = next(one for one in text.split("<tr>") if "VPN down" in one)
        assert "3 messages" in row
        assert ' delivered</span> <span class="meta">SMS-Official<' in row
        assert ' answered</span> <span class="meta">Call-Official<' in row
        assert "Mail of Mia" not in text
    Notification.objects.filter(alert=number).update(alert=None)
    assert browser_of(company.responder).get("/me/pages/").content.decode().count("<tr>") == 4
