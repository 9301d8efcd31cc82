"""Ends a user's other sessions after a security change, and keeps the current one."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest

from tocsin.people import sessions
from tocsin.people.models import User


def end_other_sessions(request: HttpRequest, user: User, **_kwargs: Any) -> None:
    """Signal handler for the removal of one of the user's second factors."""
    account = User.objects.get(pk=user.pk)
    sessions.end_all(account)
    update_session_auth_hash(request, account)
