"""An authenticator app as second factor: setting it up, signing in with it, its secret at rest."""

from __future__ import annotations

import re
import time

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

from tests.web.conftest import PASSWORD, Company


def code(secret: str, steps: int = 0) -> str:
    """The code that an authenticator app shows, `steps` half minutes later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def signed_in() -> Client:
    client = Client()
    client.post("/account/login/", {"login": "bob", "password": PASSWORD})
    return client


def test_an_authenticator_app_is_set_up_and_asked_for(company: Company) -> None:
    client = signed_in()
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    text = client.get("/account/2fa/totp/activate/").content.decode()
    shown = re.search(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', text)
    assert shown, text
    secret = shown[1]
    assert client.post("/account/2fa/totp/activate/", {"code": "000000"}).status_code == 200
    assert client.post("/account/2fa/totp/activate/", {"code": code(secret)}).status_code == 302
    stored = Authenticator.objects.get(type="totp").data
    assert secret not in str(stored), "the secret is encrypted at rest"

    again = signed_in()
    assert again.get("/").status_code == 302, "the password alone does not sign in"
    assert again.post("/account/2fa/authenticate/", {"code": code(secret, 1)}).status_code == 302
    assert again.get("/").status_code == 200


def test_keys_are_changed_after_the_password_was_asked_for_again(company: Company) -> None:
    client = Client()
    client.force_login(company.responder, backend="django.contrib.auth.backends.ModelBackend")
    response = client.get("/account/2fa/totp/activate/")
    assert response.status_code == 302
    assert "reauthenticate" in response["Location"]
