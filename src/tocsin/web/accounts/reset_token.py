"""The token in the link for a new password: it ends with the sessions of its user, and so with a restore."""

from __future__ import annotations

from django.contrib.auth.tokens import PasswordResetTokenGenerator

from tocsin.people.models import User


class ResetTokenGenerator(PasswordResetTokenGenerator):
    """Django's token, which a new password or a new address ends; a new session stamp ends it too."""

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{user.session_stamp}"
