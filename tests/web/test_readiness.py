"""Readiness of the people on call: on Home, on a group's schedule, in the API's answer and in the health checks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import caches
from django.test import Client
from django.urls import reverse

from tests.support.outbox_harness import provider
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.ids import uuid7
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import NightHours
from tocsin.notify.models import Delivery, Notification, OptOut, ProviderHealth
from tocsin.notify.rules.responder_readiness import ReadinessProblem, ShiftReadiness
from tocsin.oncall.changes.commands import save_schedule
from tocsin.operate import coverage
from tocsin.operate.checks import people
from tocsin.people.changes import users
from tocsin.people.models import ContactMethod, Membership, User
from tocsin.web.oncall import board

type BrowserOf = Callable[[User], Client]

PHONE = {"label": "Mobile", "channel": "sms", "address": "+41790000001"}


def add_phone(user: User, *, is_verified: bool = True) -> ContactMethod:
    method = users.save_contact_method(user, PHONE, actor=COMMAND_LINE, now=clock.now())
    ContactMethod.objects.filter(pk=method.pk).update(verified_at=clock.now() if is_verified else None)
    return method


def arrive(user: User, method: ContactMethod, **columns: Any) -> None:
    """A test that arrived on the contact method."""
    now = clock.now()
    common = {"user": user, "channel": method.channel, "address": method.address, "purpose": "test"}
    notification = Notification.objects.create(pk=uuid7(), created_at=now, label=method.label, **common)
    state = {"status": "sent", "provider_name": "Twilio", "sent_at": now, **columns}
    Delivery.objects.create(pk=uuid7(), notification=notification, queued_at=now, due_at=now, **common, **state)


def of_bob(company: Company) -> ShiftReadiness:
    now = clock.now()
    with database.transaction() as connection:
        groups = coverage.readiness_of_groups(connection, [company.desk.pk], now, now, now + coverage.READINESS_HORIZON)
    _plan, shifts = groups[company.desk.pk]
    return next(one for one in shifts if one.shift.user_id == company.responder.pk)


def finding_ids(company: Company) -> list[str]:
    with database.transaction() as connection:
        return [finding.id for finding in people.check_on_call(connection, clock.now())]


def test_user_with_a_verified_and_tested_phone_is_ready(company: Company) -> None:
    assert list(of_bob(company).problems) == [ReadinessProblem.NOT_LOUD]
    phone = add_phone(company.responder)
    assert list(of_bob(company).problems) == [ReadinessProblem.NOT_TESTED]
    arrive(company.responder, phone)
    assert of_bob(company).is_ready


@pytest.mark.parametrize(
    "columns",
    [{"provider_name": "sandbox"}, {"status": "failed", "sent_at": None}, {"receipt": "not_reached"}],
)
def test_message_that_reached_no_phone_is_no_test(company: Company, columns: dict[str, Any]) -> None:
    phone = add_phone(company.responder)
    arrive(company.responder, phone, **columns)
    assert list(of_bob(company).problems) == [ReadinessProblem.NOT_TESTED]


def test_user_whose_providers_are_all_unavailable_is_not_ready(company: Company) -> None:
    arrive(company.responder, add_phone(company.responder))
    provider("Twilio", "twilio", ["sms"], 1)
    provider("Telnyx", "telnyx", ["sms"], 2)
    ProviderHealth.objects.create(name="Twilio", is_open=True)
    assert of_bob(company).is_ready
    resets_at = clock.now() + timedelta(hours=1)
    ProviderHealth.objects.create(name="Telnyx", quota_left=0, quota_resets_at=resets_at)
    assert list(of_bob(company).problems) == [ReadinessProblem.UNAVAILABLE]


def test_home_names_who_may_not_be_woken(company: Company, browser_of: BrowserOf) -> None:
    browser = browser_of(company.observer)
    text = browser.get("/").content.decode()
    assert "No loud channel: add a call, SMS or push." in text
    # Health is one truth with it.
    managed = browser_of(company.admin)
    assert "2 of 2 on call may not be woken." in managed.get("/").content.decode()
    for user in (company.responder, company.admin):
        arrive(user, add_phone(user))
    caches["process"].clear()
    assert "Everyone on call can be woken." in browser.get("/").content.decode()
    assert "may not be woken" not in managed.get("/").content.decode()


def test_group_schedule_shows_the_matrix(company: Company, browser_of: BrowserOf) -> None:
    add_phone(company.responder, is_verified=False)
    answer = browser_of(company.observer).get(f"/on-call/groups/{company.desk.pk}/")
    rows = {row.first.shift.name: row for row in answer.context["readiness"]}
    assert rows["Bob Brown"].channels == "SMS"
    assert [is_met for _name, is_met in rows["Bob Brown"].cells] == [False, False, None, True, True]
    assert [is_met for _name, is_met in rows["Alice Andersson"].cells] == [None, None, None, None, True]
    assert "No loud contact method is verified." in answer.content.decode()


def test_person_on_call_with_email_only_is_an_amber_finding(company: Company, browser_of: BrowserOf) -> None:
    with database.transaction() as connection:
        findings = [one for one in people.check_on_call(connection, clock.now()) if one.id == "oncall.not_loud"]
    assert [(one.about, one.is_problem, one.is_urgent) for one in findings] == [
        ("Bob Brown", True, False),
        ("Alice Andersson", True, False),
    ]
    text = browser_of(company.admin).get("/").content.decode()
    assert "Bob Brown is on call in Service Desk without calls, SMS or push" in text
    for user in (company.responder, company.admin):
        add_phone(user)
    assert "oncall.not_loud" not in finding_ids(company)


def test_person_in_two_roles_at_once_is_an_amber_finding(company: Company) -> None:
    roles = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob"], "roles": ["primary"]}
    shifts = [
        {"name": "First", "rotate": roles, "start": "2026-01-05"},
        {"name": "Second", "rotate": {**roles, "roles": ["secondary"]}, "start": "2026-01-05"},
    ]
    save_schedule(
        {"name": "Desk", "group": "Service Desk", "time_zone": "UTC", "shifts": shifts},
        actor=COMMAND_LINE,
        now=clock.now(),
    )
    with database.transaction() as connection:
        (finding,) = (one for one in people.check_on_call(connection, clock.now()) if one.id == "oncall.twice")
    assert (finding.is_problem, finding.is_urgent) == (True, False)
    assert ReadinessProblem.SEVERAL_ROLES in of_bob(company).problems


def test_nobody_with_two_roles_at_once_has_a_tick(company: Company) -> None:
    Membership.objects.filter(group=company.desk).update(roles=["primary", "secondary"])
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob", "alice"], "roles": ["primary"]}
    save_schedule(
        {
            "name": "Desk",
            "group": "Service Desk",
            "time_zone": "UTC",
            "shifts": [{"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}],
        },
        actor=COMMAND_LINE,
        now=clock.now(),
    )
    rows = [row for row in board.of_group(company.desk, clock.now()) if row.is_now]
    primary = next(row.first.shift.user_id for row in rows if row.first.shift.role == "primary")
    ticks = {row.first.shift.role: dict(row.cells)["One role at a time"] for row in rows
             if row.first.shift.user_id == primary}  # fmt: skip
    assert ticks.keys() == {"primary", "secondary"}
    assert True not in ticks.values()


def tonight_of(company: Company, user: User) -> dict[str, Any]:
    with database.transaction() as connection:
        _night, people = coverage.tonight(connection, [company.desk.pk], clock.now())
    person = next(one for one in people[company.desk.pk] if one.user_id == user.pk)
    return {method.label: method for method in person.methods}


def test_tonight_names_each_provider_and_what_is_known(company: Company) -> None:
    mobile = add_phone(company.responder)
    provider("Twilio", "twilio", ["sms"], 1)
    provider("Telnyx", "telnyx", ["sms"], 2)
    provider("Abroad", "telnyx", ["sms"], 3, prefixes="+49")
    assert [one.state for one in tonight_of(company, company.responder)["Mobile"].routes] == ["not_tried", "not_tried"]
    arrive(company.responder, mobile, attempts=1)
    assert tonight_of(company, company.responder)["Mobile"].routes[0].state == "not_tried", "accepted is not delivered"
    arrive(company.responder, mobile, attempts=1, status="delivered", delivered_at=clock.now())
    error = as_reason("The recipient has opted out.")
    failed = {"status": "failed", "provider_name": "Telnyx", "error": error, "ended_at": clock.now(), "sent_at": None}
    arrive(company.responder, mobile, attempts=1, **failed)
    first, second = tonight_of(company, company.responder)["Mobile"].routes
    assert (first.provider, first.state, second.provider, second.state) == ("Twilio", "works", "Telnyx", "failed")
    assert str(second.error) == "The recipient has opted out."
    ProviderHealth.objects.create(name="Twilio", is_open=True)
    routes = tonight_of(company, company.responder)["Mobile"].routes
    assert [(one.provider, one.state) for one in routes] == [("Telnyx", "failed"), ("Twilio", "unavailable")]


def test_tonight_says_what_keeps_a_contact_method_from_working(company: Company) -> None:
    mobile = add_phone(company.responder)
    ContactMethod.objects.filter(pk=mobile.pk).update(awaits_code=True, is_enabled=False, rings_silenced=False)
    OptOut.objects.create(channel="sms", address=mobile.address, provider_name="Twilio", at=clock.now())
    method = tonight_of(company, company.responder)["Mobile"]
    assert method.routes == ()
    assert [str(one) for one in method.problems] == [
        "disabled", "not verified", "opted out with STOP", "does not ring while the phone is silenced",
    ]  # fmt: skip


def test_page_and_api_show_tonight_within_the_boundary(company: Company, browser_of: BrowserOf) -> None:
    add_phone(company.responder)
    provider("Twilio", "twilio", ["sms"])
    Membership.objects.filter(group=company.night, user=company.admin).update(roles=["primary"])
    page = browser_of(company.responder).get(reverse("group_schedule", args=[company.desk.pk]))
    assert "not tried in 30 days" in page.content.decode()
    admin = browser_of(company.admin)
    everyone = admin.get("/api/v1/readiness/tonight").json()["people"]
    assert {company.desk.name, company.night.name} <= {one["group"] for one in everyone}
    settings_store.set(settings_store.VISIBILITY, "groups")
    client = browser_of(company.responder)
    own = client.get("/api/v1/readiness/tonight").json()["people"]
    assert {one["group"] for one in own} == {company.desk.name}
    assert client.get(f"/api/v1/readiness/tonight?group={company.night.name}").status_code == 400
    assert client.get(reverse("group_schedule", args=[company.night.pk])).status_code == 404


def test_coming_night_is_this_one_or_the_next() -> None:
    zone, hours = ZoneInfo("Europe/Zurich"), NightHours.parse("22:00-07:00")

    def night(text: str) -> list[str]:
        at = datetime.fromisoformat(text).replace(tzinfo=zone)
        return [f"{one:%d %H:%M}" for one in coverage.coming_night(hours, zone, at)]

    assert night("2026-11-24 03:00") == ["23 22:00", "24 07:00"]
    assert night("2026-11-24 12:00") == ["24 22:00", "25 07:00"]
    assert night("2026-11-24 23:00") == ["24 22:00", "25 07:00"]
