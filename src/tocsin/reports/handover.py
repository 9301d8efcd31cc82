"""Handover notes: what an outgoing user leaves to the incoming one, mailed to both when the shift changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.access.roles import Permission
from tocsin.alerts.states import ACTIVE, AlertStatus, Priority
from tocsin.alerts.store import IS_ACTIVE, OPENED_BETWEEN, OWNER_NAME, WITH_OWNER
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import (
    MORE,
    AlertRef,
    Param,
    Person,
    Reason,
    Term,
    Text,
    as_reason,
    joined,
    reason_as_json,
    reason_from_json,
    sentence,
)
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.inputs import TOO_LONG, NightHours, rejected_at
from tocsin.inbound import maintenance_commands as maintenance
from tocsin.notify.notices import Notice, queue_notice
from tocsin.oncall import loader, pending
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import GroupPlan, Handover
from tocsin.oncall.models import HandoverNote
from tocsin.people.models import User
from tocsin.people.permissions import Viewer
from tocsin.reports import fairness
from tocsin.reports.counted_alerts import AlertFilter, Period
from tocsin.reports.fairness import Interruptions

# ---------- facts
# The facts of a handover note: open and snoozed alerts, what happened in the shift, and what is coming. Pure.
# Facts are sections of reasons. They are rendered for each reader, and stored as JSON once they are mailed.


#: How far ahead overrides and maintenance windows are listed.
FACTS_HORIZON = timedelta(days=7)
#: Lines of a section; the rest is only counted.
MAX_LINES = 50

_OPEN = Text("{count} open alert", "{count} open alerts")
_ALERT = Text("Alert {alert}: {subject} ({priority}, {state})")
_ASSIGNED = Text("assigned to {user}")
_CLOSED = Text("{count} closed", "{count} closed")
_FALSE_ALARMS = Text("{count} false alarm", "{count} false alarms")
_MERGED = Text("{count} merged into another alert", "{count} merged into other alerts")
_STILL_ACTIVE = Text("{count} still active", "{count} still active")
_PAGED = Text("{user}: {count} alert, {night} at night", "{user}: {count} alerts, {night} at night")
_WINDOW = Text("{window}, {since} to {until}")
_LINE = Text("- {fact}")


@dataclass(frozen=True, slots=True)
class FactLine:
    """One fact, and the alert that it is about, if any."""

    reason: Reason
    alert_id: int | None = None


@dataclass(frozen=True, slots=True)
class FactSection:
    """A heading, and the facts below it. The heading alone says enough where there are none."""

    title: Reason
    lines: tuple[FactLine, ...] = ()


@dataclass(frozen=True, slots=True)
class HandoverAlert:
    """An active alert. `hold_until` is when its snooze ends."""

    alert_id: int
    subject: str
    priority: str
    owner: Person | None
    hold_until: datetime | None


@dataclass(frozen=True, slots=True)
class ComingWindow:
    name: str
    since: datetime
    until: datetime


def build(
    active: Sequence[HandoverAlert],
    statuses: Mapping[AlertStatus, int],
    pages: Iterable[Interruptions],
    coming: Iterable[Reason],
    windows: Iterable[ComingWindow],
) -> tuple[FactSection, ...]:
    """Returns the sections of a note. Those about what may be missing are left out when it is.

    `statuses` are the numbers of alerts that opened in the shift, by their status now; `coming` are the overrides, as
    `coming_overrides` describes them.
    """
    snoozed = [alert for alert in active if alert.hold_until is not None]
    unsnoozed = [alert for alert in active if alert.hold_until is None]
    opened, days = sum(statuses.values()), FACTS_HORIZON.days
    open_title = _OPEN(count=len(unsnoozed)) if unsnoozed else sentence("No open alerts")
    snoozed_title = sentence("{count} snoozed alert", "{count} snoozed alerts", count=len(snoozed))
    shift_title = sentence("No alerts in the shift")
    if opened:
        shift_title = sentence("{count} alert in the shift", "{count} alerts in the shift", count=opened)
    sections = [
        FactSection(open_title, _alert_lines(unsnoozed)),
        *([FactSection(snoozed_title, _alert_lines(snoozed))] if snoozed else ()),
        FactSection(shift_title, tuple(map(FactLine, outcomes(statuses)))),
    ]
    paged = [_PAGED(user=Person(one.name), count=one.alerts, night=one.at_night) for one in pages]
    maintained = [_WINDOW(window=one.name, since=one.since, until=one.until) for one in windows]
    optional = {
        sentence("Pages in the shift"): paged,
        sentence("Overrides in the next {days} days", days=days): list(coming),
        sentence("Maintenance in the next {days} days", days=days): maintained,
    }
    sections += [FactSection(title, _limited(map(FactLine, lines))) for title, lines in optional.items() if lines]
    return tuple(sections)


def coming_overrides(plan: GroupPlan, schedule: str, at: datetime) -> Iterator[Reason]:
    """Yields the overrides of a schedule that are active at `at`, or begin within `FACTS_HORIZON`, by start."""
    overrides = next((one.overrides for one in plan.schedules if one.name == schedule), ())
    for override in sorted(overrides, key=lambda one: (one.starts_at, one.id)):
        if override.ends_at <= at or override.starts_at >= at + FACTS_HORIZON:
            continue
        params: dict[str, Param] = {
            "user": plan.person(override.user_id), "since": override.starts_at, "until": override.ends_at,
        }  # fmt: skip
        if override.instead_of is None:
            yield sentence("{user}, {since} to {until}", **params)
        else:
            replaced = plan.person(override.instead_of)
            yield sentence("{user} instead of {replaced}, {since} to {until}", replaced=replaced, **params)


def as_text(sections: Iterable[FactSection]) -> Reason:
    blocks = [
        joined(section.title, *(_LINE(fact=line.reason) for line in section.lines), separator="\n")
        for section in sections
    ]
    return joined(*blocks, separator="\n\n")


def to_json(sections: Iterable[FactSection]) -> list[dict[str, Any]]:
    return [
        {
            "title": reason_as_json(section.title),
            "lines": [{**reason_as_json(line.reason), "alert": line.alert_id} for line in section.lines],
        }
        for section in sections
    ]


def from_json(stored: Iterable[Mapping[str, Any]]) -> tuple[FactSection, ...]:
    return tuple(
        FactSection(
            reason_from_json(section["title"]),
            tuple(
                FactLine(reason_from_json({"code": line["code"], "data": line["data"]}), line["alert"])
                for line in section["lines"]
            ),
        )
        for section in stored
    )


def _alert_lines(alerts: Iterable[HandoverAlert]) -> tuple[FactLine, ...]:
    lines = []
    for one in alerts:
        alert, priority = AlertRef(one.alert_id), Term(one.priority)
        reason = _ALERT(alert=alert, subject=one.subject, priority=priority, state=_state(one))
        lines.append(FactLine(reason, one.alert_id))
    return _limited(lines)


def _state(alert: HandoverAlert) -> Reason:
    if alert.hold_until is not None:
        if alert.owner is not None:
            return sentence("assigned to {user}, snoozed until {until}", user=alert.owner, until=alert.hold_until)
        return sentence("snoozed until {until}", until=alert.hold_until)
    return sentence("unassigned") if alert.owner is None else _ASSIGNED(user=alert.owner)


def outcomes(statuses: Mapping[AlertStatus, int]) -> tuple[Reason, ...]:
    """Returns how many alerts ended how, without those that are none."""
    counts = (
        (_CLOSED, statuses.get(AlertStatus.CLOSED, 0)),
        (_FALSE_ALARMS, statuses.get(AlertStatus.CANCELLED, 0)),
        (_MERGED, statuses.get(AlertStatus.MERGED, 0)),
        (_STILL_ACTIVE, sum(statuses.get(status, 0) for status in ACTIVE)),
    )
    return tuple(text(count=count) for text, count in counts if count)


def _limited(lines: Iterable[FactLine]) -> tuple[FactLine, ...]:
    shown = tuple(lines)
    more = len(shown) - MAX_LINES
    return shown if more <= 0 else (*shown[:MAX_LINES], FactLine(MORE(count=more)))


# ---------- facts loader


# An alert belongs to a group if one of its escalation runs has the group as a recipient.
_OF_GROUP = """
    NOT a.is_test AND NOT a.dry_run AND EXISTS (
      SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.recipient_groups @> to_jsonb(%(group)s::bigint))
