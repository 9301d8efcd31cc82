"""The pause of all paging, set by an administrator with a reason and an automatic end. Alerts still open;
pages wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from tocsin.access import audit, boundary
from tocsin.core.db import database
from tocsin.core.db.database import CHANNEL, Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Reason, Text, sentence
from tocsin.core.runtime.clock import Timers
from tocsin.notify.models import Pause
from tocsin.notify.rules.page_planner import (
    DEFERRED_FROM,
    HOURLY_LIMIT_REACHED,
    PAUSED,
    PAUSED_BY,
    PAUSED_CODES,
    RATE_LIMITED,
    STARTED_EARLY,
)
from tocsin.people.sql import join_user

MAX_PAUSE = timedelta(days=7)
MAX_REASON_CHARS = 500

_TOO_LONG = Text("A pause can last at most {duration}.")
_REASON_TOO_LONG = Text(
    "The reason may have at most {count} character.", "The reason may have at most {count} characters."
)


@dataclass(frozen=True, slots=True)
class CurrentPause:
    """The pause in effect now."""

    id: int
    reason: str
    started_at: datetime
    until: datetime
    user_id: int | None
    #: The name of the user who paused; empty if the account is deleted or the command line was used.
    by: str

    @property
    def wait_reason(self) -> Reason:
        """Why a page waits. Contains no time, so that an end moved meanwhile leaves no wrong one behind."""
        person = Person(self.by, self.user_id)
        return PAUSED_BY(user=person, cause=self.reason) if self.by else PAUSED(cause=self.reason)


#: A pause ends when it was entered to.
TIMERS = Timers("notify_pause", ("started_at",), "ended_at IS NULL")

_CURRENT = f"""
SELECT p.id, p.reason, p.started_at, p.until, p.user_id, coalesce(u.display_name, '') AS by
FROM notify_pause p LEFT {join_user("p.user_id")}
WHERE p.ended_at IS NULL AND p.started_at <= %(now)s AND p.until > %(now)s ORDER BY p.id DESC LIMIT 1
"""


def begin_after_restore(connection: Connection, reason: str, span: timedelta) -> None:
    """Pauses all paging for `span`. Uses only the oldest columns: the backup's tables are not migrated yet."""
    connection.execute(
        "INSERT INTO notify_pause (reason, started_at, until) "
        "SELECT %(reason)s, clock_timestamp(), clock_timestamp() + %(span)s",
        {"reason": reason, "span": span},
    )


def current_pause(connection: Connection, now: datetime) -> CurrentPause | None:
    """Returns the pause in effect at `now`, or None."""
    row = database.row(connection, _CURRENT, {"now": now})
    return None if row is None else CurrentPause(**row)


def start(reason: str, until: datetime, actor: audit.AuditActor, now: datetime) -> Pause:
    """Pauses all paging until `until` and replaces a pause in effect. Raises Rejected on `reason` or `until`."""
    text = " ".join(reason.split()).rstrip(".")
    if not text:
        raise Rejected("missing", sentence("Enter a reason for the pause. All users can see it."), "reason")
    if len(text) > MAX_REASON_CHARS:
        raise Rejected("invalid", _REASON_TOO_LONG(count=MAX_REASON_CHARS), "reason")
    if until <= now:
        raise Rejected("invalid", sentence("The pause must end in the future."), "until")
    if until - now > MAX_PAUSE:
        raise Rejected("invalid", _TOO_LONG(duration=MAX_PAUSE), "until")
    with boundary.command():
        Pause.objects.filter(ended_at=None).update(ended_at=now)
        pause = Pause.objects.create(reason=text, started_at=now, until=until, user_id=actor.user_id)
        _record(actor, "pause", pause, now)
    return pause


def end(actor: audit.AuditActor, now: datetime) -> bool:
    """Ends the pause, if there is one, and returns whether there was. Waiting pages are sent at once."""
    with boundary.command():
        pauses = list(Pause.objects.select_for_update().filter(ended_at=None, until__gt=now))
        for pause in pauses:
            pause.ended_at = now
            pause.save(update_fields=["ended_at"])
            _record(actor, "end_pause", pause, now)
    return bool(pauses)


def _record(actor: audit.AuditActor, action: str, pause: Pause, now: datetime) -> None:
    values = {"reason": pause.reason, "until": pause.until.isoformat()}
    audit.record(actor, action, now=now, object_type="pause", object_id=pause.pk, after=values)
    with transaction.get_connection().cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, 'alerts outbox runs pause')", (CHANNEL,))


# ---------- reschedule
# Makes waiting pages due again when the condition they wait for changes: a user's notification rules or a provider's
# capacity. `rules.pre_send_check` decides again just before sending. Runs inside the caller's Django transaction.


_OF_PERSON = """
WITH waiting AS (
  SELECT d.id, CASE WHEN n.data ? %(held)s THEN greatest(%(now)s, (n.data ->> %(held)s)::timestamptz) ELSE %(now)s END
    AS due_at
  FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
  WHERE d.status = 'queued' AND d.user_id = %(user)s AND d.purpose = 'page' AND d.due_at > %(now)s
    AND (d.reason->>'code' = %(capped)s OR (n.data ? %(held)s AND d.attempts = 0))
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d SET due_at = least(d.due_at, w.due_at) FROM waiting w WHERE d.id = w.id
"""
# A delivery that waited for another reason first keeps that reason while it waits for its rate limit.
_OF_PROVIDERS = """
UPDATE notify_delivery SET due_at = %(now)s WHERE id IN (
  SELECT id FROM notify_delivery WHERE status = 'queued' AND due_at > %(now)s
    AND (late_since IS NOT NULL OR reason->>'code' = ANY(%(reasons)s))
  ORDER BY id FOR NO KEY UPDATE)
"""


def reschedule_user(user_id: int, now: datetime) -> None:
    """Reschedules this user's pages that wait for the end of quiet hours or for the hourly limit."""
    _reschedule(_OF_PERSON, {"user": user_id, "now": now, "held": DEFERRED_FROM, "capped": HOURLY_LIMIT_REACHED.code})


def reschedule_providers(now: datetime) -> None:
    """Reschedules messages that wait for a provider's rate limit or for a provider to recover."""
    reasons = [RATE_LIMITED.code, HOURLY_LIMIT_REACHED.code, STARTED_EARLY.code, *PAUSED_CODES]
    _reschedule(_OF_PROVIDERS, {"now": now, "reasons": reasons})


def _reschedule(statement: str, parameters: dict[str, object]) -> None:
    with transaction.get_connection().cursor() as cursor:
        cursor.execute(statement, parameters)
        if cursor.rowcount > 0:
            cursor.execute("SELECT pg_notify(%s, 'outbox')", (CHANNEL,))
