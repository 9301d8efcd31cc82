"""A user's own preferences: display name, time zone, language and theme."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tocsin.access import boundary
from tocsin.access.audit import AuditActor
from tocsin.core.validation.field_errors import NOT_A_CHOICE, rejected_at
from tocsin.people.changes import users
from tocsin.people.models import User

THEMES = ("light", "dark")


def preferences_spec(user: User) -> dict[str, Any]:
    """Returns the user's preferences in the form of the API."""
    return {"name": user.name, "time_zone": user.time_zone, "language": user.language, "theme": user.theme}


def change(user: User, values: Mapping[str, Any], *, actor: AuditActor, now: datetime) -> User:
    """Changes the preferences in `values`; None resets one to its default. Raises Rejected, naming the field."""
    theme = (values["theme"] or "") if "theme" in values else user.theme
    if theme and theme not in THEMES:
        raise rejected_at("theme", NOT_A_CHOICE(value=str(theme), choices=tuple(THEMES)))
    changes = {key: value for key, value in values.items() if key != "theme"}
    if changes.get("language", "") is None:
        # A missing language would leave it unchanged.
        changes["language"] = ""
    with boundary.command():
        saved = users.change_own(user, changes, actor=actor, now=now)
        # The theme is private, and no configuration, so it is not in the audit log.
        User.objects.filter(pk=saved.pk).update(theme=theme)
    saved.theme = theme
    return saved
