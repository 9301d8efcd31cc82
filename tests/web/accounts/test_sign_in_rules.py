"""Single sign-on only, break-glass accounts, the lifetime of sessions, required second factors, signed-in devices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import Client

from tests.web.conftest import PASSWORD, Company, mails_leave
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE, change_settings
from tocsin.access.models import AuditEntry
from tocsin.access.roles import UNLIMITED
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.identity.models import BrowserSession
from tocsin.notify.models import SandboxMessage
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.web.accounts import views

type BrowserOf = Callable[[User], Client]


def sign_in(name: str, client: Client | None = None, **headers: str) -> Client:
    client = client or Client()
    client.post("/account/login/", {"login": name, "password": PASSWORD}, headers=headers)
    return client


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def set_up(**values: object) -> None:
    change_settings(values, actor=COMMAND_LINE, now=clock.now())


def mark_break_glass(user: User, **changes: object) -> None:
    spec = {**users.user_spec(user), "break_glass": True, **changes}
    users.save_user(spec, existing=user, actor=COMMAND_LINE, now=clock.now())


def test_single_sign_on_only_needs_a_break_glass_administrator(company: Company) -> None:
    mark_break_glass(company.manager)
    with pytest.raises(Rejected) as caught:
        set_up(sign_in="sso_only")
    assert (caught.value.code, caught.value.field) == ("no_break_glass", "sign_in")
    mark_break_glass(company.admin)
    set_up(sign_in="sso_only")


def test_passwords_work_for_break_glass_accounts_only(company: Company) -> None:
    mark_break_glass(company.admin)
    set_up(sign_in="sso_only")
    assert not is_in(sign_in("bob"))
    assert is_in(sign_in("alice"))
    entry = AuditEntry.objects.get(action="break_glass")
    assert entry.object_id == str(company.admin.pk)
    mails_leave()
    mail = SandboxMessage.objects.get(address="alice@example.org")
    assert "break-glass" in str(mail.content).lower()


def test_refused_password_looks_like_a_wrong_one(company: Company) -> None:
    mark_break_glass(company.admin)
    set_up(sign_in="sso_only")
    answers = {
        Client()
        .post("/account/login/", {"login": name, "password": password})
        .content.decode()
        .split('class="errors"')[1]
        .split("</ul>")[0]
        for name, password in (("bob", PASSWORD), ("bob", "wrong"), ("alice", "wrong"), ("no one", "wrong"))
    }
    assert len(answers) == 1


def test_resets_and_invitations_by_password_are_off(company: Company) -> None:
    new = users.save_user({"username": "new", "email": "new@example.org"}, actor=COMMAND_LINE, now=clock.now())
    link = views.link(new).removeprefix("http://localhost:8686")
    mark_break_glass(company.admin)
    set_up(sign_in="sso_only")
    assert Client().get(link).status_code == 410
    assert views.link(new).endswith("/account/login/")
    for address in ("bob@example.org", "alice@example.org"):
        Client().post("/account/password/reset/", {"email": address})
    mails_leave()
    assert [message.address for message in SandboxMessage.objects.all()] == ["alice@example.org"]


@pytest.mark.parametrize("change", [{"break_glass": False}, {"role": "manager"}, {"active": False}])
def test_last_break_glass_account_stays(company: Company, change: dict[str, object]) -> None:
    mark_break_glass(company.admin)
    User.objects.filter(pk=company.manager.pk).update(role="admin")
    set_up(sign_in="sso_only")
    company.admin.refresh_from_db()
    with pytest.raises(Rejected) as caught:
        mark_break_glass(company.admin, **change)
    assert caught.value.code == "last_break_glass"
    with pytest.raises(Rejected) as caught:
        users.delete_user(company.admin, actor=COMMAND_LINE, now=clock.now())
    assert caught.value.code == "last_break_glass"


def test_a_session_ends_with_its_lifetime(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(session_lifetime="12h")
    client, real = sign_in("bob"), clock.now
    for hours, expected in ((11, True), (13, False)):
        monkeypatch.setattr(clock, "now", lambda hours=hours: real() + timedelta(hours=hours))
        assert is_in(client) is expected


def test_a_shorter_lifetime_ends_older_sessions(company: Company) -> None:
    client = sign_in("bob")
    BrowserSession.objects.update(created_at=clock.now() - timedelta(hours=2))
    set_up(session_lifetime="3h")
    assert is_in(client)
    set_up(session_lifetime="1h")
    assert not is_in(client)


@pytest.mark.parametrize("lifetime", ["1m", "2000d", "soon"])
def test_bad_lifetime_is_rejected(company: Company, lifetime: str) -> None:
    with pytest.raises(Rejected) as caught:
        set_up(session_lifetime=lifetime)
    assert caught.value.field == "session_lifetime"


def test_required_second_factor_comes_before_anything_else(company: Company) -> None:
    set_up(require_mfa=["admin", "responder"])
    client = sign_in("bob")
    response = client.get("/alerts/")
    assert (response.status_code, response["Location"]) == (302, "/account/2fa/")
    assert client.get("/account/2fa/").status_code == 200
    assert client.get("/api/v1/alerts").status_code == 403
    assert client.post("/me/sign-ins/end-all").status_code == 403
    TOTP.activate(company.responder, generate_totp_secret())
    assert client.get("/alerts/").status_code == 200
    assert is_in(sign_in("mia"))


def test_signed_in_devices_are_listed_and_ended(company: Company) -> None:
    phone = sign_in("bob", **{"User-Agent": "Mozilla/5.0 (iPhone) Safari"})
    desk, tablet, other = sign_in("bob"), sign_in("bob"), sign_in("mia")
    page = desk.get("/me/sign-ins/").content.decode()
    assert "iPhone" in page
    key = BrowserSession.objects.get(user_agent__contains="iPhone").pk
    other.post("/me/sign-ins/end", {"session": key})
    assert is_in(phone), "another user's session cannot be ended"
    desk.post("/me/sign-ins/end", {"session": key})
    assert not is_in(phone)
    assert is_in(tablet)
    desk.post("/me/sign-ins/end-all")
    assert not is_in(tablet)
    assert is_in(desk)
    assert is_in(other)
    assert BrowserSession.objects.filter(user=company.responder).count() == 1


def test_the_api_lists_and_ends_signed_in_devices(company: Company) -> None:
    browser, others, user = sign_in("bob"), sign_in("mia"), company.responder
    secret = tokens.create(user, "t", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now()).secret
    api, headers = Client(), {"authorization": f"Bearer {secret}"}
    (row,) = api.get("/api/v1/signed-in-devices", headers=headers).json()["items"]
    assert (row["user"], row["provider"]) == (user.username, None)
    other = BrowserSession.objects.exclude(user=user).get().pk
    assert api.delete(f"/api/v1/signed-in-devices/{other}", headers=headers).status_code == 404
    assert api.delete(f"/api/v1/signed-in-devices/{row['id']}", headers=headers).status_code == 204
    assert not is_in(browser)
    assert is_in(others)
    assert AuditEntry.objects.filter(action="end_sessions", object_name=user.username).exists()


def test_signing_out_removes_the_device(company: Company) -> None:
    client = sign_in("bob")
    client.post("/account/logout/")
    assert not BrowserSession.objects.exists()
