"""Providers' pages: figures and cost, also in the API, what is not known, and the app package."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from tests.support.outbox_harness import provider
from tests.web.conftest import Company
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.ids import uuid7, uuid7_clock
from tocsin.core.reasons import Reason
from tocsin.core.runtime import clock
from tocsin.notify.inbound import responder_actions
from tocsin.notify.integrations import telnyx, vendor_http
from tocsin.notify.interfaces import Cost, Receipt
from tocsin.notify.models import Delivery, Notification, ProviderHealth
from tocsin.notify.providers import health, pool
from tocsin.notify.providers.health import ProviderFigures, Times
from tocsin.notify.providers.pool import ProviderState
from tocsin.notify.states import ReceiptState
from tocsin.people.models import User

type BrowserOf = Callable[[User], Client]

STOPPED = telnyx.ERRORS["40300"].named("Telnyx", "40300")


def send(now: datetime, ago: timedelta = timedelta(), **columns: Any) -> Delivery:
    """A text that the provider accepted after a second, a while ago."""
    due = now - ago
    common = {"channel": "sms", "address": "+41790000001", "purpose": "page"}
    state = {"status": "sent", "provider_name": "Telnyx", "attempts": 1, "sent_at": due + timedelta(seconds=1)}
    with uuid7_clock(lambda: due):
        notification = Notification.objects.create(pk=uuid7(), created_at=due, **common)
        return Delivery.objects.create(
            pk=uuid7(), notification=notification, queued_at=due, due_at=due, **common, **(state | columns)
        )


def deliver(now: datetime, after: float, ago: timedelta = timedelta(), **columns: Any) -> Delivery:
    times = {"delivered_at": now - ago + timedelta(seconds=1 + after)}
    return send(now, ago, status="delivered", receipt="delivered", **times, **columns)


def figures(now: datetime, days: int = 1) -> ProviderFigures:
    with database.transaction() as connection:
        return health.figures(connection, ["Telnyx"], days, now)["Telnyx"]


def fail(now: datetime, error: Reason = STOPPED, **columns: Any) -> Delivery:
    return send(now, status="failed", sent_at=None, error=error, ended_at=now, **columns)


def test_app_package_is_downloaded_by_administrators_only(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(environment.current(), base_url="http://testserver")
    monkeypatch.setattr(environment, "current", lambda: config)
    settings = {"client_id": "11111111-2222-4333-8444-555555555555", "tenant_id": "t"}
    row = provider("Teams", "teams", ["chat"], secrets={"client_secret": "s"}, **settings)
    address = f"/providers/{row.pk}/package"
    admin = browser_of(company.admin)
    assert f'href="{address}"' in admin.get(f"/providers/{row.pk}/").content.decode()
    response = admin.get(address)
    assert (response.status_code, response["Content-Type"]) == (200, "application/zip")
    assert response["Content-Disposition"] == 'attachment; filename="tocsin-teams.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as package:
        assert package.namelist() == ["manifest.json", "color.png", "outline.png"]
        assert json.loads(package.read("manifest.json"))["bots"][0]["botId"] == settings["client_id"]
    for user in (company.manager, company.responder, company.observer):
        assert browser_of(user).get(address).status_code == 403, user
    assert Client().get(address).status_code == 302
    other = provider("ntfy", "ntfy", ["ntfy"], secrets={"token": "t"})
    assert admin.get(f"/providers/{other.pk}/package").status_code == 404
    assert "/package" not in admin.get(f"/providers/{other.pk}/").content.decode()


@pytest.mark.usefixtures("database")
def test_figures_count_each_outcome_with_times() -> None:
    now = clock.now()
    for seconds in range(1, 11):
        deliver(now, seconds)
    send(now, receipt="not_reached", attempts=3)
    fail(now)
    send(now, attempts=0, sent_at=None, status="queued")
    deliver(now, 500, timedelta(days=3))
    found = figures(now)
    assert (found.messages, found.attempts, found.accepted) == (12, 14, 11)
    assert (found.delivered, found.unanswered, found.failed) == (10, 1, 1)
    assert found.until_accepted == Times(timedelta(seconds=1), timedelta(seconds=1))
    assert found.until_delivered == Times(timedelta(seconds=5.5), timedelta(seconds=9.1))
    assert (figures(now, 7).delivered, figures(now, 7).is_cut) == (11, False)


@pytest.mark.usefixtures("database")
def test_five_errors_are_named_and_others_counted() -> None:
    now = clock.now()
    for number, code in enumerate(["40300", "40331", "40310", "40311", "40312", "40333", "40305"], 1):
        for _ in range(8 - number):
            fail(now, telnyx.ERRORS[code].named("Telnyx", code))
    found = figures(now)
    assert [one.count for one in found.failures] == [7, 6, 5, 4, 3]
    assert "(Telnyx 40300)" in str(found.failures[0].error)
    assert (found.failed, found.other_failures) == (28, 3)


@pytest.mark.usefixtures("database")
def test_provider_that_sent_nothing_has_zeros_and_no_times() -> None:
    found = figures(clock.now(), 30)
    assert (found.messages, found.failed, found.until_delivered, found.charges) == (0, 0, Times(), ())


@pytest.mark.usefixtures("database")
def test_cost_of_each_part_is_added_once() -> None:
    now = clock.now()
    one = deliver(now, 2)

    def receive(part: str, amount: str, currency: str = "USD", state: ReceiptState = ReceiptState.DELIVERED) -> None:
        receipt = Receipt(state, str(one.notification_id), part, cost=Cost(Decimal(amount), currency))
        with database.transaction() as connection:
            responder_actions.apply_receipt(connection, "Telnyx", receipt, now)

    receive("a", "0.0051", state=ReceiptState.IN_TRANSIT)
    assert figures(now).charges == ()
    for part in ("a", "b", "a"):
        receive(part, "0.0051")
    receive("c", "4", "EUR")
    (charges,) = figures(now).charges
    assert (charges.currency, charges.amount, charges.count) == ("USD", Decimal("0.0102"), 1)


@pytest.mark.parametrize(
    ("amount", "currency"), [(None, "USD"), ("free", "USD"), ("NaN", "USD"), ("1e9", "USD"), ("1", "dollars"), ("1", 7)]
)
def test_nonsense_is_no_cost(amount: object, currency: object) -> None:
    assert vendor_http.cost_of(amount, currency) is None


def test_cost_is_read_as_vendors_write_it() -> None:
    assert vendor_http.cost_of("-0.00750", "usd") == Cost(Decimal("0.00750"), "USD")
    assert vendor_http.cost_of(0.0051, "USD") == Cost(Decimal("0.0051"), "USD")


@pytest.mark.usefixtures("database")
def test_success_a_month_ago_is_not_known_today() -> None:
    now = clock.now()
    for name, days in (("Fresh", 29), ("Old", 31)):
        ProviderHealth.objects.create(name=name, worked_at=now - timedelta(days=days))
    ProviderHealth.objects.create(name="Broken", worked_at=now - timedelta(days=40), failures=2)
    states = {name: status.state for name, status in pool.statuses(now).items()}
    assert states == {"Fresh": ProviderState.WORKS, "Old": ProviderState.UNKNOWN, "Broken": ProviderState.FAILING}


def test_pages_and_api_show_figures_to_administrators_only(company: Company, browser_of: BrowserOf) -> None:
    now = clock.now()
    row = provider("Telnyx", "telnyx", ["sms"])
    deliver(now, 4, cost=Decimal("0.0051"), currency="USD")
    fail(now)
    ProviderHealth.objects.create(name="Telnyx", worked_at=now - timedelta(days=45))
    admin = browser_of(company.admin)
    listed, page = (admin.get(url).content.decode() for url in ("/providers/", f"/providers/{row.pk}/"))
    assert "1 accepted · 1 delivered · p50 4 s, p90 4 s · 1 failed · 0.01 USD" in listed
    assert "not known" in listed
    assert "not known" in page
    assert "(Telnyx 40300)" in page
    found = admin.get("/api/v1/providers/Telnyx/health").json()
    assert found["state"] == "unknown"
    assert [one["days"] for one in found["periods"]] == [1, 7, 30]
    day = found["periods"][0]
    assert (day["delivered"], day["failed"], day["until_delivered"]["p50_seconds"]) == (1, 1, 4.0)
    assert day["charges"] == [{"currency": "USD", "amount": 0.0051, "count": 1}]
    for user in (company.responder, company.manager):
        client = browser_of(user)
        assert client.get(f"/providers/{row.pk}/").status_code == 403
        assert client.get("/api/v1/providers/Telnyx/health").status_code == 403
    assert admin.get("/api/v1/providers/Nobody/health").status_code == 404
