"""Who is a user already, so that an import does not make them twice, nor takes their role away."""

from __future__ import annotations

from tocsin.configure.imports.draft import Known
from tocsin.people.models import User


def users() -> dict[str, Known]:
    """By e-mail in lower case."""
    rows = User.objects.values_list("email", "username", "role")
    return {email.casefold(): Known(username, role) for email, username, role in rows if email}
