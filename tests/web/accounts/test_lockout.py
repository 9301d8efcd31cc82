"""Passwords and codes are rate limited; strangers neither lock users out nor discover accounts."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client, RequestFactory

from tests.web.conftest import PASSWORD, Company
from tocsin.people.models import User
from tocsin.web.accounts import signin
from tocsin.web.accounts.signin import COOKIE

STRANGER, ELSEWHERE = "203.0.113.9", "198.51.100.7"


def browser(address: str = "192.0.2.1") -> Client:
    return Client(REMOTE_ADDR=address)


def attempt(client: Client, login: str, password: str = "wrong") -> str:
    """Tries to sign in, and returns the status and what the form says."""
    response = client.post("/account/login/", {"login": login, "password": password})
    errors = response.content.decode().partition('class="errors"')[2].partition("</ul>")[0]
    return f"{response.status_code} {errors}"


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def known_device(login: str = "bob") -> Client:
    client = browser()
    attempt(client, login, PASSWORD)
    client.post("/account/logout/")
    assert not is_in(client)
    return client


def test_strangers_never_lock_a_known_device(company: Company) -> None:
    client = known_device()
    for number in range(60):
        attempt(browser(f"203.0.113.{number}"), ("bob", "bob@example.org")[number % 2])
    fresh = browser(ELSEWHERE)
    attempt(fresh, "bob", PASSWORD)
    assert not is_in(fresh), "so many addresses guess at one account that it is closed to new devices"
    attempt(client, "bob", PASSWORD)
    assert is_in(client)


def test_stranger_at_same_address_never_locks_a_known_device(company: Company) -> None:
    client = known_device()
    for _ in range(40):
        attempt(browser(), "bob")
    attempt(client, "bob@example.org", PASSWORD)
    assert is_in(client)


def test_five_wrong_passwords_elsewhere_do_not_lock_a_new_device(company: Company) -> None:
    for _ in range(6):
        attempt(browser(STRANGER), "bob")
    client = browser(ELSEWHERE)
    attempt(client, "bob", PASSWORD)
    assert is_in(client)


def test_one_address_locks_an_account_nowhere_else(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.time()
    stranger, elsewhere = (RequestFactory(REMOTE_ADDR=address).post("/") for address in (STRANGER, ELSEWHERE))
    for minutes in range(0, 60, 6):
        monkeypatch.setattr(time, "time", lambda at=begin + 60 * minutes: at)
        for _ in range(6):
            last = signin.count(stranger, company.responder)
    assert last is None
    assert signin.count(elsewhere, company.responder) is not None


def test_known_device_is_limited_by_itself(company: Company) -> None:
    client = known_device()
    lines = [attempt(client, "bob") for _ in range(6)]
    assert "Too many attempts" not in lines[4]
    assert "Too many attempts" in lines[5]
    attempt(client, "bob", PASSWORD)
    assert not is_in(client)


@pytest.mark.parametrize("value", ["", "x", "1:2:3"])
def test_forged_device_cookie_is_none(company: Company, value: str) -> None:
    client = browser(STRANGER)
    client.cookies[COOKIE] = value
    for _ in range(5):
        attempt(client, "bob")
    assert "Too many attempts" in attempt(client, "bob")


def test_device_of_one_user_is_unknown_to_another(company: Company) -> None:
    client = known_device("olga")
    for _ in range(5):
        attempt(client, "bob")
    assert "Too many attempts" in attempt(client, "bob")


@pytest.mark.parametrize("name", ["\x00", "bob\x00", "bob\x00@example.org"])
def test_name_with_nul_is_refused_like_a_wrong_one(company: Company, name: str) -> None:
    assert attempt(browser(STRANGER), name).startswith("200 ")


def test_known_and_unknown_accounts_are_answered_alike(company: Company) -> None:
    def tries(name: str, address: str) -> list[str]:
        client = browser(address)
        names = [name] * 3 + [f"{name}@example.org"] * 3 + [name] * 3
        return [attempt(client, one).replace(name, "NAME") for one in names]

    assert tries("bob", STRANGER) == tries("nobody", ELSEWHERE)


def test_unknown_accounts_cost_equal_password_hashing(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes: list[str] = []
    for name in ("encode", "verify"):
        original: Callable[..., object] = getattr(Argon2PasswordHasher, name)

        def counted(*given: object, _original: Callable[..., object] = original, **named: object) -> object:
            hashes.append("hash")
            return _original(*given, **named)

        monkeypatch.setattr(Argon2PasswordHasher, name, counted)
    numbers = []
    invited = User.objects.create(username="ivy", email="ivy@example.org")
    invited.set_unusable_password()
    invited.save()
    for name in ("bob", "bob@example.org", "nobody", "nobody@example.org", "ivy"):
        hashes.clear()
        attempt(browser(f"203.0.113.{len(numbers)}"), name)
        numbers.append(len(hashes))
    assert len(set(numbers)) == 1, numbers


def test_stolen_password_never_locks_the_code_of_known_device(company: Company) -> None:
    client = known_device()
    secret = generate_totp_secret()
    TOTP.activate(company.responder, secret)
    thief = browser(STRANGER)
    attempt(thief, "bob", PASSWORD)
    for _ in range(8):
        answer = thief.post("/account/2fa/authenticate/", {"code": "000000"}).content.decode()
    assert "Too many attempts" in answer
    attempt(client, "bob", PASSWORD)
    client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    assert is_in(client)


def test_activation_code_does_not_sign_in(company: Company) -> None:
    client = browser()
    attempt(client, "bob", PASSWORD)
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    assert client.get("/account/2fa/totp/activate/").status_code == 200
    secret = client.session["mfa.totp.secret"]
    code = code_of(secret)
    client.post("/account/2fa/totp/activate/", {"code": code})
    other = browser(ELSEWHERE)
    attempt(other, "bob", PASSWORD)
    other.post("/account/2fa/authenticate/", {"code": code})
    assert not is_in(other)
    other.post("/account/2fa/authenticate/", {"code": code_of(secret, 1)})
    assert is_in(other)


def code_of(secret: str, later: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + later))
