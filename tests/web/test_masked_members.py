"""A manager who adds a user to a group sees no addresses without consent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tests.web.conftest import Company, make_user
from tocsin.access.audit import COMMAND_LINE, AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.errors import Rejected
from tocsin.people import permissions
from tocsin.people.changes import groups
from tocsin.people.models import Group, Membership, User

type BrowserOf = Callable[[User], Client]


@pytest.fixture
def stranger(company: Company) -> User:
    return make_user("stan", "responder", "Stan Stranger")


def add(group: Group, user: User, company: Company, by: User | None) -> None:
    spec = groups.group_spec(group)
    actor = AuditActor.from_user(by, "web", limits=None) if by else COMMAND_LINE
    spec["members"] = [*spec["members"], {"user": user.username, "roles": ["secondary"]}]
    groups.save_group(spec, existing=group, actor=actor, now=company.now)


def can_see_addresses(viewer: User, user: User) -> bool:
    return permissions.viewer(viewer, None).can_view_addresses_of(user.pk)


def test_manager_adding_a_stranger_sees_no_address(company: Company, stranger: User, browser_of: BrowserOf) -> None:
    add(company.desk, stranger, company, company.manager)
    assert not can_see_addresses(company.manager, stranger)
    assert not can_see_addresses(company.responder, stranger)
    assert can_see_addresses(stranger, company.manager), "who is in the group already has agreed"
    # Neither a change of the group nor adding again shows them.
    add(company.desk, company.observer, company, company.manager)
    without = groups.group_spec(company.desk)
    without["members"] = [one for one in without["members"] if one["user"] != "stan"]
    groups.save_group(
        without, existing=company.desk, actor=AuditActor.from_user(company.manager, "web", limits=None), now=company.now
    )
    add(company.desk, stranger, company, company.manager)
    assert not can_see_addresses(company.manager, stranger)
    mia = browser_of(company.manager)
    page = f"/groups/{company.desk.pk}/"
    assert mia.post(f"{page}members/{stranger.pk}/show-addresses").status_code == 403
    assert "addresses masked" in mia.get(page).content.decode()
    assert "show-addresses" not in mia.get(page).content.decode()


@pytest.mark.parametrize("who", ["stan", "alice"])
def test_member_or_administrator_shows_the_addresses(
    company: Company, stranger: User, browser_of: BrowserOf, who: str
) -> None:
    add(company.desk, stranger, company, company.manager)
    browser = browser_of(User.objects.get(username=who))
    page = browser.get("/me/" if who == "stan" else f"/groups/{company.desk.pk}/").content.decode()
    path = f"/groups/{company.desk.pk}/members/{stranger.pk}/show-addresses"
    assert path in page
    assert browser.post(path).status_code == 302
    assert can_see_addresses(company.manager, stranger)
    entry = AuditEntry.objects.get(action="show_addresses")
    assert (entry.object_name, entry.after) == ("Service Desk", {"user": "stan"})


def test_users_with_address_permission_add_members_unmasked(company: Company, stranger: User) -> None:
    add(company.desk, stranger, company, company.admin)
    assert can_see_addresses(company.manager, stranger)
    groups.save_group(
        {"name": "Night", "members": [{"user": "alice"}, {"user": "mia"}]},
        existing=company.night, actor=COMMAND_LINE, now=company.now,
    )  # fmt: skip
    add(company.night, stranger, company, company.manager)
    assert Membership.objects.get(group=company.night, user=stranger).shows_addresses


def test_only_members_show_addresses(company: Company, stranger: User) -> None:
    with pytest.raises(Rejected, match="not a member"):
        groups.show_addresses(company.desk, stranger, actor=COMMAND_LINE, now=company.now)
