"""Password reset tokens that end with the user's sessions, and therefore with a restore from backup."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.tokens import PasswordResetTokenGenerator

from tocsin.people.models import User
from tocsin.people.sign_in_rules import may_use_password


class ResetTokenGenerator(PasswordResetTokenGenerator):
    """Django's token, which a new password or e-mail address invalidates. A new session stamp invalidates it too."""

    def check_token(self, user: AbstractBaseUser | None, token: str | None) -> bool:
        """Return whether the token is valid, and its user may have a password."""
        return isinstance(user, User) and may_use_password(user) and super().check_token(user, token)

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{user.session_stamp}"
