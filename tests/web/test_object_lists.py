"""The list page of every kind of configurable object: its filter, its pages, and who may add one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.company import Company
from tests.support.people import phones
from tocsin.access.audit import COMMAND_LINE
from tocsin.calls.models import CallRoute
from tocsin.people.models import Group, User
from tocsin.resources.registry import RESOURCES, SCHEDULES

#: By key: a spec without the name. The schedules are listed by group, with who is on call.
SPECS: Mapping[str, dict[str, object]] = {
    "users": {},
    "groups": {},
    "service_accounts": {},
    "identity_providers": {"issuer": "https://sso.example.org", "client_id": "tocsin"},
    "holiday_calendars": {"days": [{"date": "12-24", "name": "Christmas Eve"}]},
    "support_hours": {"windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]},
    "escalation_policies": {"steps": [{"notify": {"users": ["bob"]}}]},
    "client_tables": {"clients": [{"client": "Acme", "group": "Night"}]},
    "outbound_integrations": {"kind": "http", "url": "https://x.example"},
    "integrations": {"kind": "api", "anyway": True},
    "maintenance_windows": {"starts": "2096-12-01 22:00", "ends": "2096-12-02 02:00"},
    "workflows": {"trigger": "opened", "actions": [{"do": "close"}]},
    "providers": {"kind": "ntfy"},
    "client_reports": {"address": "service@acme.example"},
    "call_routes": {"provider": "Phones", "recipient_group": "Night"},
}

type Browser = Callable[[User], Client]


def html(browser: Client, url: str, **query: str) -> str:
    """The text of a page."""
    response = browser.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def save(key: str, name: str, company: Company) -> int:
    """The id of a new object."""
    resource = next(resource for resource in RESOURCES if resource.key == key)
    spec = {**SPECS[key], resource.name_column: name}
    if key == "users":
        spec["email"] = f"{name}@example.org"
    if key == "call_routes":
        spec["provider"] = phones(now=company.now).name
        spec["numbers"] = [f"+4144555{len(CallRoute.objects.all()):04}"]
    number: int = resource.save(spec, actor=COMMAND_LINE, now=company.now).pk
    return number


def test_every_kind_has_a_list() -> None:
    assert {resource.key for resource in RESOURCES} - {SCHEDULES.key} == set(SPECS)


@pytest.mark.parametrize("key", SPECS)
def test_a_list_is_filtered_by_name(key: str, company: Company, browser_of: Browser) -> None:
    resource = next(resource for resource in RESOURCES if resource.key == key)
    wanted, other = (save(key, name, company) for name in ("quiet-wanted", "noisy-other"))
    browser, url = browser_of(company.admin), reverse(resource.views.list)

    def shown(text: str) -> list[bool]:
        found = html(browser, url, q=text)
        return [f'href="{reverse(resource.views.detail, args=[number])}"' in found for number in (wanted, other)]

    assert shown("") == [True, True]
    assert shown("Quiet-W") == [True, False]
    assert shown("no such name") == [False, False]
    found = html(browser, url, q="no such name")
    assert "No matching entries" in found
    assert 'value="no such name"' in found


def test_a_long_list_has_pages(company: Company, browser_of: Browser) -> None:
    Group.objects.bulk_create(Group(name=f"Team {number:03}") for number in range(150))
    browser = browser_of(company.admin)

    first, second = html(browser, "/groups/"), html(browser, "/groups/", page="2")
    assert "Page 1 of 2" in first
    assert ("Team 000" in first, "Team 149" in first) == (True, False)
    assert ("Team 000" in second, "Team 149" in second) == (False, True)

    assert "Page 1 of 2" in html(browser, "/groups/", page="x")
    assert "?q=team&amp;page=2" in html(browser, "/groups/", q="team")


def test_a_short_list_has_no_filter(company: Company, browser_of: Browser) -> None:
    browser = browser_of(company.admin)
    assert "Filter by name" not in html(browser, "/groups/")
    Group.objects.bulk_create(Group(name=f"Team {number}") for number in range(12))
    assert "Filter by name" in html(browser, "/groups/")


def test_policies_are_sorted_by_name(company: Company, browser_of: Browser) -> None:
    for name in ("Zulu", "Alpha", "Mike"):
        save("escalation_policies", name, company)
    rows = browser_of(company.admin).get("/policies/").context["rows"]
    assert [row.name for row, _plan in rows] == ["Alpha", "Mike", "Standard", "Zulu"]


def test_only_who_may_add_has_a_button(company: Company, browser_of: Browser) -> None:
    for url, label in (("/groups/", "New group"), ("/policies/", "New policy"), ("/workflows/", "New workflow")):
        assert label in html(browser_of(company.admin), url)
        assert label not in html(browser_of(company.responder), url)


def test_another_tab_begins_at_its_first_page(company: Company, browser_of: Browser) -> None:
    save("maintenance_windows", "Patches", company)
    found = html(browser_of(company.admin), "/maintenance/", page="2", q="pat")
    assert 'href="?q=pat&amp;tab=past"' in found
