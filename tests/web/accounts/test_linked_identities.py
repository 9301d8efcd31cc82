"""Links of accounts to identities at providers: who sees them, who removes them, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from secrets import token_urlsafe

import pytest
from django.test import Client

from tests.web.conftest import PASSWORD, Company
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.access.roles import UNLIMITED
from tocsin.core.runtime import clock
from tocsin.identity import commands
from tocsin.identity.models import BrowserSession, IdentityProvider, LinkedIdentity
from tocsin.people.models import User


@pytest.fixture
def provider(company: Company) -> IdentityProvider:
    spec = {
        "name": "Acme",
        "issuer": "https://sso.example.org",
        "client_id": "tocsin",
        "allowed_domains": ["example.org"],
    }
    return commands.save_provider(spec, actor=COMMAND_LINE, now=clock.now())


def link(provider: IdentityProvider, user: User, **values: str) -> LinkedIdentity:
    now = clock.now() - timedelta(hours=1)
    return LinkedIdentity.objects.create(
        provider=provider,
        user=user,
        issuer=provider.issuer,
        subject=f"{user.username}-1",
        created_at=now,
        signed_in_at=now,
        **values,
    )


def remove(client: Client, linked: LinkedIdentity) -> int:
    return client.post(f"/me/identities/{linked.pk}/remove").status_code


def test_users_see_and_remove_their_own_link(
    company: Company, provider: IdentityProvider, browser_of: Callable[[User], Client]
) -> None:
    linked = link(provider, company.responder)
    client = browser_of(company.responder)
    page = client.get("/me/").content.decode()
    assert "Linked identities" in page
    assert "bob-1" in page
    assert remove(client, linked) == 302
    assert not LinkedIdentity.objects.exists()
    entry = AuditEntry.objects.get(action="unlink_identity")
    assert (entry.object_name, entry.before["subject"], entry.actor_name) == ("bob", "bob-1", "Bob Brown")


def test_last_way_to_sign_in_stays(
    company: Company, provider: IdentityProvider, browser_of: Callable[[User], Client]
) -> None:
    linked = link(provider, company.responder)
    client = browser_of(company.responder)
    company.responder.set_unusable_password()
    company.responder.save()
    client.force_login(company.responder)
    assert remove(client, linked) == 302
    assert "You could not sign in any more" in client.get("/me/").content.decode()
    assert LinkedIdentity.objects.exists()
    # An administrator may: the user is linked again by the verified address.
    assert remove(browser_of(company.admin), linked) == 302
    assert not LinkedIdentity.objects.exists()


def test_links_of_others_are_unknown(
    company: Company, provider: IdentityProvider, browser_of: Callable[[User], Client]
) -> None:
    linked = link(provider, company.responder)
    assert remove(browser_of(company.manager), linked) == 404
    assert browser_of(company.manager).get(f"/me/identities/{linked.pk}/remove").status_code == 405
    assert remove(Client(), linked) == 302
    assert LinkedIdentity.objects.exists()


def test_removal_ends_its_sessions_and_returns_the_manual_role(
    company: Company, provider: IdentityProvider, browser_of: Callable[[User], Client]
) -> None:
    linked = link(provider, company.responder, role_by_hand="responder")
    User.objects.filter(pk=company.responder.pk).update(role="admin", role_source=provider.slug)
    now = clock.now()
    BrowserSession.objects.create(
        session_key="x", user=company.responder, provider=provider, created_at=now, seen_at=now
    )
    page = browser_of(company.admin).get(f"/users/{company.responder.pk}/").content.decode()
    assert "bob-1" in page
    remove(browser_of(company.admin), linked)
    user = User.objects.get(pk=company.responder.pk)
    assert (user.role, user.role_source) == ("responder", "")
    assert not BrowserSession.objects.filter(session_key="x").exists()


def test_provisioning_page_shows_linked_users_and_asks_first(
    company: Company, provider: IdentityProvider, browser_of: Callable[[User], Client]
) -> None:
    link(provider, company.responder)
    client = browser_of(company.admin)
    address = f"/settings/sign-in/{provider.pk}/provisioning/"
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    client.post(address, {"create": ""})
    page = client.get(address).content.decode()
    assert "bob-1" in page
    assert "The present token ends at once" in page


def test_api_shows_own_links_and_administrators_all(company: Company, provider: IdentityProvider) -> None:
    linked = link(provider, company.responder)
    now = clock.now()

    def api(user: User) -> dict[str, str]:
        secret = tokens.create(user, token_urlsafe(8), limits=UNLIMITED, actor=COMMAND_LINE, now=now).secret
        return {"Authorization": f"Bearer {secret}"}

    def subjects(user: User, query: str = "") -> list[str]:
        answer = Client().get(f"/api/v1/linked-identities{query}", headers=api(user))
        return [item["subject"] for item in answer.json()["items"]]

    assert subjects(company.responder) == subjects(company.admin, "?provider=acme") == ["bob-1"]
    assert subjects(company.manager) == subjects(company.admin, "?user=mia") == []
    path = f"/api/v1/linked-identities/{linked.pk}"
    assert Client().delete(path, headers=api(company.manager)).status_code == 404
    assert Client().get(path, headers=api(company.responder)).json()["provider"] == "Acme"
    assert Client().delete(path, headers=api(company.responder)).status_code == 204
    assert not LinkedIdentity.objects.exists()
