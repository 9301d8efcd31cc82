"""Who is a user already, so that an import does not make them twice, nor changes who they are here."""

from __future__ import annotations

from tocsin.configure.imports.draft import Known
from tocsin.people.models import User


def users() -> dict[str, Known]:
    """By e-mail in lower case."""
    return {
        user.email.casefold(): Known(user.username, user.role, user.name, user.time_zone, user.is_active)
        for user in User.objects.only("email", "username", "role", "name", "time_zone", "is_active")
        if user.email
    }