"""

_ACTIVE = f"""
SELECT a.id, a.subject, a.priority, a.hold_until, a.owner_id,
       {OWNER_NAME} AS owner
FROM {WITH_OWNER}
WHERE {IS_ACTIVE} AND {_OF_GROUP}
ORDER BY array_position(%(priorities)s::text[], a.priority), a.id
"""

_STATUSES = f"""
SELECT a.status, count(*)::int AS alerts FROM {OPENED_BETWEEN} AND {_OF_GROUP} GROUP BY a.status
"""


def load_facts(
    connection: Connection, plan: GroupPlan, schedule: str, handover: Handover, now: datetime
) -> tuple[FactSection, ...]:
    """Returns the facts of a handover as they are at `now`: the shift until now, and what comes after it."""
    night = NightHours.parse(settings_store.load(connection)[settings_store.NIGHT_HOURS.name])
    until = max(min(now, handover.at), handover.since)
    parameters: dict[str, object] = {
        "group": plan.id, "since": handover.since, "until": until, "priorities": [str(one) for one in Priority],
    }  # fmt: skip
    active = [
        HandoverAlert(
            row["id"],
            row["subject"],
            row["priority"],
            Person(row["owner"], row["owner_id"]) if row["owner"] else None,
            row["hold_until"],
        )
        for row in database.rows(connection, _ACTIVE, parameters)
    ]
    statuses = {AlertStatus(row["status"]): row["alerts"] for row in database.rows(connection, _STATUSES, parameters)}
    period = Period(handover.since, until, ZoneInfo("UTC"))
    pages = fairness.load_interruptions(connection, period, night, AlertFilter(group_id=plan.id))
    at = max(now, handover.at)
    return build(active, statuses, pages, coming_overrides(plan, schedule, at), _windows(connection, plan.id, at))


def _windows(connection: Connection, group_id: int, at: datetime) -> Sequence[ComingWindow]:
    """Returns the next occurrence of each maintenance window that may concern the group, by start."""
    coming = [
        ComingWindow(window.name, since, until)
        for window in maintenance.load_windows(connection)
        if not window.groups or group_id in window.groups
        for since, until in window.clock.recurrence.next_occurrences(at, 1)
        if since < at + FACTS_HORIZON
    ]
    return sorted(coming, key=lambda window: window.since)


# ---------- notes
# Plans, edits and mails handover notes.
# A note is planned a day before the handover, so that the outgoing user can edit it. Sending marks it as sent and
# queues the mails in one transaction: each note is mailed once, whichever node sends it, also when somebody sends it
# early.


log = logging.getLogger(__name__)

PLANNING_INTERVAL = timedelta(minutes=5)
#: How long before the handover a note is planned, and can be edited.
PLANNING_HORIZON = timedelta(days=1)
SENDING_INTERVAL = timedelta(seconds=20)
#: After an outage, a note is dropped if the handover was longer ago.
SKIP_AFTER = timedelta(hours=12)
BATCH = 20
MAX_TEXT_CHARS = 5000

_TITLE = Text("Handover of {schedule}: {outgoing} to {incoming}")
_SENT = Text("The handover note has already been sent.")

_SCHEDULES = "SELECT id, group_id, name FROM oncall_schedule WHERE handover_notes"


def handover_tasks() -> tuple[PeriodicTask, ...]:
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
        for one in final_schedule.handovers(plans[row["group_id"]], row["name"], now, now + PLANNING_HORIZON)
        if one.at > now
    ]  # fmt: skip
    with database.transaction() as connection:
        pending.plan_notes(connection, planned, now)
    return False


def send_due_notes(now: datetime) -> bool:
    """Mails the notes whose handover has come. Returns True if there may be more."""
    with database.transaction() as connection:
        due = pending.claim_due_notes(connection, now, BATCH)
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
        claimed = pending.claim_note(connection, note.pk, now)
        if claimed is None:
            raise Rejected("not_possible", _SENT())
        plan = loader.plan(connection, claimed["group_id"], now)
        assert plan is not None
        _mail(connection, claimed, plan, _planned(claimed), now)
        database.notify(connection, "outbox")


@dataclass(frozen=True, slots=True)
class SeenNote:
    """The note as its editor saw it, by when it was last edited (None: never)."""

    edited_at: datetime | None


def save_text(note: HandoverNote, text: str, viewer: Viewer, now: datetime, seen: SeenNote | None = None) -> None:
    """Saves what stands above the facts, and refreshes `note`.

    Raises Rejected: `forbidden`, `invalid`, `not_possible` once it is sent, or `changed_meanwhile` if it was edited
    since it was `seen`. Without `seen` any edit is overwritten.
    """
    _check_editable(note, viewer)
    text = text.strip()
    if len(text) > MAX_TEXT_CHARS:
        problem = TOO_LONG(maximum=MAX_TEXT_CHARS, length=len(text))
        raise rejected_at("text", problem)
    unsent = HandoverNote.objects.filter(pk=note.pk, sent_at=None)
    as_seen = unsent if seen is None else unsent.filter(edited_at=seen.edited_at)
    is_saved = as_seen.update(text=text, edited_by_id=viewer.user_id, edited_at=now)
    note.refresh_from_db()
    if note.sent_at is not None:
        raise Rejected("not_possible", _SENT())
    # A second press of the same button changes nothing.
    if not is_saved and note.text != text:
        user = Person(note.edited_by.display_name if note.edited_by else "?", note.edited_by_id)
        reason = sentence("{user} edited this note in the meantime ({at}).", user=user, at=note.edited_at or now)
        raise Rejected("changed_meanwhile", reason)


def may_edit(note: HandoverNote, viewer: Viewer) -> bool:
    """Returns whether the user may change and send the note, as long as it is not sent."""
    return viewer.user_id in note.outgoing or viewer.may(Permission.MANAGE_TEAMS, note.schedule.group_id)


def current_facts(note: HandoverNote, now: datetime) -> tuple[FactSection, ...]:
    """Returns the facts as they were mailed; before that, as they are now."""
    if note.sent_at is not None:
        return from_json(note.facts)
    with database.transaction() as connection:
        plan = loader.plan(connection, note.schedule.group_id, now)
        if plan is None:
            return ()
        planned = Handover(note.at, note.since, tuple(note.outgoing), tuple(note.incoming))
        return load_facts(connection, plan, note.schedule.name, planned, now)


def people_of(notes: Iterable[HandoverNote]) -> dict[int, User]:
    """Returns the outgoing and incoming users of the notes that still exist, by id."""
    return User.mentioned.in_bulk({user_id for note in notes for user_id in (*note.outgoing, *note.incoming)})


def _check_editable(note: HandoverNote, viewer: Viewer) -> None:
    if not may_edit(note, viewer):
        raise Rejected(
            "forbidden", sentence("Only the outgoing user and managers of the group can change a handover note.")
        )


def _send_in_savepoint(connection: Connection, row: Mapping[str, Any], plan: GroupPlan | None, now: datetime) -> None:
    try:
        with connection.transaction():
            handover = _handover_to_send(row, plan, now)
            if handover is None or plan is None:
                pending.delete_note(connection, row["id"])
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
    found = final_schedule.handovers(plan, row["schedule"], row["at"], row["at"] + timedelta(microseconds=1))
    if found:
        return found[0]
    return _planned(row) if row["text"] else None


def _planned(row: Mapping[str, Any]) -> Handover:
    return Handover(row["at"], row["since"], tuple(row["outgoing"]), tuple(row["incoming"]))


def _mail(connection: Connection, row: Mapping[str, Any], plan: GroupPlan, handover: Handover, now: datetime) -> None:
    sections = load_facts(connection, plan, row["schedule"], handover, now)
    pending.save_sent_note(connection, row["id"], handover, to_json(sections))
    link = sentence("The note: {url}", url=f"{environment.current().public_url}/on-call/handovers/{row['id']}/")
    outgoing, incoming = (tuple(map(plan.person, users)) for users in (handover.outgoing, handover.incoming))
    notice = Notice(
        title=_TITLE(schedule=row["schedule"], outgoing=outgoing, incoming=incoming),
        text=joined(as_reason(row["text"]), as_text(sections), link, separator="\n\n"),
        about=f"handover:{row['id']}",
        reason=sentence("Your shift of {schedule} ends or begins.", schedule=row["schedule"]),
    )
    queue_notice(connection, notice, now, user_ids={*handover.outgoing, *handover.incoming})
