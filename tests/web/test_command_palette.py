"""The command palette offers the views, actions and objects that its user may open."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from django.test import Client

from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.oncall.changes.commands import save_schedule
from tocsin.people.models import Group, User
from tocsin.web.navigation import ACTIONS, NAVIGATION

type BrowserOf = Callable[[User], Client]


def offered(client: Client, path: str = "/", **headers: str) -> dict[str, str]:
    """URL by label of the palette's views and actions."""
    text = client.get(path, headers=headers or None).content.decode()
    return {label: url for url, label in re.findall(r'role="option"[^>]*href="([^"]+)"[^>]*>.*?<span>([^<]+)', text)}


def hits(client: Client, text: str, **headers: str) -> str:
    """What the palette shows of the search for `text`."""
    return client.get("/search/", {"q": text}, headers={"X-Part": "palette", **headers}).content.decode()


def test_palette_offers_only_permitted_actions(company: Company, browser_of: BrowserOf) -> None:
    names = {
        user.username: {str(entry.label) for entry in ACTIONS} & offered(browser_of(user)).keys()
        for user in (company.admin, company.manager, company.responder, company.observer)
    }
    assert names["alice"] == {str(entry.label) for entry in ACTIONS}
    assert names["alice"] - names["mia"] == {"Pause all paging", "Invite user"}
    assert names["bob"] == {"New alert", "Override shift", "Out of office"}
    assert names["olga"] == {"Out of office"}


def test_everything_that_the_palette_offers_opens(company: Company, browser_of: BrowserOf) -> None:
    for user in (company.admin, company.manager, company.responder, company.observer):
        client = browser_of(user)
        for label, url in offered(client).items():
            assert client.get(url).status_code in (200, 302), (user, label)


def test_palette_finds_alerts_people_and_groups(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    number = open_alert("VPN down", client="Acme")
    admin, observer = browser_of(company.admin), browser_of(company.observer)
    for text in (str(number), "vpn"):
        assert f'href="/alerts/{number}/"' in hits(observer, text)
    assert f'href="/users/{company.responder.pk}/"' in hits(admin, "bob")
    # Only administrators open a user; the others open the group.
    assert f'href="/groups/{company.desk.pk}/"' in hits(observer, "bob")
    assert f'href="/integrations/{company.halo.pk}/"' in hits(admin, "haloitsm")
    # Somebody without a group has no page for an observer: nothing to choose.
    assert "olga" not in hits(observer, "olga").casefold()
    assert "role" not in hits(admin, "nothing like it")
    assert hits(admin, " ").strip() == ""


def test_palette_is_in_the_readers_language(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    assert "Neuer Alarm" in offered(client, **{"Accept-Language": "de"})
    assert 'aria-label="Gruppen"' in hits(client, "service desk", **{"Accept-Language": "de"})


def test_a_shortcut_opens_one_page(company: Company, browser_of: BrowserOf) -> None:
    text = browser_of(company.admin).get("/").content.decode()
    keys = Counter(re.findall(r'data-go="(\w)"', text))
    assert max(keys.values()) == 1, keys
    assert len(keys) == sum(len(entries) for _heading, entries in NAVIGATION) + 1
    sheet = text.partition('id="shortcuts"')[2]
    for key in keys:
        assert f"<kbd>g</kbd> <kbd>{key}</kbd>" in sheet


def test_override_asks_for_the_group_unless_there_is_one(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.responder)
    assert "No schedules yet" in client.get("/on-call/override/").content.decode()
    _schedule(company, company.desk)
    assert client.get("/on-call/override/")["Location"] == f"/on-call/groups/{company.desk.pk}/reassign/"
    _schedule(company, company.night)
    text = client.get("/on-call/override/").content.decode()
    # One's own group comes first.
    assert re.findall(r"/on-call/groups/(\d+)/reassign/", text) == [str(company.desk.pk), str(company.night.pk)]


def _schedule(company: Company, group: Group) -> None:
    shift = {"name": "Days", "rotate": {"users": ["alice"], "every": "1w", "at": "08:00"}, "start": "2026-01-05"}
    spec = {"name": f"{group.name} hours", "group": group.name, "time_zone": "UTC", "shifts": [shift]}
    save_schedule(spec, actor=COMMAND_LINE, now=company.now)
