"""Sends notices about shifts that `oncall.changes.notices` has stored, and reminders before a shift. Three periodic
tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType, Term, as_reason
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.stored_reason import reason_in
from tocsin.notify.enqueue.notices import Notice, queue_notice
from tocsin.notify.rules.delivery_reasons import REMINDER_RULE
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.people.changes.reminder_rules import ReminderSpec, load_rules
from tocsin.people.member_roles import MemberRole

log = logging.getLogger(__name__)

#: How often stored notices are mailed.
NOTICE_INTERVAL = timedelta(seconds=5)
#: How often upcoming shifts are planned. Due reminders are sent at most a minute late.
PLANNING_INTERVAL = timedelta(minutes=5)
#: How long before they are due reminders are planned. After an outage of up to this long, they are still sent, late.
PLANNING_HORIZON = timedelta(days=1)
REMINDER_INTERVAL = timedelta(seconds=20)
BATCH = 100
#: A reminder is dropped if the shift began longer ago than this.
SKIP_AFTER = timedelta(minutes=5)

_TITLE = ReasonType("shift.reminder_title", "On call in {duration}: {role} of {group}")
_TITLE_NOW = ReasonType("shift.reminder_title_now", "On call now: {role} of {group}")
_TEXT = ReasonType("shift.reminder", "You are {role} of {group} from {start}: {reason}.")
_TEXT_UNTIL = ReasonType("shift.reminder_until", "You are {role} of {group} from {start} until {end}: {reason}.")

_CLAIM_NOTICES = """
UPDATE oncall_pendingnotice SET sent_at = %(now)s
WHERE id IN (
    SELECT id FROM oncall_pendingnotice WHERE sent_at IS NULL ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING id, user_id, swap_id, title_code, title_data, text_code, text_data, reason_code, reason_data
"""

_DELETE_OLD_NOTICES = "DELETE FROM oncall_pendingnotice WHERE sent_at < %s"
_DELETE_OLD_REMINDERS = "DELETE FROM oncall_reminder WHERE shift_at < %s"

_USERS_WITH_REMINDERS = """
SELECT id, reminders FROM people_user WHERE is_active AND reminders <> '[]'::jsonb
"""

_PLAN = """
INSERT INTO oncall_reminder (user_id, group_id, role, shift_at, before, due_at)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::interval[], %s::timestamptz[])
ON CONFLICT DO NOTHING
"""

_DUE = """
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

_USER = "SELECT reminders FROM people_user WHERE id = %s AND is_active"


