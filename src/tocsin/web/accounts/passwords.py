"""Checks a name and password with one query and one hash, whether or not the account exists."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Q
from django.http import HttpRequest

from tocsin.people.models import User


def find_account(name: str) -> User | None:
    """Return the user with that username or e-mail address, ignoring the case of A to Z, or None."""
    if "\x00" in name:
        # PostgreSQL rejects a query with NUL.
        return None
    return User.objects.filter(Q(username__login=name) | Q(email__login=name)).order_by("pk").first()


def typed_name(credentials: dict[str, Any]) -> str:
    """Return the typed account name. allauth passes it as an e-mail address, as a username, or as both."""
    return str(credentials.get("email") or credentials.get("username") or "").strip()


class PasswordBackend(AuthenticationBackend):
    """allauth checks the password twice for an e-mail address, so the response time would reveal whether the account
    exists. This backend always checks once."""

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser | None:
        user = find_account(typed_name(credentials))
        checked: AbstractBaseUser | None = self._check_password(user, str(credentials.get("password") or ""))
        return checked
