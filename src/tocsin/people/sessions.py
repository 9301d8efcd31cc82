"""Ending the sessions in which somebody is signed in. Each carries a hash of what it was begun with: of the password,
and of a stamp that is changed here. API tokens are no sessions: they stay until they are revoked."""

from __future__ import annotations

import secrets

from tocsin.people.models import User


def end_all(user: User) -> None:
    """Ends every session of theirs. Whoever does it to themselves goes on once theirs was given the new hash."""
    user.session_stamp = secrets.token_hex(8)
    user.save(update_fields=["session_stamp"])
