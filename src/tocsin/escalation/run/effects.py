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
from tocsin.core.reasons import Reason, ReasonType
from tocsin.escalation import reasons
from tocsin.escalation.run.run_state import CancelPages, NoticeReason, PageUser, RunDecision, SendNotice
from tocsin.notify.enqueue.ack_reminders import queue_ack_reminder
from tocsin.notify.enqueue.cancel import cancel_pages
from tocsin.notify.enqueue.notices import Notice, queue_notice
from tocsin.notify.enqueue.pages import queue_pages
from tocsin.notify.enqueue.recipients import load_administrators
from tocsin.notify.rules import page_planner as pages
from tocsin.notify.rules.page_planner import Unreachable

#: The title of a notice with the alert, and the heading under which several are bundled.
_TITLES: dict[NoticeReason, tuple[ReasonType, ReasonType]] = {
    NoticeReason.NOBODY_ANSWERED: (reasons.TITLE_NOBODY_ANSWERED, reasons.HEADING_NOBODY_ANSWERED),
    NoticeReason.NOBODY_TO_PAGE: (reasons.TITLE_NOBODY_PAGED, reasons.HEADING_NOBODY_PAGED),
    NoticeReason.PRIORITY_ROSE: (reasons.TITLE_PRIORITY_ROSE, reasons.HEADING_PRIORITY_ROSE),
    NoticeReason.MOVED: (reasons.TITLE_MOVED, reasons.HEADING_MOVED),
}
_RECEIVED_AS: dict[NoticeReason, ReasonType] = {
    NoticeReason.NOBODY_ANSWERED: reasons.RECEIVED_AS_MANAGER,
    NoticeReason.NOBODY_TO_PAGE: reasons.RECEIVED_AS_MANAGER,
    NoticeReason.PRIORITY_ROSE: reasons.RECEIVED_AS_RESPONDER,
    NoticeReason.MOVED: reasons.RECEIVED_AS_RESPONDER,
}


def apply_effects(connection: Connection, decisions: Sequence[tuple[int | None, RunDecision]], now: datetime) -> None:
    """Writes the effects of all decisions, each with its run's row id (None: a run that is not stored yet)."""
    _cancel(connection, [decision for _row, decision in decisions], now)
    requests = [request for row, decision in decisions for request in _page_requests(row, decision)]
    unreachable = list(queue_pages(connection, requests, now).unreachable)
    ack_reminders = [
        (decision.run.alert_id, reminder.user_id) for _row, decision in decisions for reminder in decision.ack_reminders
    ]
    unreachable += queue_ack_reminder(connection, ack_reminders, now)
    store.insert_events(connection, [_page_failed_event(failure, now) for failure in unreachable])
    _queue_notices(connection, [(d.run.alert_id, notice) for _row, d in decisions for notice in d.notices], now)


def notify_administrators(connection: Connection, alert_id: int, why: Reason, now: datetime) -> None:
    """E-mails the administrators that an alert's escalation is stuck, and adds it to the timeline."""
    alert = _subjects(connection, [alert_id]).get(alert_id, f"alert #{alert_id}")
    notice = Notice(
        reasons.TITLE_STUCK(alert=alert),
        why,
        f"escalation:stuck:{alert_id}",
        reasons.RECEIVED_AS_ADMINISTRATOR(),
        alert_id,
        is_urgent=True,
    )
    queue_notice(connection, notice, now, user_ids=load_administrators(connection))
    reason = reasons.ADMINISTRATORS_NOTIFIED(why=why)
    event = NewEvent(alert_id, EventKind.NOTICE_SENT, now, SYSTEM, reason, CommandChannel.POLICY)
    store.insert_events(connection, [event])


def _cancel(connection: Connection, decisions: Iterable[RunDecision], now: datetime) -> None:
    """Cancels with one statement per reason: a storm that ends is one statement, not a thousand."""
    grouped: dict[CancelPages, list[int]] = {}
    for decision in decisions:
        for cancel in decision.cancellations:
            grouped.setdefault(cancel, []).append(decision.run.alert_id)
    for cancel, alert_ids in grouped.items():
        cancel_pages(connection, alert_ids, cancel.user_ids, cancel.reason, now, queued_since=cancel.queued_since)


def _page_requests(row: int | None, decision: RunDecision) -> list[pages.PageRequest]:
    alert_id = decision.run.alert_id
    requests = [
        pages.PageRequest(
            alert_id,
            page.at,
            page.reason,
            user_id=page.target.user_id,
            run_id=row,
            data=_page_data(page),
            priority=page.priority,
            delivery_override=page.delivery_override,
        )
        for page in decision.pages
    ]
    requests += [
        pages.PageRequest(
            alert_id,
            contact.at,
            contact.reason,
            group_contact_id=contact.contact_id,
            run_id=row,
            data={"step": contact.step, "pass": contact.loop_number, "as": contact.label, "wake": contact.is_manual},
            delivery_override=contact.delivery_override,
        )
        for contact in decision.contact_pages
    ]
    return requests


def _page_data(page: PageUser) -> dict[str, object]:
    data: dict[str, object] = {"as": str(page.target.capacity), "wake": page.is_manual}
    if page.is_assignment:
        return {**data, "assignment": True}
    return {"step": page.step, "pass": page.loop_number, **data}


def _page_failed_event(unreachable: Unreachable, now: datetime) -> NewEvent:
    data = {} if unreachable.request.user_id is None else {"user_id": unreachable.request.user_id}
    return NewEvent(
        unreachable.request.alert_id,
        EventKind.PAGE_FAILED,
        now,
        SYSTEM,
        unreachable.reason,
        CommandChannel.POLICY,
        data,
    )


def _queue_notices(connection: Connection, pending: Sequence[tuple[int, SendNotice]], now: datetime) -> None:
    if not pending:
        return
    subjects = _subjects(connection, [alert_id for alert_id, _notice in pending])
    for alert_id, send_notice in pending:
        title, heading = _TITLES[send_notice.notice_reason]
        notice = Notice(
            title=title(alert=subjects.get(alert_id, f"alert #{alert_id}")),
            text=send_notice.why,
            about=f"escalation:{send_notice.notice_reason}:{alert_id}",
            reason=_RECEIVED_AS[send_notice.notice_reason](),
            alert_id=alert_id,
            heading=heading(),
        )
        queue_notice(connection, notice, now, user_ids=send_notice.user_ids)


def _subjects(connection: Connection, alert_ids: Sequence[int]) -> dict[int, str]:
    """How notices name each alert, such as "Acme: VPN down (#42)"."""
    rows = connection.execute(
        "SELECT id, client, subject FROM alerts_alert WHERE id = ANY(%s)", (list(alert_ids),)
    ).fetchall()
    return {row[0]: f"{f'{row[1]}: ' if row[1] else ''}{row[2]} (#{row[0]})" for row in rows}
