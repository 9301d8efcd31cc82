"""What waits to be sent about shifts: notices, reminders and handover notes. Other rooms send them, and read and change
these rows only here, on the connection of their transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.oncall.calculation.final_schedule import Handover

#: How long rows are kept that were sent.
_SENT_RETENTION = timedelta(days=30)
#: How long handover notes are kept.
_NOTE_RETENTION = timedelta(days=400)

_CLAIM_NOTICES = """
UPDATE oncall_pendingnotice SET sent_at = %(now)s
WHERE id IN (
    SELECT id FROM oncall_pendingnotice WHERE sent_at IS NULL ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING id, user_id, swap_id, title, text, reason
"""


def claim_notices(connection: Connection, now: datetime, limit: int) -> list[DictRow]:
    """Marks the oldest notices as sent, and returns them in order. Deletes old ones if none waits."""
    waiting = database.rows(connection, _CLAIM_NOTICES, {"now": now, "most": limit})
    if not waiting:
        connection.execute("DELETE FROM oncall_pendingnotice WHERE sent_at < %s", (now - _SENT_RETENTION,))
    return sorted(waiting, key=lambda row: row["id"])


_STORE_REMINDERS = """
INSERT INTO oncall_reminder (user_id, group_id, role, shift_at, before, due_at)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::interval[], %s::timestamptz[])
ON CONFLICT DO NOTHING
"""

_CLAIM_REMINDERS = """
UPDATE oncall_reminder SET done_at = %(now)s
WHERE id IN (
    SELECT id FROM oncall_reminder WHERE done_at IS NULL AND due_at <= %(now)s ORDER BY due_at LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING user_id, group_id, role, shift_at, before, ARRAY(
    SELECT n.before FROM oncall_reminder n WHERE n.user_id = oncall_reminder.user_id
      AND n.group_id = oncall_reminder.group_id AND n.role = oncall_reminder.role
      AND n.shift_at = oncall_reminder.shift_at AND n.due_at <= %(now)s AND n.due_at > oncall_reminder.due_at
) AS later
"""


def store_reminders(
    connection: Connection, planned: Sequence[tuple[int, int, str, datetime, timedelta, datetime]], now: datetime
) -> None:
    """Stores reminders: user, group, role, begin of the shift, how long before it, and when that is. One that is
    already stored is left unchanged. Deletes old ones."""
    if planned:
        connection.execute(_STORE_REMINDERS, [list(column) for column in zip(*planned, strict=True)])
    connection.execute("DELETE FROM oncall_reminder WHERE shift_at < %s", (now - _SENT_RETENTION,))


def claim_reminders(connection: Connection, now: datetime, limit: int) -> list[DictRow]:
    """Marks due reminders as done, and returns them. `later` are the other due ones of the same shift."""
    return database.rows(connection, _CLAIM_REMINDERS, {"now": now, "most": limit})


_PLAN_NOTE = """
INSERT INTO oncall_handovernote (schedule_id, at, since, outgoing, incoming)
VALUES (%(schedule)s, %(at)s, %(since)s, %(outgoing)s, %(incoming)s)
ON CONFLICT (schedule_id, at) DO UPDATE SET since = excluded.since, outgoing = excluded.outgoing,
  incoming = excluded.incoming
WHERE oncall_handovernote.sent_at IS NULL
  AND (oncall_handovernote.since, oncall_handovernote.outgoing, oncall_handovernote.incoming)
    IS DISTINCT FROM (excluded.since, excluded.outgoing, excluded.incoming)
"""

# A note that somebody has written stays, also when the shift no longer changes then.
_DELETE_OBSOLETE_NOTES = """
DELETE FROM oncall_handovernote WHERE sent_at IS NULL AND text = '' AND at > %(now)s
  AND (schedule_id, at) NOT IN (SELECT * FROM unnest(%(schedules)s::bigint[], %(moments)s::timestamptz[]))
"""

_CLAIM_NOTE = """
UPDATE oncall_handovernote n SET sent_at = %(now)s
FROM oncall_schedule s
WHERE s.id = n.schedule_id AND n.id IN (
  SELECT id FROM oncall_handovernote WHERE sent_at IS NULL AND {condition} ORDER BY at LIMIT %(most)s
  FOR UPDATE SKIP LOCKED)
RETURNING n.id, n.at, n.since, n.outgoing, n.incoming, n.text, s.name AS schedule, s.group_id, s.handover_notes
"""

_CLAIM_DUE_NOTES = database.literal(_CLAIM_NOTE.format(condition="at <= %(now)s"))
_CLAIM_ONE_NOTE = database.literal(_CLAIM_NOTE.format(condition="id = %(id)s"))


def plan_notes(connection: Connection, planned: Sequence[dict[str, object]], now: datetime) -> None:
    """Stores the notes of planned handovers, deletes those that will not happen, and old ones. A note that was sent is
    left unchanged."""
    for note in planned:
        connection.execute(_PLAN_NOTE, note)
    pairs = {"schedules": [note["schedule"] for note in planned], "moments": [note["at"] for note in planned]}
    connection.execute(_DELETE_OBSOLETE_NOTES, {"now": now, **pairs})
    connection.execute("DELETE FROM oncall_handovernote WHERE at < %s", (now - _NOTE_RETENTION,))


def claim_due_notes(connection: Connection, now: datetime, limit: int) -> list[DictRow]:
    """Marks due notes as sent, and returns them with their schedules."""
    return database.rows(connection, _CLAIM_DUE_NOTES, {"now": now, "most": limit})


def claim_note(connection: Connection, note_id: int, now: datetime) -> DictRow | None:
    """Marks one note as sent, and returns it with its schedule; None if it has been sent already."""
    return database.row(connection, _CLAIM_ONE_NOTE, {"now": now, "most": 1, "id": note_id})


def save_sent_note(
    connection: Connection, note_id: int, handover: Handover, facts: Sequence[Mapping[str, object]]
) -> None:
    """Saves the handover as it happened, and the facts as they are mailed."""
    connection.execute(
        "UPDATE oncall_handovernote SET since = %s, outgoing = %s, incoming = %s, facts = %s WHERE id = %s",
        (handover.since, list(handover.outgoing), list(handover.incoming), Jsonb(facts), note_id),
    )


def delete_note(connection: Connection, note_id: int) -> None:
    """Deletes a note whose handover does not happen."""
    connection.execute("DELETE FROM oncall_handovernote WHERE id = %s", (note_id,))
