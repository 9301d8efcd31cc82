"""Who is a user already, so that an import does not make them twice, nor changes who they are here."""

from __future__ import annotations

from tocsin.configure.imports.draft import Known
from tocsin.people.models import User


def users() -> dict[str, Known]:
    """By e-mail in lower case."""
    rows = User.objects.values_list("email", "username", "role", "name", "time_zone", "is_active")
    return {email.casefold(): Known(*held) for email, *held in rows if email}
