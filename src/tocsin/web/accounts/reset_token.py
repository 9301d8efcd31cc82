"""Password reset tokens that end with the user's sessions, and therefore with a restore from backup."""

from __future__ import annotations

from django.contrib.auth.tokens import PasswordResetTokenGenerator

from tocsin.people.models import User


class ResetTokenGenerator(PasswordResetTokenGenerator):
    """Django's token, which a new password or e-mail address invalidates. A new session stamp invalidates it too."""

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{user.session_stamp}"
