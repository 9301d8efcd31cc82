"""The check of a name and a password: one look-up and one hash, whether the account exists or not."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Q
from django.http import HttpRequest

from tocsin.people.models import User


def find_account(name: str) -> User | None:
    """The user who signs in as `name`, a username or an e-mail address in any case."""
    return User.objects.filter(Q(username__iexact=name) | Q(email__iexact=name)).order_by("pk").first()


def typed_name(credentials: dict[str, Any]) -> str:
    """What was typed as the name: the account library hands it over as an e-mail address, as a username, or as both."""
    return str(credentials.get("email") or credentials.get("username") or "").strip()


class PasswordBackend(AuthenticationBackend):
    """The library tries the password of an e-mail address twice, which takes twice as long as for an unknown one."""

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser | None:
        user = find_account(typed_name(credentials))
        checked: AbstractBaseUser | None = self._check_password(user, str(credentials.get("password") or ""))
        return checked
