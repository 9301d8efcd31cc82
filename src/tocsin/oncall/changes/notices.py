"""Writes notices for users about their shifts, in the Django transaction of the change itself.

`notify.enqueue.shift_reminders` sends them by e-mail.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.oncall.models import PendingNotice
from tocsin.people.models import User


def write(users: Iterable[User], *, title: str, text: str, reason: str, now: datetime) -> None:
    """Writes one notice for each of the users."""
    PendingNotice.objects.bulk_create(
        PendingNotice(user=user, title=title[:200], text=text, reason=reason, created_at=now) for user in users
    )


def span(starts_at: datetime, ends_at: datetime, zone: str) -> str:
    """Formats a period in a time zone: Thu 24 Dec 17:00 to Fri 25 Dec 08:00 (Europe/Zurich)."""
    zone_info = ZoneInfo(zone)
    return (
        f"{starts_at.astimezone(zone_info):%a %d %b %H:%M} to {ends_at.astimezone(zone_info):%a %d %b %H:%M} ({zone})"
    )
