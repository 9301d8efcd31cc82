"""Pages and API of calls: a route is tested by a call to oneself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from tests.doubles.http import Response
from tests.doubles.twilio import HOTLINE, TwilioDouble, twilio_double
from tests.support.outbox_harness import allow_loopback, provider
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.calls.models import CallRoute
from tocsin.calls.routes import CALL_ROUTES
from tocsin.people.models import ContactMethod, User

type BrowserOf = Callable[..., Client]

BASE = "https://tocsin.example.org"
PHONE = "+41790000001"


@pytest.fixture
def twilio(company: Company, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwilioDouble]:
    allow_loopback(monkeypatch, base_url=BASE)
    with twilio_double() as double:
        provider("Phones", "twilio", ["voice"], secrets=dict(double.secrets), **double.settings)
        yield double


def _route(company: Company, group: str) -> CallRoute:
    spec = {"name": f"Hotline of {group}", "group": group, "numbers": [HOTLINE], "provider": "Phones"}
    return CALL_ROUTES.save({**spec, "recipient_group": group}, actor=COMMAND_LINE, now=company.now)


def _phone(user: User) -> None:
    ContactMethod.objects.create(user=user, label="Phone", channel="voice", address=PHONE)


def test_manager_is_called_as_a_caller_of_the_route(
    company: Company, twilio: TwilioDouble, browser_of: BrowserOf
) -> None:
    route, client = _route(company, company.desk.name), browser_of(company.manager)
    url = f"/calls/routes/{route.pk}/test-call"
    assert f'action="{url}"' in client.get(f"/calls/routes/{route.pk}/").content.decode()
    assert "no phone number for calls" in client.post(url, follow=True).content.decode()
    _phone(company.manager)
    shown = client.post(url, follow=True).content.decode()
    assert "+41 79 000 00 01 rings now." in shown
    (call,) = twilio.calls
    assert (call["To"], call["Url"]) == (PHONE, f"{BASE}/hooks/phones/call?hotline=%2B41445550099")
    answer = client.post(f"/api/v1/call-routes/{route.name}/test-call", content_type="application/json")
    assert (answer.status_code, answer.json()) == (202, {"number": PHONE})


def test_refused_test_call_says_what_the_vendor_said(
    company: Company, twilio: TwilioDouble, browser_of: BrowserOf
) -> None:
    route = _route(company, company.desk.name)
    _phone(company.admin)
    twilio.refusals.append(Response(503))
    client = browser_of(company.admin)
    assert "internal problem" in client.post(f"/calls/routes/{route.pk}/test-call", follow=True).content.decode()
    assert client.post(f"/calls/routes/{route.pk}/test-call").status_code == 302
    assert len(twilio.calls) == 1


def test_only_those_who_may_change_a_route_test_it(
    company: Company, twilio: TwilioDouble, browser_of: BrowserOf
) -> None:
    own = _route(company, company.desk.name)
    CallRoute.objects.filter(pk=own.pk).update(numbers=["+41445550098"])
    other = _route(company, company.night.name)
    for user in (company.observer, company.responder, company.manager):
        _phone(user)
    for user, route in ((company.observer, own), (company.responder, own), (company.manager, other)):
        client = browser_of(user)
        assert client.post(f"/calls/routes/{route.pk}/test-call").status_code in (403, 404), (user, route)
        answer = client.post(f"/api/v1/call-routes/{route.name}/test-call", content_type="application/json")
        assert answer.status_code in (403, 404), (user, route)
    assert twilio.calls == []


def test_disabled_provider_makes_no_test_call(company: Company, twilio: TwilioDouble, browser_of: BrowserOf) -> None:
    route = _route(company, company.desk.name)
    _phone(company.admin)
    type(route.provider).objects.update(is_enabled=False)
    shown = browser_of(company.admin).post(f"/calls/routes/{route.pk}/test-call", follow=True).content.decode()
    assert "Phones is disabled, or carries no calls." in shown
    assert twilio.calls == []
