"""Signed-in browsers: lists them, ends them, and limits them to the setting `session_lifetime`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import QuerySet

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.validation import durations
from tocsin.identity.models import BrowserSession
from tocsin.people.models import User

_LIMIT = """
UPDATE django_session s SET expire_date = b.created_at + %s * interval '1 second' FROM identity_browsersession b
WHERE b.session_key = s.session_key AND s.expire_date > b.created_at + %s * interval '1 second'
"""


def lifetime() -> timedelta:
    """Returns how long a session lasts from its sign-in on."""
    return durations.parse(settings_store.get(settings_store.SESSION_LIFETIME))


def apply_lifetime(changed: dict[str, Any]) -> None:
    """Ends sessions earlier after the setting was shortened."""
    if "session_lifetime" in changed:
        with connection.cursor() as cursor:
            seconds = lifetime().total_seconds()
            cursor.execute(_LIMIT, [seconds, seconds])


def active_sessions(user: User | None, now: datetime) -> QuerySet[BrowserSession]:
    """Returns the user's signed-in browsers, the last used first; those of all users without `user`."""
    active = Session.objects.filter(expire_date__gt=now).values("session_key")
    sessions = BrowserSession.objects.filter(session_key__in=active)
    if user is not None:
        sessions = sessions.filter(user=user)
    return sessions.select_related("provider").order_by("-seen_at")


def end(sessions: QuerySet[BrowserSession]) -> int:
    """Ends these sessions at once. Returns their number."""
    keys = list(sessions.values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    BrowserSession.objects.filter(session_key__in=keys).delete()
    return len(keys)


def record_end(user: User, count: int, *, actor: AuditActor, now: datetime) -> None:
    """Records that `count` sessions of the user were ended."""
    audit.record(
        actor,
        "end_sessions",
        now=now,
        object_type="user",
        object_id=user.pk,
        object_name=user.username,
        after={"count": count},
    )
