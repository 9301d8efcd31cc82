"""Plans, edits and mails handover notes.

A note is planned a day before the handover, so that the outgoing user can edit it. Sending marks it as sent and queues
the mails in one transaction: each note is mailed once, whichever node sends it, also when somebody sends it early.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from tocsin.access.roles import Permission
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import TEXT, Person, Reason, ReasonType, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.field_errors import AT_PATH, TOO_LONG
from tocsin.notify.enqueue.notices import Notice, queue_notice
from tocsin.oncall import loader
from tocsin.oncall.calculation import handovers
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.handovers import Handover
from tocsin.oncall.models import HandoverNote
from tocsin.people.models import User
from tocsin.people.permissions import Viewer
from tocsin.reports.handover import facts
from tocsin.reports.handover.facts import FactSection
from tocsin.reports.handover.facts_loader import load_facts

log = logging.getLogger(__name__)

PLANNING_INTERVAL = timedelta(minutes=5)
#: How long before the handover a note is planned, and can be edited.
PLANNING_HORIZON = timedelta(days=1)
SENDING_INTERVAL = timedelta(seconds=20)
#: After an outage, a note is dropped if the handover was longer ago.
SKIP_AFTER = timedelta(hours=12)
#: How long notes are kept.
RETENTION = timedelta(days=400)
BATCH = 20
MAX_TEXT_CHARS = 5000

_TITLE = ReasonType("handover.title", "Handover of {schedule}: {outgoing} to {incoming}")
_LINK = ReasonType("handover.link", "The note: {url}")
_REASON = ReasonType("handover.mail_reason", "Your shift of {schedule} ends or begins.")
_SENT = ReasonType("handover.already_sent", "The handover note has already been sent.")
_NOT_YOURS = ReasonType(
    "handover.not_yours", "Only the outgoing user and managers of the group can change a handover note."
)

_SCHEDULES = "SELECT id, group_id, name FROM oncall_schedule WHERE handover_notes"

_PLAN = """
INSERT INTO oncall_handovernote (schedule_id, at, since, outgoing, incoming)
VALUES (%(schedule)s, %(at)s, %(since)s, %(outgoing)s, %(incoming)s)
ON CONFLICT (schedule_id, at) DO UPDATE SET since = excluded.since, outgoing = excluded.outgoing,
  incoming = excluded.incoming
WHERE oncall_handovernote.sent_at IS NULL
  AND (oncall_handovernote.since, oncall_handovernote.outgoing, oncall_handovernote.incoming)
    IS DISTINCT FROM (excluded.since, excluded.outgoing, excluded.incoming)
"""

# A note that somebody has written stays, also when the shift no longer changes then.
_DELETE_OBSOLETE = """
DELETE FROM oncall_handovernote WHERE sent_at IS NULL AND text = '' AND at > %(now)s
  AND (schedule_id, at) NOT IN (SELECT * FROM unnest(%(schedules)s::bigint[], %(moments)s::timestamptz[]))
"""

_DELETE_OLD = "DELETE FROM oncall_handovernote WHERE at < %s"

_CLAIM = """
UPDATE oncall_handovernote n SET sent_at = %(now)s
FROM oncall_schedule s
WHERE s.id = n.schedule_id AND n.id IN (
  SELECT id FROM oncall_handovernote WHERE sent_at IS NULL AND {condition} ORDER BY at LIMIT %(most)s
  FOR UPDATE SKIP LOCKED)
RETURNING n.id, n.at, n.since, n.outgoing, n.incoming, n.text, s.name AS schedule, s.group_id, s.handover_notes
"""
_CLAIM_DUE = _CLAIM.format(condition="at <= %(now)s")
_CLAIM_ONE = _CLAIM.format(condition="id = %(id)s")

_SAVE = """
UPDATE oncall_handovernote SET since = %(since)s, outgoing = %(outgoing)s, incoming = %(incoming)s, facts = %(facts)s
WHERE id = %(id)s
"""
_DELETE = "DELETE FROM oncall_handovernote WHERE id = %s"


def handover_tasks() -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a worker."""
    return (
        PeriodicTask("handovers", lambda: plan_notes(clock.now()), PLANNING_INTERVAL, frozenset({"config"})),
        PeriodicTask("handover notes", lambda: send_due_notes(clock.now()), SENDING_INTERVAL),
    )


def plan_notes(now: datetime) -> bool:
    """Stores the notes of the handovers of the next day, and deletes those that will not happen. Always returns False:
    there is never more to do."""
    with database.transaction() as connection:
        schedules = database.rows(connection, _SCHEDULES)
        plans = loader.plans(connection, {row["group_id"] for row in schedules}, now)
    planned = [
        {"schedule": row["id"], "at": one.at, "since": one.since, "outgoing": list(one.outgoing),
         "incoming": list(one.incoming)}
        for row in schedules
        if row["group_id"] in plans
        for one in handovers.handovers(plans[row["group_id"]], row["name"], now, now + PLANNING_HORIZON)
        if one.at > now
    ]  # fmt: skip
    with database.transaction() as connection:
        for note in planned:
            connection.execute(_PLAN, note)
        pairs = {"schedules": [note["schedule"] for note in planned], "moments": [note["at"] for note in planned]}
        connection.execute(_DELETE_OBSOLETE, {"now": now, **pairs})
        connection.execute(_DELETE_OLD, (now - RETENTION,))
    return False


