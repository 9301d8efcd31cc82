"""Ends the sessions that somebody has elsewhere, and leaves the one in which they did what ends the others."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest

from tocsin.people import sessions
from tocsin.people.models import User


def end_others(request: HttpRequest, user: User, **_told: Any) -> None:
    """Called when somebody has removed a second factor of their own."""
    held = User.objects.get(pk=user.pk)
    sessions.end_all(held)
    update_session_auth_hash(request, held)