def loops() -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a worker."""
    return (
        PeriodicTask("duty notices", lambda: queue_pending_notices(clock.now()), NOTICE_INTERVAL),
        PeriodicTask(
            "shifts to remind of", lambda: plan_reminders(clock.now()), PLANNING_INTERVAL, frozenset({"config"})
        ),
        PeriodicTask("reminders", lambda: queue_reminders(clock.now()), REMINDER_INTERVAL),
    )


def queue_pending_notices(now: datetime) -> bool:
    """Queues mails for the stored notices. Returns True if there may be more."""
    with database.transaction() as connection:
        waiting = database.rows(connection, _CLAIM_NOTICES, {"now": now, "most": BATCH})
        for row in sorted(waiting, key=lambda row: row["id"]):
            notice = Notice(
                title=reason_in(row, "title"),
                text=reason_in(row, "text"),
                reason=reason_in(row),
                swap_id=row["swap_id"],
            )
            queue_notice(connection, notice, now, user_ids=[row["user_id"]])
        if waiting:
            database.notify(connection, "outbox")
        else:
            connection.execute(_DELETE_OLD_NOTICES, (now - timedelta(days=30),))
    return len(waiting) == BATCH


def plan_reminders(now: datetime) -> bool:
    """Stores the reminders of upcoming shifts. A reminder that is already stored is left unchanged."""
    with database.transaction() as connection:
        rules = {row["id"]: load_rules(row["reminders"]) for row in database.rows(connection, _USERS_WITH_REMINDERS)}
        max_lead_time = max(
            (rule.lead_time for user_rules in rules.values() for rule in user_rules), default=timedelta()
        )
        groups = loader.groups_of(connection, rules) if rules else frozenset()
        plans = loader.plans(connection, groups, now)
    planned: list[tuple[int, int, str, datetime, timedelta, datetime]] = []
    for group_id, plan in plans.items():
        for assignment in final_schedule.timeline(plan, now, now + max_lead_time + PLANNING_HORIZON).segments:
            begin = assignment.since
            if begin is not None and begin > now and assignment.schedule:
                planned += [
                    (assignment.user_id, group_id, str(assignment.role), begin, rule.lead_time, begin - rule.lead_time)
                    for rule in rules.get(assignment.user_id, ())
                    if begin - rule.lead_time > now - SKIP_AFTER
                ]
    with database.transaction() as connection:
        if planned:
            connection.execute(_PLAN, [list(column) for column in zip(*planned, strict=True)])
        connection.execute(_DELETE_OLD_REMINDERS, (now - timedelta(days=30),))
    return False


def queue_reminders(now: datetime) -> bool:
    """Sends the due reminders of shifts that are still assigned to the user. If several of a shift are due after an
    outage, only the last is sent. Returns True if there may be more.
    """
    with database.transaction() as connection:
        due = database.rows(connection, _DUE, {"now": now, "most": BATCH})
        plans = loader.plans(connection, {row["group_id"] for row in due}, now)
        for row in due:
            plan = plans.get(row["group_id"])
            if plan is None or row["shift_at"] < now - SKIP_AFTER:
                continue
            assignment = next(
                (
                    candidate
                    for candidate in final_schedule.on_call(plan, row["shift_at"])
                    if candidate.user_id == row["user_id"]
                    and candidate.role == row["role"]
                    and candidate.since == row["shift_at"]
                ),
                None,
            )
            if assignment is not None:
                _remind_in_savepoint(connection, plan.name, assignment, row["before"], row["later"], now)
        if due:
            database.notify(connection, "outbox")
    return len(due) == BATCH


def _remind_in_savepoint(
    connection: Connection, group: str, assignment: OnCall, before: timedelta, later: Sequence[timedelta], now: datetime
) -> None:
    try:
        with connection.transaction():
            _remind(connection, group, assignment, before, later, now)
    except Exception as error:  # one failing reminder is lost; the others are still sent
        if database.is_unavailable(error):
            raise
        log.exception("User %s cannot be reminded of a shift.", assignment.user_id)


def _remind(
    connection: Connection, group: str, assignment: OnCall, before: timedelta, later: Sequence[timedelta], now: datetime
) -> None:
    """Sends a reminder. `later` are the other due reminders of the same shift: if the user still wants one of them,
    this earlier one is skipped, since both would say the same.
    """
    user = database.row(connection, _USER, (assignment.user_id,))
    if user is None or assignment.since is None:
        return
    rules = load_rules(user["reminders"])
    if any(rule.lead_time in later for rule in rules):
        return
    for rule in rules:
        if rule.lead_time == before:
            _send(connection, _notice(group, assignment, now), assignment.user_id, rule, now)


def _notice(group: str, assignment: OnCall, now: datetime) -> Notice:
    assert assignment.since is not None
    role = Term(MemberRole(assignment.role))
    # Rounded to minutes: the periodic task is a few seconds late.
    remaining = timedelta(minutes=round((assignment.since - now) / timedelta(minutes=1)))
    is_early = remaining > timedelta()
    return Notice(
        title=_TITLE(duration=remaining, role=role, group=group) if is_early else _TITLE_NOW(role=role, group=group),
        text=_text(role, group, assignment.since, assignment.until, as_reason(assignment.reason)),
        reason=REMINDER_RULE(),
    )


def _text(role: Term, group: str, start: datetime, end: datetime | None, reason: Reason) -> Reason:
    if end is None:
        return _TEXT(role=role, group=group, start=start, reason=reason)
    return _TEXT_UNTIL(role=role, group=group, start=start, end=end, reason=reason)


def _send(connection: Connection, notice: Notice, user_id: int, rule: ReminderSpec, now: datetime) -> None:
    """Sends the notice on the rule's contact method, or by mail if the rule has none or it no longer exists."""
    for label in dict.fromkeys((rule.contact_label, "")):
        if queue_notice(connection, notice, now, user_ids=[user_id], label=label).names:
            return
