"""Announcements of a group and of maintenance: in the form, previewed, over the API, and only for whom they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.support.people import ACTOR
from tests.web.conftest import Company, make_user
from tests.web.test_maintenance import form as window_form
from tocsin.access.models import AuditEntry
from tocsin.core.config import settings_store
from tocsin.inbound.models import MaintenanceWindow
from tocsin.notify.models import Notification
from tocsin.notify.notices import CLIENT_REPORTS
from tocsin.people.changes import groups
from tocsin.people.models import Group, User

type BrowserOf = Callable[[User], Client]

CONTACT = {"label": "Channel", "channel": "chat", "address": "slack:C0123456"}


@pytest.fixture
def desk(company: Company) -> Group:
    spec = {**groups.group_spec(company.desk), "contacts": [CONTACT]}
    return groups.save_group(spec, existing=company.desk, actor=ACTOR, now=company.now)


def edit(client: Client, group: Group, **more: Any) -> Any:
    path = f"/groups/{group.pk}/edit/"
    data = filled(client.get(path).content.decode())
    return client.post(path, {**data, **more})


def subscribe_acme(company: Company) -> None:
    spec = {"client": "Acme", "address": "it@acme.example", "maintenance": True}
    CLIENT_REPORTS.save(spec, actor=ACTOR, now=company.now)


FIRST = {"announcements-0-topics": ["on_call", "gaps"], "announcements-0-at": "07:30", "announcements-0-language": "de"}


def test_manager_sets_up_an_announcement_and_sees_it(company: Company, desk: Group, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    assert edit(client, desk, **FIRST, **{"announcements-0-contacts": ["Channel"]}).status_code == 302
    desk.refresh_from_db()
    told = {"topics": ["on_call", "gaps"], "contacts": ["Channel"], "at": "07:30", "language": "de"}
    assert desk.announcements == [told]
    assert AuditEntry.objects.latest("pk").after["announcements"] == [told]
    assert "Who is on call, daily" in client.get(f"/groups/{desk.pk}/").content.decode()
    # Saving the form again changes nothing.
    assert edit(client, desk).status_code == 302
    desk.refresh_from_db()
    assert desk.announcements == [told]


def test_preview_shows_the_message_and_saves_nothing(company: Company, desk: Group, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    answer = edit(client, desk, **FIRST, do="preview")
    assert answer.status_code == 200
    assert "Bereitschaft" in answer.content.decode()
    desk.refresh_from_db()
    assert desk.announcements == []
    assert not Notification.objects.exists()


def test_invalid_announcement_is_shown_in_its_row(company: Company, desk: Group, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    wrong = edit(client, desk, **FIRST, **{"announcements-0-user_group": "@oncall", "name": "Renamed"})
    assert wrong.status_code == 422
    text = wrong.content.decode()
    assert "is not a user group" in text
    assert 'value="Renamed"' in text


def test_user_of_another_group_sees_nothing(company: Company, desk: Group, browser_of: BrowserOf) -> None:
    settings_store.set(settings_store.VISIBILITY, "groups")
    stranger = make_user("stan", "manager", "Stan Stranger")
    assert browser_of(stranger).get(f"/groups/{desk.pk}/").status_code == 404
    assert browser_of(stranger).get(f"/groups/{desk.pk}/edit/").status_code in (403, 404)


def test_window_is_announced_only_if_chosen(company: Company, desk: Group, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    assert "add it to the announcements of a group" in client.get("/maintenance/new/").content.decode()
    spec = {**groups.group_spec(desk), "announcements": [{"topics": ["maintenance"]}]}
    groups.save_group(spec, existing=desk, actor=ACTOR, now=company.now)
    subscribe_acme(company)
    assert client.post("/maintenance/new/", window_form(company)).status_code == 302
    row = MaintenanceWindow.objects.get()
    assert (row.announce_to, row.announce_to_clients) == ([], [])
    changed = window_form(company, announce_to=[desk.pk], announce_to_clients=["Acme"])
    assert client.post(f"/maintenance/{row.pk}/", changed).status_code == 302
    row.refresh_from_db()
    assert (row.announce_to, row.announce_to_clients) == ([desk.pk], ["Acme"])


def test_only_administrators_choose_clients(company: Company, browser_of: BrowserOf) -> None:
    subscribe_acme(company)
    client = browser_of(company.manager)
    assert "Acme" not in client.get("/maintenance/new/").content.decode()
    data = window_form(company, group=company.desk.pk, announce_to_clients=["Acme"])
    assert client.post("/maintenance/new/", data).status_code == 302
    row = MaintenanceWindow.objects.get()
    assert row.announce_to_clients == []
