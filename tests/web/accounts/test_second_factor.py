"""An authenticator app as second factor: enrolment, sign-in, storage and recovery."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.core.cache import cache
from django.test import Client

from tests.web.conftest import PASSWORD, Company
from tocsin.access.models import AuditEntry
from tocsin.core.reasons import Person, each_of
from tocsin.oncall.models import PendingNotice
from tocsin.people import sign_in_rules
from tocsin.people.models import User

type BrowserOf = Callable[[User], Client]


def code(secret: str, steps: int = 0) -> str:
    """The code that an authenticator app shows, `steps` half minutes later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def signed_in() -> Client:
    client = Client()
    client.post("/account/login/", {"login": "bob", "password": PASSWORD})
    return client


def test_authenticator_app_is_enrolled_and_required(company: Company) -> None:
    client = signed_in()
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    text = client.get("/account/2fa/totp/activate/").content.decode()
    shown = re.search(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', text)
    assert shown, text
    secret = shown[1]
    assert "<h1>Set up authenticator app</h1>" in text
    assert client.post("/account/2fa/totp/activate/", {"code": "000000"}).status_code == 200
    assert client.post("/account/2fa/totp/activate/", {"code": code(secret)}).status_code == 302
    codes = re.search(r"<textarea[^>]*>([^<]*)</textarea>", client.get("/account/2fa/recovery-codes/").content.decode())
    assert codes, "the recovery codes are there to be written down"
    assert len(codes[1].split()) == 10
    stored = Authenticator.objects.get(type="totp").data
    assert secret not in str(stored), "the secret is encrypted at rest"

    again = signed_in()
    assert again.get("/").status_code == 302, "the password alone does not sign in"
    asking = again.get("/account/2fa/authenticate/", headers={"Accept-Language": "de"}).content.decode()
    assert "einen Wiederherstellungscode" in asking
    assert again.post("/account/2fa/authenticate/", {"code": code(secret, 1)}).status_code == 302
    assert again.get("/").status_code == 200


def test_code_is_valid_once_within_its_time_window(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6238, 5.2. A code fits for a minute and a half, since clocks differ."""
    secret, begin = generate_totp_secret(), int(time.time()) // 30 * 30
    TOTP.activate(company.responder, secret)
    seen = format_hotp_value(hotp_value(secret, begin // 30 + 1))
    for seconds, lets_in in ((0, True), (31, False), (61, False), (89, False)):
        monkeypatch.setattr(time, "time", lambda at=begin + seconds: float(at))
        client = signed_in()
        client.post("/account/2fa/authenticate/", {"code": seen})
        assert (client.get("/").status_code == 200) is lets_in, seconds
        # The next try is another process', which has its own cache.
        cache.clear()
    client.post("/account/2fa/authenticate/", {"code": format_hotp_value(hotp_value(secret, begin // 30 + 2))})
    assert client.get("/").status_code == 200


def test_only_one_of_two_processes_accepts_the_same_code(company: Company) -> None:
    for kind in ("123456", "a recovery code"):
        assert sign_in_rules.consume_code(company.responder, kind, now=company.now)
        assert not sign_in_rules.consume_code(company.responder, kind, now=company.now + timedelta(seconds=89))
        assert sign_in_rules.consume_code(company.admin, kind, now=company.now), "of another person"
        assert sign_in_rules.consume_code(company.responder, kind, now=company.now + timedelta(seconds=91))


def test_a_wrong_code_after_the_right_password_is_on_record(company: Company) -> None:
    """Whoever gets so far has somebody's password."""
    TOTP.activate(company.responder, generate_totp_secret())
    client = signed_in()
    for _try in range(8):
        client.post("/account/2fa/authenticate/", {"code": "000000"})
    failed = AuditEntry.objects.filter(action="sign_in_failed")
    assert {(one.actor_name, one.object_name, one.address) for one in failed} == {("Bob Brown", "bob", "127.0.0.1")}
    assert len(failed) == 5, "those that were not looked at are not recorded"


def test_security_keys_change_only_after_password_confirmation(company: Company) -> None:
    client = Client()
    client.force_login(company.responder, backend="django.contrib.auth.backends.ModelBackend")
    response = client.get("/account/2fa/totp/activate/")
    assert response.status_code == 302
    assert "reauthenticate" in response["Location"]


def enrolled(user: User) -> None:
    for kind in ("totp", "recovery_codes"):
        Authenticator.objects.create(user=user, type=kind, data={"secret": "sealed", "seed": "sealed"})


def test_administrator_resets_a_lost_second_factor(company: Company, browser_of: BrowserOf) -> None:
    bob = company.responder
    enrolled(bob)
    assert signed_in().get("/").status_code == 302
    admin = browser_of(company.admin)
    text = admin.get(f"/users/{bob.pk}/").content.decode()
    assert "Authenticator app" in text
    assert "Make sure the request comes from" in text
    assert admin.get(f"/users/{bob.pk}/second-factor").status_code == 405
    page = admin.post(f"/users/{bob.pk}/second-factor", follow=True).content.decode()
    assert "Two-factor authentication reset for" in page
    assert "Authenticator app" not in page
    assert signed_in().get("/").status_code == 200
    again = admin.post(f"/users/{bob.pk}/second-factor", follow=True).content.decode()
    assert "has no second factor" in again
    entry = AuditEntry.objects.get(action="reset_second_factor")
    assert (entry.actor_name, entry.object_name) == ("Alice Andersson", "bob")
    assert entry.before == {"second_factors": ["recovery_codes", "totp"]}
    pending_notice = PendingNotice.objects.get()
    assert pending_notice.user == bob
    assert [reason.code for reason in each_of(pending_notice.text)] == [
        "{user} removed all your second factors.",
        "Until you set up new ones, you sign in with your password only.",
        "If you did not request this, change your password and tell an administrator.",
    ]
    assert each_of(pending_notice.text)[0]["user"] == Person("Alice Andersson", company.admin.pk)


def test_other_users_cannot_reset_second_factors(company: Company, browser_of: BrowserOf) -> None:
    enrolled(company.responder)
    manager = browser_of(company.manager)
    assert manager.post(f"/users/{company.responder.pk}/second-factor").status_code == 403
    assert manager.post(f"/api/v1/users/{company.responder.pk}/reset-second-factor").status_code == 403
    assert Authenticator.objects.count() == 2


def test_the_api_takes_them_away_too(company: Company, browser_of: BrowserOf) -> None:
    enrolled(company.responder)
    admin = browser_of(company.admin)
    path = f"/api/v1/users/{company.responder.pk}/reset-second-factor"
    assert admin.post(path).json() == {"taken_away": ["recovery_codes", "totp"]}
    assert admin.post(path).json() == {"taken_away": []}
    assert AuditEntry.objects.filter(action="reset_second_factor").count() == 1
    assert PendingNotice.objects.count() == 1
