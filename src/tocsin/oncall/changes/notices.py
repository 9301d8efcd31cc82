"""What people are told about their duty: written in the caller's Django transaction, with the change itself.

`notify.enqueue.shift_reminders` hands it on to be mailed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.oncall.models import PendingNotice
from tocsin.people.models import User


def write(users: Iterable[User], *, title: str, text: str, reason: str, now: datetime) -> None:
    """Has each of the users told once."""
    PendingNotice.objects.bulk_create(
        PendingNotice(user=user, title=title[:200], text=text, reason=reason, created_at=now) for user in users
    )


def span(starts_at: datetime, ends_at: datetime, zone: str) -> str:
    """A stretch in words, in a time zone: Thu 24 Dec 17:00 to Fri 25 Dec 08:00 (Europe/Zurich)."""
    place = ZoneInfo(zone)
    return f"{starts_at.astimezone(place):%a %d %b %H:%M} to {ends_at.astimezone(place):%a %d %b %H:%M} ({zone})"
