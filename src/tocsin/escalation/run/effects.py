"""Turns run decisions into outbox rows: new pages, cancelled pages, acknowledgement reminders and notices.

Works in bulk inside the caller's transaction and sends nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from tocsin.alerts import store
from tocsin.alerts.commands import SYSTEM, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db.database import Connection
from tocsin.escalation.run.run_state import NoticeReason, RunDecision, SendNotice
from tocsin.notify.enqueue import queue
from tocsin.notify.enqueue.queue import Notice
from tocsin.notify.rules import page_planner as pages
from tocsin.notify.rules.page_planner import Unreachable

_TITLES = {
    NoticeReason.NOBODY_ANSWERED: "Nobody answered",
    NoticeReason.NOBODY_TO_PAGE: "Nobody could be paged",
    NoticeReason.PRIORITY_ROSE: "The priority rose",
    NoticeReason.MOVED: "It moved to another team",
}
_REASONS = {
    NoticeReason.NOBODY_ANSWERED: "You are told because you manage a recipient group, or administer Tocsin.",
    NoticeReason.NOBODY_TO_PAGE: "You are told because you manage a recipient group, or administer Tocsin.",
    NoticeReason.PRIORITY_ROSE: "You are told because you have this alert.",
    NoticeReason.MOVED: "You are told because you have this alert.",
}


def apply_effects(connection: Connection, decisions: Sequence[tuple[int | None, RunDecision]], now: datetime) -> None:
    """Writes the effects of all decisions, each with its run's row id (None: a run that is not stored yet)."""
    _cancel(connection, [decision for _row, decision in decisions], now)
    starts = [start for row, decision in decisions for start in _starts(row, decision)]
    unreachable = list(queue.queue(connection, starts, now).unreachable)
    asks = [(decision.run.alert_id, ask.user_id) for _row, decision in decisions for ask in decision.asks]
    unreachable += queue.queue_ack_reminder(connection, asks, now)
    store.insert_events(connection, [_not_reached(found, now) for found in unreachable])
    _tell(connection, [(d.run.alert_id, tell) for _row, d in decisions for tell in d.tells], now)


def notify_administrators(connection: Connection, alert_id: int, text: str, now: datetime) -> None:
    """E-mails the administrators that an alert's escalation is stuck, and adds it to the timeline."""
    title = f"Escalation is stuck: {_subjects(connection, [alert_id]).get(alert_id, f'alert #{alert_id}')}"
    notice = Notice(
        title, text, f"escalation:stuck:{alert_id}", "You are told because you administer Tocsin.", alert_id
    )
    queue.queue_notice(connection, notice, now, user_ids=queue.administrators(connection))
    event = NewEvent(alert_id, EventKind.TOLD, now, SYSTEM, f"Administrators are told: {text}", CommandChannel.POLICY)
    store.insert_events(connection, [event])


def _cancel(connection: Connection, decisions: Iterable[RunDecision], now: datetime) -> None:
    """Cancels with one statement per reason: a storm that ends is one statement, not a thousand."""
    grouped: dict[tuple[frozenset[int] | None, str], list[int]] = {}
    for decision in decisions:
        for cancel in decision.cancels:
            grouped.setdefault((cancel.user_ids, cancel.reason), []).append(decision.run.alert_id)
    for (users, reason), alert_ids in grouped.items():
        queue.cancel(connection, alert_ids, users, reason, now)


def _starts(row: int | None, decision: RunDecision) -> list[pages.PageRequest]:
    alert_id = decision.run.alert_id
    found = [
        pages.PageRequest(
            alert_id,
            start.at,
            start.reason,
            user_id=start.pick.user_id,
            run_id=row,
            data={"step": start.step, "pass": start.passes, "as": start.pick.label, "wake": start.wake},
            priority=start.priority,
            calling=start.calling,
        )
        for start in decision.starts
    ]
    found += [
        pages.PageRequest(
            alert_id,
            contact.at,
            contact.reason,
            group_contact_id=contact.contact_id,
            run_id=row,
            data={"step": contact.step, "pass": contact.passes, "as": contact.label, "wake": contact.wake},
            calling=contact.calling,
        )
        for contact in decision.contacts
    ]
    return found


def _not_reached(found: Unreachable, now: datetime) -> NewEvent:
    data = {} if found.start.user_id is None else {"user_id": found.start.user_id}
    return NewEvent(found.start.alert_id, EventKind.PAGE_FAILED, now, SYSTEM, found.reason, CommandChannel.POLICY, data)


def _tell(connection: Connection, tells: Sequence[tuple[int, SendNotice]], now: datetime) -> None:
    if not tells:
        return
    subjects = _subjects(connection, [alert_id for alert_id, _tell in tells])
    for alert_id, tell in tells:
        notice = Notice(
            title=f"{_TITLES[tell.why]}: {subjects.get(alert_id, f'alert #{alert_id}')}",
            text=tell.text,
            about=f"escalation:{tell.why}:{alert_id}",
            reason=_REASONS[tell.why],
            alert_id=alert_id,
            heading=_TITLES[tell.why],
        )
        queue.queue_notice(connection, notice, now, user_ids=tell.user_ids)


def _subjects(connection: Connection, alert_ids: Sequence[int]) -> dict[int, str]:
    """How notices name each alert, such as "Acme: VPN down (#42)"."""
    found = connection.execute(
        "SELECT id, client, subject FROM alerts_alert WHERE id = ANY(%s)", (list(alert_ids),)
    ).fetchall()
    return {row[0]: f"{f'{row[1]}: ' if row[1] else ''}{row[2]} (#{row[0]})" for row in found}
