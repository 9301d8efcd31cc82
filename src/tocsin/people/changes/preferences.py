"""What somebody says of themselves: the name to show, time zone, language, and how the screens look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.people.changes import users
from tocsin.people.models import User

THEMES = ("light", "dark")


def spec_of(user: User) -> dict[str, Any]:
    """The user's own, as the API writes them."""
    return {"name": user.name, "time_zone": user.time_zone, "language": user.language, "theme": user.theme}


def change(user: User, wanted: Mapping[str, Any], *, actor: AuditActor, now: datetime) -> User:
    """Changes those that `wanted` has; what is None there gets its default. Raises Rejected that names the place."""
    theme = (wanted["theme"] or "") if "theme" in wanted else user.theme
    if theme and theme not in THEMES:
        raise Rejected("invalid", f'theme: "{theme}" is not one of {", ".join(THEMES)}.', "theme")
    changes = {key: value for key, value in wanted.items() if key != "theme"}
    if changes.get("language", "") is None:
        # Left out it would stay.
        changes["language"] = ""
    with transaction.atomic():
        saved = users.change_own(user, changes, actor=actor, now=now)
        # How the screens look is nobody else's business, and no configuration.
        User.objects.filter(pk=saved.pk).update(theme=theme)
    saved.theme = theme
    return saved
