"""Calendar feeds: secret URLs at which calendar programs read the shifts of a user, a group, a schedule or
every group.

The token is part of the URL, is shown once, and can be rotated. The web room serves `/calendar/TOKEN.ics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core import ids
from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.oncall.models import CalendarFeed, FeedKind, Schedule
from tocsin.people.models import Group, User


@dataclass(frozen=True, slots=True)
class NewFeed:
    """A feed with its URL, which is never shown again."""

    feed: CalendarFeed
    url: str


def create_feed(
    owner: User,
    kind: FeedKind,
    *,
    group: Group | None = None,
    schedule: Schedule | None = None,
    actor: AuditActor,
    now: datetime,
) -> NewFeed:
    """Creates a feed for `owner`. Raises `Rejected("name_taken")` if the owner has the same feed: rotate that one."""
    with boundary.command():
        if CalendarFeed.objects.filter(owner=owner, kind=kind, group=group, schedule=schedule).exists():
            raise Rejected("name_taken", sentence("This calendar feed already exists. Rotate its URL instead."), "kind")
        secret = ids.token()
        feed = CalendarFeed.objects.create(
            owner=owner,
            kind=str(kind),
            group=group,
            schedule=schedule,
            token_hash=ids.token_hash(secret),
            created_at=now,
        )
        _record(feed, "create", actor, now)
    return NewFeed(feed, _url(secret))


def rotate(feed: CalendarFeed, *, actor: AuditActor, now: datetime) -> NewFeed:
    """Gives the feed a new URL. The old one stops working at once."""
    secret = ids.token()
    with boundary.command():
        feed.token_hash, feed.created_at, feed.used_at = ids.token_hash(secret), now, None
        feed.save(update_fields=["token_hash", "created_at", "used_at"])
        _record(feed, "rotate", actor, now)
    return NewFeed(feed, _url(secret))


def delete(feed: CalendarFeed, *, actor: AuditActor, now: datetime) -> None:
    with boundary.command():
        _record(feed, "delete", actor, now)
        feed.delete()


def verify(secret: str, now: datetime) -> CalendarFeed | None:
    """Returns the feed with this token, if its owner is active, and records the use."""
    if not secret.isascii() or len(secret) != 32:
        return None
    rows = CalendarFeed.objects.select_related("owner", "group", "schedule__group")
    feed = rows.filter(token_hash=ids.token_hash(secret), owner__is_active=True).first()
    if feed is not None:
        CalendarFeed.objects.filter(pk=feed.pk).update(used_at=now)
    return feed


def name_of(feed: CalendarFeed) -> str:
    subject = feed.group or feed.schedule
    name = feed.owner.display_name if feed.kind == FeedKind.PERSON else subject.name if subject else ""
    return f"On call: {name}" if name else "On call"


def feed_spec(feed: CalendarFeed) -> dict[str, Any]:
    return {
        "user": feed.owner.username,
        "kind": feed.kind,
        "group": feed.group.name if feed.group else None,
        "schedule": feed.schedule.name if feed.schedule else None,
        "created_at": feed.created_at,
        "used_at": feed.used_at,
    }


def _url(secret: str) -> str:
    return f"{environment.current().public_url}/calendar/{secret}.ics"


def _record(feed: CalendarFeed, action: str, actor: AuditActor, now: datetime) -> None:
    audit.record(actor, action, now=now, object_type="calendar_feed", object_id=feed.pk, object_name=name_of(feed))
