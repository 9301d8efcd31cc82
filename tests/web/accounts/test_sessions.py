"""Events that end a user's other sessions: lost factor, changed password, disabled account."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import Client

from tests.web.conftest import PASSWORD, Company
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import UNLIMITED
from tocsin.core.runtime import clock
from tocsin.people.changes import users
from tocsin.people.models import User

type BrowserOf = Callable[[User], Client]


def is_signed_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def signed_in(name: str) -> Client:
    client = Client()
    client.post("/account/login/", {"login": name, "password": PASSWORD})
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    return client


def test_a_second_factor_that_is_removed_ends_the_sessions_elsewhere(company: Company, browser_of: BrowserOf) -> None:
    here, elsewhere = signed_in("bob"), browser_of(company.responder)
    TOTP.activate(company.responder, generate_totp_secret())
    assert is_signed_in(elsewhere)
    assert here.post("/account/2fa/totp/deactivate/").status_code == 302
    assert not Authenticator.objects.exists()
    assert not is_signed_in(elsewhere)
    assert is_signed_in(here), "whoever did it goes on"


def test_removed_second_factor_ends_all_sessions_of_its_user(company: Company, browser_of: BrowserOf) -> None:
    TOTP.activate(company.responder, generate_totp_secret())
    elsewhere, admin = browser_of(company.responder), browser_of(company.admin)
    assert admin.post(f"/users/{company.responder.pk}/second-factor").status_code == 302
    assert not is_signed_in(elsewhere)
    assert is_signed_in(admin)


def test_administrator_removing_own_second_factor_stays_signed_in(company: Company, browser_of: BrowserOf) -> None:
    TOTP.activate(company.admin, generate_totp_secret())
    here, elsewhere = browser_of(company.admin), browser_of(company.admin)
    assert here.post(f"/users/{company.admin.pk}/second-factor").status_code == 302
    assert is_signed_in(here)
    assert not is_signed_in(elsewhere)


def test_session_of_disabled_user_stays_ended_after_enabling(company: Company, browser_of: BrowserOf) -> None:
    bob = company.responder
    before = browser_of(bob)
    assert is_signed_in(before)
    for active in (False, True):
        users.change_own(bob, {"active": active}, actor=COMMAND_LINE, now=clock.now())
    assert not is_signed_in(before)
    assert is_signed_in(signed_in("bob"))


def test_unrelated_changes_keep_users_signed_in(company: Company, browser_of: BrowserOf) -> None:
    before = browser_of(company.responder)
    users.change_own(company.responder, {"name": "Robert"}, actor=COMMAND_LINE, now=clock.now())
    assert is_signed_in(before)


def test_stale_form_restores_no_session_or_password(company: Company) -> None:
    """An administrator's form may have been read a moment before somebody changed their password."""
    read_before = User.objects.get(pk=company.responder.pk)
    users.change_own(company.responder, {}, actor=COMMAND_LINE, now=clock.now(), password="another long word")
    spec = users.user_spec(read_before)
    users.save_user(spec, existing=read_before, actor=COMMAND_LINE, now=clock.now())
    assert User.objects.get(pk=company.responder.pk).check_password("another long word")


@pytest.mark.parametrize("path", ["/account/password/change/", "/account/2fa/totp/deactivate/"])
def test_where_sessions_end_it_says_that_tokens_do_not(company: Company, path: str) -> None:
    client = signed_in("bob")
    TOTP.activate(company.responder, generate_totp_secret())
    assert "API token" not in client.get(path).content.decode(), "there is none"
    tokens.create(company.responder, "deploy", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now())
    text = client.get(path).content.decode()
    assert "1 API token stays valid" in text
    assert 'href="/me/#tokens"' in text


def test_administrator_revokes_another_users_tokens(company: Company, browser_of: BrowserOf) -> None:
    made = tokens.create(company.responder, "deploy", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now())
    path = f"/me/tokens/{made.token.pk}/revoke"
    admin = browser_of(company.admin)
    assert path in admin.get(f"/users/{company.responder.pk}/").content.decode()
    assert browser_of(company.manager).post(path).status_code == 404
    assert admin.get(path).status_code == 200
    assert tokens.verify(made.secret, now=clock.now())
    assert admin.post(path).status_code == 302
    assert tokens.verify(made.secret, now=clock.now()) is None
