"""Writes notices for users about their shifts, in the Django transaction of the change itself.

`notify.enqueue.shift_reminders` sends them by e-mail.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tocsin.access.audit import AuditActor
from tocsin.core.reasons import Person, Reason, ReasonType
from tocsin.core.stored_reason import named_columns
from tocsin.oncall.models import PendingNotice, SwapRequest
from tocsin.people.models import User

_CHANGED_BY = ReasonType("notice.changed_by", "{actor} made this change.")


def write(
    users: Iterable[User],
    *,
    title: Reason,
    text: Reason,
    reason: Reason,
    now: datetime,
    swap: SwapRequest | None = None,
) -> None:
    """Writes one notice for each of the users. With `swap`, it has links to accept and to decline it."""
    columns = {**named_columns("title", title), **named_columns("text", text), **named_columns("reason", reason)}
    PendingNotice.objects.bulk_create(PendingNotice(user=user, swap=swap, created_at=now, **columns) for user in users)


def changed_by(actor: AuditActor) -> Reason:
    """Returns the last line of a notice: who made the change."""
    return _CHANGED_BY(actor=Person(actor.name, actor.user_id))