def send_due_notes(now: datetime) -> bool:
    """Mails the notes whose handover has come. Returns True if there may be more."""
    with database.transaction() as connection:
        due = database.rows(connection, _CLAIM_DUE, {"now": now, "most": BATCH})
        plans = loader.plans(connection, {row["group_id"] for row in due}, now)
        for row in due:
            _send_in_savepoint(connection, row, plans.get(row["group_id"]), now)
        if due:
            database.notify(connection, "outbox")
    return len(due) == BATCH


def send_now(note: HandoverNote, viewer: Viewer, now: datetime) -> None:
    """Mails a note before its handover. Raises Rejected: `forbidden`, or `not_possible` if it has been sent."""
    _check_editable(note, viewer)
    with database.transaction() as connection:
        claimed = database.row(connection, _CLAIM_ONE, {"now": now, "most": 1, "id": note.pk})
        if claimed is None:
            raise Rejected("not_possible", _SENT())
        plan = loader.plan(connection, claimed["group_id"], now)
        assert plan is not None
        _mail(connection, claimed, plan, _planned(claimed), now)
        database.notify(connection, "outbox")


def save_text(note: HandoverNote, text: str, viewer: Viewer, now: datetime) -> None:
    """Saves what stands above the facts. Raises Rejected: `forbidden`, `invalid`, or `not_possible` once it is sent."""
    _check_editable(note, viewer)
    text = text.strip()
    if len(text) > MAX_TEXT_CHARS:
        problem = TOO_LONG(maximum=MAX_TEXT_CHARS, length=len(text))
        raise Rejected("invalid", AT_PATH(path="text", problem=problem), "text")
    unsent = HandoverNote.objects.filter(pk=note.pk, sent_at=None)
    if not unsent.update(text=text, edited_by_id=viewer.user_id, edited_at=now):
        raise Rejected("not_possible", _SENT())
    note.refresh_from_db()


def may_edit(note: HandoverNote, viewer: Viewer) -> bool:
    """Returns whether the user may change and send the note, as long as it is not sent."""
    return viewer.user_id in note.outgoing or viewer.may(Permission.MANAGE_TEAMS, note.schedule.group_id)


def current_facts(note: HandoverNote, now: datetime) -> tuple[FactSection, ...]:
    """Returns the facts as they were mailed; before that, as they are now."""
    if note.sent_at is not None:
        return facts.from_json(note.facts)
    with database.transaction() as connection:
        plan = loader.plan(connection, note.schedule.group_id, now)
        if plan is None:
            return ()
        planned = Handover(note.at, note.since, tuple(note.outgoing), tuple(note.incoming))
        return load_facts(connection, plan, note.schedule.name, planned, now)


def people_of(notes: Iterable[HandoverNote]) -> dict[int, User]:
    """Returns the outgoing and incoming users of the notes that still exist, by id."""
    return User.objects.in_bulk({user_id for note in notes for user_id in (*note.outgoing, *note.incoming)})


def _check_editable(note: HandoverNote, viewer: Viewer) -> None:
    if not may_edit(note, viewer):
        raise Rejected("forbidden", _NOT_YOURS())


def _send_in_savepoint(connection: Connection, row: Mapping[str, Any], plan: GroupPlan | None, now: datetime) -> None:
    try:
        with connection.transaction():
            handover = _handover_to_send(row, plan, now)
            if handover is None or plan is None:
                connection.execute(_DELETE, (row["id"],))
            else:
                _mail(connection, row, plan, handover, now)
    except Exception as error:  # one failing note is lost; the others are still sent
        if database.is_unavailable(error):
            raise
        log.exception("Handover note %s cannot be sent.", row["id"])


def _handover_to_send(row: Mapping[str, Any], plan: GroupPlan | None, now: datetime) -> Handover | None:
    """Returns the handover as it happens; None if there is none, or it is too old. A written note is sent anyway."""
    if plan is None or not row["handover_notes"] or row["at"] < now - SKIP_AFTER:
        return None
    found = handovers.handovers(plan, row["schedule"], row["at"], row["at"] + timedelta(microseconds=1))
    if found:
        return found[0]
    return _planned(row) if row["text"] else None


def _planned(row: Mapping[str, Any]) -> Handover:
    return Handover(row["at"], row["since"], tuple(row["outgoing"]), tuple(row["incoming"]))


def _mail(connection: Connection, row: Mapping[str, Any], plan: GroupPlan, handover: Handover, now: datetime) -> None:
    sections = load_facts(connection, plan, row["schedule"], handover, now)
    connection.execute(
        _SAVE,
        {"id": row["id"], "since": handover.since, "outgoing": list(handover.outgoing),
         "incoming": list(handover.incoming), "facts": Jsonb(facts.to_json(sections))},
    )  # fmt: skip
    link = _LINK(url=f"{environment.current().public_url}/on-call/handovers/{row['id']}/")
    text = TEXT(text=row["text"]) if row["text"] else Reason("")
    notice = Notice(
        title=_TITLE(
            schedule=row["schedule"],
            outgoing=_people(plan, handover.outgoing),
            incoming=_people(plan, handover.incoming),
        ),
        text=joined(text, facts.as_text(sections), link, separator="\n\n"),
        about=f"handover:{row['id']}",
        reason=_REASON(schedule=row["schedule"]),
    )
    queue_notice(connection, notice, now, user_ids={*handover.outgoing, *handover.incoming})


def _people(plan: GroupPlan, user_ids: Iterable[int]) -> tuple[Person, ...]:
    return tuple(plan.person(user_id) for user_id in user_ids)
