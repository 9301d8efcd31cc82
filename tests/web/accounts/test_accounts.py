"""Signing in: by name or e-mail, setup link, invitation and password reset."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.core.cache import cache
from django.test import Client

from tests.web.conftest import PASSWORD, Company, mails_leave
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.config import environment
from tocsin.notify.models import SandboxMessage
from tocsin.notify.providers.commands import save_provider
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.web.accounts import views
from tocsin.web.accounts.adapter import AccountAdapter


def sign_in(login: str, password: str = PASSWORD, client: Client | None = None, **headers: str) -> tuple[Client, int]:
    client = client or Client()
    response = client.post("/account/login/", {"login": login, "password": password}, headers=headers)
    return client, response.status_code


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


@pytest.mark.parametrize("login", ["alice", "ALICE", "alice@example.org", "Alice@Example.org"])
def test_people_sign_in_by_username_or_email_in_any_case(company: Company, login: str) -> None:
    client, _status = sign_in(login)
    assert is_in(client)


def test_signing_in_out_and_failing_is_on_record(company: Company) -> None:
    client, _status = sign_in("alice")
    client.post("/account/logout/")
    sign_in("alice", "not her password")
    results = list(
        AuditEntry.objects.filter(action__startswith="sign").order_by("pk").values_list("action", "actor_name")
    )
    assert results == [("sign_in", "Alice Andersson"), ("sign_out", "Alice Andersson"), ("sign_in_failed", "alice")]


def test_wrong_password_error_reveals_no_account(company: Company) -> None:
    answers = {
        Client()
        .post("/account/login/", {"login": name, "password": "wrong"})
        .content.decode()
        .split('class="errors"')[1]
        .split("</ul>")[0]
        for name in ("alice", "nobody")
    }
    assert len(answers) == 1, answers


def test_five_failures_stop_further_tries_whatever_host_they_name(company: Company) -> None:
    for number in range(5):
        sign_in("alice", "wrong", Host=f"host{number}.example.org")
    client, _status = sign_in("alice")
    assert not is_in(client)
    assert (
        "Too many attempts" in client.post("/account/login/", {"login": "alice", "password": PASSWORD}).content.decode()
    )


def test_failed_sign_ins_stay_counted_across_usernames(company: Company) -> None:
    for _ in range(5):
        sign_in("alice", "wrong")
    for number in range(1_000):
        cache.set(f"somebody-{number}", [1], 300)
    assert not is_in(sign_in("alice")[0])


def test_get_of_sign_out_address_keeps_the_session(company: Company) -> None:
    client, _status = sign_in("alice")
    assert client.get("/account/logout/").status_code == 200
    assert is_in(client)


def test_disabled_user_cannot_sign_in(company: Company) -> None:
    User.objects.filter(pk=company.responder.pk).update(is_active=False)
    client, _status = sign_in("bob")
    assert not is_in(client)


def test_one_person_has_one_count_of_tries_by_whatever_name(company: Company) -> None:
    """Some databases take a dotless i for an i as well, as all do upper for lower case."""
    for name in ("alice", "alıce", "alice@example.org", "ALICE", "Alice@example.org", "aLICE"):
        sign_in(name, "not her password")
    client, status = sign_in("alice")
    assert not is_in(client)
    assert status == 200
    bob, _status = sign_in("bob")
    assert is_in(bob)


def test_public_sign_up_does_not_exist(company: Company) -> None:
    page = Client().get("/account/signup/").content.decode()
    assert "By invitation only" in page
    Client().post("/account/signup/", {"email": "x@example.org", "username": "x", "password1": PASSWORD})
    assert not User.objects.filter(username="x").exists()


def test_the_setup_link_makes_the_first_administrator_once(database: str) -> None:
    link = f"/setup/{tokens.make()}"
    client = Client()
    assert client.get(link).status_code == 200
    form = {"name": "Ada", "email": "ada@example.org", "username": "ada", "password": PASSWORD, "time_zone": "UTC"}
    assert client.post(link, form)["Location"] == "/"
    assert is_in(client)
    assert User.objects.get().role == "admin"
    again = Client()
    assert again.get(link).status_code == 410
    assert again.post(link, {**form, "username": "eve", "email": "eve@example.org"}).status_code == 410
    assert User.objects.count() == 1


def test_an_empty_install_says_where_the_setup_link_is(database: str) -> None:
    page = Client().get("/", follow=True).content.decode()
    assert "one-time setup link" in page
    assert "journalctl --unit tocsin | grep /setup/" in page
    assert 'name="password"' not in page, "there is nobody who could sign in"


def test_setup_link_keeps_typed_values_on_errors(database: str) -> None:
    link = f"/setup/{tokens.make()}"
    form = {"name": "Ada", "email": "ada@example.org", "username": "a/b", "password": "short", "time_zone": "UTC"}
    response = Client().post(link, form)
    text = response.content.decode()
    assert response.status_code == 422
    assert 'value="a/b"' in text
    assert "ada@example.org" in text
    assert "A name must not contain a slash (/)" in text
    assert "This password is too short" in text, "both are said at once"
    assert not User.objects.exists()


def test_a_made_up_setup_link_opens_nothing(database: str) -> None:
    assert Client().get("/setup/0123456789abcdef0123456789abcdef").status_code == 410


def test_a_person_is_invited_by_an_address_alone(company: Company, browser_of: Callable[[User], Client]) -> None:
    admin = browser_of(company.admin)
    form = {"email": "nora.new@example.org", "role": "responder", "time_zone": "UTC"}
    assert admin.post("/users/invite/", form).status_code == 302
    assert User.objects.get(email="nora.new@example.org").username == "nora.new"
    again = admin.post("/users/invite/", {**form, "email": "nora.new@example.com"})
    assert again.status_code == 422, "the other one's username is taken"
    assert "username" in again.context["form"].errors


def test_invited_user_chooses_a_password_once(company: Company, browser_of: Callable[[User], Client]) -> None:
    admin = browser_of(company.admin)
    form = {
        "name": "Nora New", "email": "nora@example.org", "username": "nora", "role": "responder", "time_zone": "UTC",
        "group": company.desk.pk, "roles": ["secondary"],
    }  # fmt: skip
    answer = admin.post("/users/invite/", form, follow=True).content.decode()
    shown = re.search(r'value="(http[^"]+/welcome/[^"]+)"', answer)
    assert shown, answer
    mailed = SandboxMessage.objects.get(address="nora@example.org").content["text"]
    match = re.search(r"http\S+/welcome/\S+", mailed)
    assert match, mailed
    path = match[0].removeprefix(environment.current().public_url)
    nora = Client()
    assert nora.get(path).status_code == 200
    assert nora.post(path, {"password": "short", "time_zone": "UTC"}).status_code == 422
    nora.post(path, {"password": PASSWORD, "time_zone": "Europe/Zurich"})
    assert is_in(nora)
    assert User.objects.get(username="nora").time_zone == "Europe/Zurich"
    assert list(company.desk.memberships.filter(user__username="nora").values_list("roles", flat=True)) == [
        ["secondary"]
    ]
    # The link that the administrator could copy has ended too.
    for link in (path, shown[1].removeprefix(environment.current().public_url)):
        assert Client().get(link).status_code == 410


def test_invitation_is_useless_for_account_with_password(company: Company) -> None:
    """A new password comes by "Forgot your password?", after which a second factor is asked."""
    path = views.link(company.responder).removeprefix(environment.current().public_url)
    stranger = Client()
    assert stranger.post(path, {"password": f"{PASSWORD} too", "time_zone": "UTC"}).status_code == 410
    assert not is_in(stranger)
    assert User.objects.get(pk=company.responder.pk).check_password(PASSWORD)


def test_invitation_to_corrected_address_is_revoked(company: Company) -> None:
    spec = {"username": "nora", "name": "Nora New", "email": "nroa@example.org", "role": "admin"}
    nora = users.save_user(spec, actor=COMMAND_LINE, now=company.now)
    astray = views.link(nora).removeprefix(environment.current().public_url)
    users.save_user({**spec, "email": "nora@example.org"}, existing=nora, actor=COMMAND_LINE, now=company.now)
    stranger = Client()
    assert stranger.post(astray, {"password": PASSWORD, "time_zone": "UTC"}).status_code == 410
    assert not is_in(stranger)
    right = views.link(nora).removeprefix(environment.current().public_url)
    assert Client().get(right).status_code == 200


def test_first_of_two_concurrent_invitation_uses_wins(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"username": "nora", "name": "Nora New", "email": "nora@example.org", "role": "responder"}
    nora = users.save_user(spec, actor=COMMAND_LINE, now=company.now)
    path = views.link(nora).removeprefix(environment.current().public_url)
    second = Client()

    def meanwhile(password: str, user: User) -> None:
        """The second looked at the link before the first chose a password, and is done after."""
        monkeypatch.undo()
        Client().post(path, {"password": PASSWORD, "time_zone": "UTC"})

    monkeypatch.setattr("tocsin.web.accounts.views.validate_password", meanwhile)
    assert second.post(path, {"password": f"{PASSWORD} too", "time_zone": "UTC"}).status_code == 410
    assert not is_in(second)
    assert User.objects.get(pk=nora.pk).check_password(PASSWORD)


def test_concurrent_password_change_restores_no_revoked_role(
    company: Company,
) -> None:
    """What is saved of somebody who changes their own password is that alone."""
    user = User.objects.get(pk=company.manager.pk)
    spec = {**users.user_spec(user), "role": "observer", "active": False}
    users.save_user(spec, existing=User.objects.get(pk=user.pk), actor=COMMAND_LINE, now=company.now)
    AccountAdapter().set_password(user, "another long word")
    after = User.objects.get(pk=user.pk)
    assert (after.role, after.is_active) == ("observer", False)
    assert after.check_password("another long word")


def test_password_change_confirmation_uses_the_usual_wording(company: Company) -> None:
    client = Client(headers={"Accept-Language": "de"})
    client.post("/account/login/", {"login": "bob", "password": PASSWORD})
    text = client.post("/account/password/change/", {"oldpassword": "wrong"}).content.decode()
    assert "Falsches Passwort." in text
    assert "Bitte gib" not in text
    assert "placeholder" not in text.partition("<main")[2].partition("</main>")[0]


def test_forgotten_password_is_reset_by_mail_on_public_address(company: Company) -> None:
    client = Client()
    client.post("/account/password/reset/", {"email": "bob@example.org"}, headers={"Host": "evil.example.org"})
    mails_leave()
    text = SandboxMessage.objects.get(address="bob@example.org").content["text"]
    assert "evil" not in text
    link = re.search(r"http\S+/account/password/reset/key/\S+", text)
    assert link, text
    assert link[0].startswith(environment.current().public_url)
    path = link[0].removeprefix(environment.current().public_url)
    form = client.get(path, follow=True)
    client.post(form.request["PATH_INFO"], {"password1": "another long word", "password2": "another long word"})
    after, _status = sign_in("bob", "another long word")
    assert is_in(after)


def test_password_reset_of_unknown_user_is_indistinguishable_and_mails_nothing(company: Company) -> None:
    known = Client().post("/account/password/reset/", {"email": "bob@example.org"})
    unknown = Client().post("/account/password/reset/", {"email": "nobody@example.org"})
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    mails_leave()
    assert not SandboxMessage.objects.filter(address="nobody@example.org").exists()


def test_mail_server_failure_never_reveals_the_requested_account(
    company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    spec = {"name": "Mail", "kind": "smtp", "channels": ["email"], "host": "127.0.0.1", "sender": "t@example.org"}
    save_provider(spec, actor=COMMAND_LINE, now=company.now)
    known = Client().post("/account/password/reset/", {"email": "bob@example.org"})
    assert (known.status_code, known["Location"]) == (302, "/account/password/reset/done/")
    mails_leave()
    assert "A mail for a new password was not sent: " in caplog.text


def test_an_administrator_replaces_a_user_everywhere(company: Company, browser_of: Callable[[User], Client]) -> None:
    url = f"/users/{company.responder.pk}/replace/"
    assert browser_of(company.manager).get(url).status_code == 403
    admin = browser_of(company.admin)
    assert "group Service Desk" in admin.get(url).content.decode()
    assert admin.post(url, {"by": company.responder.pk}).status_code == 422
    assert admin.post(url, {"by": company.admin.pk}).status_code == 302
    assert not company.responder.memberships.exists()
    assert "is named nowhere" in admin.get(url).content.decode()
