"""The home page shows the last night and current problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from django.core.cache import caches
from django.test import Client
from django.utils import timezone, translation

from tests.web.conftest import Company
from tocsin.access import boundary
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.boundary import Boundary
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import CommandChannel
from tocsin.core.config import environment
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.models import InboundMessage
from tocsin.notify.models import Delivery, Notification
from tocsin.oncall.changes.commands import save_schedule
from tocsin.oncall.models import CalendarImport
from tocsin.operate.checks import people as people_checks
from tocsin.people.changes import users as people
from tocsin.people.models import User
from tocsin.web import home
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import alert_actor

_numbers = count(1)


def an_id(at: datetime) -> UUID:
    """A new id of something that came about at that moment."""
    return UUID(int=first_uuid7(at).int + next(_numbers))


def page_at(at: datetime, user: User, alert: int) -> None:
    """A page that was sent at that moment."""
    fields = {"user": user, "channel": "sms", "purpose": "page"}
    notification = Notification.objects.create(pk=an_id(at), alert_id=alert, created_at=at, **fields)
    Delivery.objects.create(
        pk=an_id(at), notification=notification, alert_id=alert, status="sent", queued_at=at, due_at=at, sent_at=at,
        **fields,
    )  # fmt: skip


def test_last_night_is_shown_in_the_readers_time_zone(company: Company, open_alert: Callable[..., int]) -> None:
    with timezone.override(zone("Europe/Zurich")):
        morning = timezone.localtime(clock.now()).replace(hour=9, minute=0)
        three = morning.replace(hour=3)
        assert home.last_night(company.admin, morning).pages == 0
        answered, unanswered = open_alert(), open_alert("Disk full")
        page_at(three, company.responder, answered)
        page_at(three, company.responder, unanswered)
        page_at(morning, company.admin, unanswered)
        actor = alert_actor(company.responder)
        service.apply_command(
            FoundAlert.by_tocsin(answered), Acknowledge(actor=actor, via=CommandChannel.WEB), now=clock.now()
        )
        night = home.last_night(company.responder, morning)
        assert (night.pages, night.alerts, list(night.people)) == (2, 2, ["Bob Brown"])
        assert (night.own_pages, night.unanswered) == (2, 1)
        assert night.slowest_response is not None
        assert night.slowest_response < timedelta(minutes=1)
        assert not night.is_ongoing
        assert home.last_night(company.admin, three).is_ongoing
        assert home.last_night(company.admin, morning).own_pages == 0


def test_an_integration_that_fell_silent_is_named(company: Company, browser_of: Callable[[User], Client]) -> None:
    now = clock.now()

    def wrong() -> list[str]:
        caches["process"].clear()
        return [trouble.text for trouble in home.find_warnings(now) if "every day" in trouble.text]

    for days in (2, 3, 4):
        at = now - timedelta(days=days)
        InboundMessage.objects.create(pk=an_id(at), integration=company.halo, received_at=at, status="Mapped Ignored")
        assert wrong() == []
    at = now - timedelta(days=5)
    InboundMessage.objects.create(pk=an_id(at), integration=company.halo, received_at=at, status="Mapped Ignored")
    (shown_text,) = wrong()
    assert shown_text == "HaloITSM usually receives messages every day, but has received none for 2 days."
    text = browser_of(company.admin).get("/").content.decode()
    assert shown_text in text
    assert shown_text not in browser_of(company.responder).get("/").content.decode()


def test_unanswered_alerts_are_one_line_that_counts_them(
    company: Company, open_alert: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines() -> list[tuple[str, str]]:
        found = home.find_warnings(clock.now())
        return [(one.text, one.url) for one in found if "exhausted" in one.text]

    numbers = []
    for number in range(5):
        numbers.append(open_alert(f"Disk {number}"))
        EscalationRun.objects.filter(alert=numbers[-1]).update(status="finished", due_at=None)
        if number == 0:
            assert lines() == [
                (
                    f"1 alert is unassigned, and its policy is exhausted: #{numbers[0]} Disk 0",
                    f"/alerts/{numbers[0]}/",
                )
            ]
    ((text, url),) = lines()
    assert text.startswith(
        f"5 alerts are unassigned, and their policies are exhausted: #{numbers[0]} Disk 0, #{numbers[1]} Disk 1, "
    )
    assert text.endswith(f"#{numbers[2]} Disk 2 and 2 more")
    assert url == "/alerts/"
    monkeypatch.setattr(people_checks, "MAX_COUNTED", 4)
    ((text, url),) = lines()
    assert text.startswith("More than 4 alerts are unassigned, and their policies are exhausted, such as ")
    assert text.endswith(f"#{numbers[2]} Disk 2")
    monkeypatch.undo()
    with boundary.limited_to(Boundary(company.responder.pk)):
        assert lines() == []


def test_hours_that_are_nobodys_are_named(company: Company) -> None:
    now = clock.now()
    windows = [{"days": ["mon"], "from": "09:00", "to": "17:00"}]
    rotate = {"every": "1d", "at": "08:00", "users": ["bob"], "roles": ["primary"], "windows": windows}
    shift = {"name": "Mondays", "rotate": rotate, "start": "2026-01-05"}
    spec = {"name": "Office", "group": "Night", "time_zone": "UTC", "shifts": [shift]}
    caches["process"].clear()

    def gaps() -> list[str]:
        return [trouble.text for trouble in home.find_warnings(now) if " Night" in trouble.text]

    assert gaps() == []
    save_schedule(spec, actor=COMMAND_LINE, now=now)
    assert gaps()
    assert "primary" in gaps()[0]
    assert len(gaps()) == 1, "once, however often it comes"
    with translation.override("de"):
        (gap,) = gaps()
    assert gap.startswith("Keine Bereitschaft als primär in Night. Ab ")
    assert gap.endswith(" Mal.")


def test_unreachable_on_call_users_and_failing_calendars_are_named(company: Company) -> None:
    now = clock.now()
    eve = people.save_user(
        {"username": "eve", "name": "Eve", "email": "eve@example.org", "role": "responder", "contact_methods": []},
        actor=COMMAND_LINE, now=now,
    )  # fmt: skip
    shifts = [
        {"name": "Always", "fixed": {"windows": [{"from": "mon 00:00", "to": "mon 00:00"}], "users": [eve.username]}},
        {"name": "Elsewhere", "layer": 2, "calendar": {"url": "https://calendar.example.org/a.ics"}},
    ]
    save_schedule(
        {"name": "Office", "group": "Night", "time_zone": "UTC", "shifts": shifts}, actor=COMMAND_LINE, now=now
    )
    CalendarImport.objects.update(error=as_reason("The calendar server returned 404."))
    caches["process"].clear()
    body = {trouble.text: trouble for trouble in home.find_warnings(now)}
    lost = body["Eve is paged by a group, schedule or policy and has no usable contact method."]
    assert (lost.url, lost.is_urgent) == (f"/users/{eve.pk}/", True)
    calendar = body["The calendar of shift Elsewhere of Office: The calendar server returned 404."]
    assert calendar.url == f"/on-call/schedules/{CalendarImport.objects.get().schedule_id}/"


def test_checklist_says_what_a_local_or_unencrypted_url_prevents(
    company: Company, browser_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> home.FirstStep:
        return next(one for one in home.setup_steps(company.admin) if one.title == "Set the public URL")

    def use(url: str | None) -> None:
        config = replace(environment.current(), base_url=url)
        monkeypatch.setattr(environment, "current", lambda: config)

    for url in (None, "http://localhost:8686", "https://10.0.0.5", "http://tocsin.example.org"):
        use(url)
        assert step().problem, url
        assert not step().is_done
    assert "tocsin.example.org is not encrypted" in browser_of(company.admin).get("/").content.decode()
    # On Home's health too, where it stays when the checklist is gone.
    assert any("is not encrypted" in warning.text for warning in home.find_warnings(clock.now()))
    use("https://tocsin.example.org")
    assert (step().problem, step().is_done) == ("", True)


def test_group_comes_before_invitations_and_undone_steps_are_health(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    titles = [str(step.title) for step in home.setup_steps(company.admin)]
    assert (
        titles.index("Set the public URL") < titles.index("Create an on-call group") < titles.index("Invite your team")
    )
    missing = [step for step in home.setup_steps(company.admin) if not (step.is_done or step.is_optional)]
    page = browser_of(company.admin).get("/", headers={"X-Part": "health"}).content.decode()
    assert f"Setup is incomplete: {len(missing)} required step" in page
    assert "No known issues" not in page
    assert "Setup is incomplete" not in browser_of(company.manager).get("/").content.decode()
