"""Loads the existing users, so that an import neither duplicates nor changes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tocsin.core.validation.text_sanitizing import fold_login
from tocsin.importers.config_builder import ExistingUser
from tocsin.people.changes import out_of_office
from tocsin.people.models import User


def users(now: datetime) -> dict[str, ExistingUser]:
    """Existing users by lower-case e-mail address."""
    absences: dict[int, list[dict[str, Any]]] = {}
    for absence in out_of_office.rows().filter(ends_at__gt=now):
        absences.setdefault(absence.user_id, []).append(out_of_office.nested_spec(absence))
    return {
        fold_login(user.email): ExistingUser(
            user.username, user.role, user.name, user.time_zone, user.is_active, tuple(absences.get(user.pk, ()))
        )
        for user in User.objects.all()
        if user.email
    }
