"""Ends a user's sessions. Each session holds a hash of the password and of a stamp that changes here.

API tokens are not sessions: they stay valid until they are revoked.
"""

from __future__ import annotations

import secrets

from tocsin.people.models import User


def end_all(user: User) -> None:
    """Ends every session of the user. On one's own account, the current session continues with the new hash."""
    user.session_stamp = secrets.token_hex(8)
    user.save(update_fields=["session_stamp"])
