"""Queues the pages of an escalation. Runs inside the caller's transaction and sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tocsin.core.db.database import Connection
from tocsin.notify.enqueue.recipients import load_group_contacts, load_recipients
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem
from tocsin.notify.rules import page_planner as planning
from tocsin.notify.rules.page_planner import Page, PagePlan, PageRequest, Unreachable
from tocsin.notify.states import Purpose


@dataclass(frozen=True, slots=True)
class QueuedPages:
    """The result of queueing: the planned pages, and the recipients who cannot be reached."""

    pages: tuple[Page, ...]
    #: For the alert's timeline: no recipient is skipped silently.
    unreachable: tuple[Unreachable, ...]


def queue_pages(connection: Connection, requests: Sequence[PageRequest], now: datetime) -> QueuedPages:
    """Plans and writes the pages of `requests`: one notification and one delivery for each contact method and
    repetition.

    A page with an unusable address is written as failed, with the reason. The caller writes each `unreachable` to its
    alert's timeline.
    """
    if not requests:
        return QueuedPages((), ())
    planned = plan_pages(connection, requests)
    alert_ids = sorted({request.alert_id for request in requests})
    first_indexes = _first_pages(connection, alert_ids, planned.pages)
    rows = [
        NotificationRow(
            purpose=Purpose.PAGE,
            channel=page.channel,
            address=page.address,
            label=page.label,
            reason=page.reason,
            due_at=page.due_at,
            alert_id=page.request.alert_id,
            run_id=page.request.run_id,
            user_id=page.request.user_id,
            group_contact_id=page.request.group_contact_id,
            data=page.data,
            is_first=index in first_indexes,
            problem=page.problem,
        )
        for index, page in enumerate(planned.pages)
    ]
    write(connection, rows, now)
    return QueuedPages(planned.pages, planned.unreachable)


def plan_pages(connection: Connection, requests: Sequence[PageRequest]) -> PagePlan:
    """Returns what `queue_pages` would write for `requests`, with the current contact methods. Writes nothing."""
    recipients = load_recipients(connection, {request.user_id for request in requests if request.user_id is not None})
    contacts = load_group_contacts(connection, {s.group_contact_id for s in requests if s.group_contact_id is not None})
    return planning.plan(requests, recipients, contacts, address_problem)


def _first_pages(connection: Connection, alert_ids: list[int], pages: Sequence[Page]) -> frozenset[int]:
    """Returns the indexes in `pages` of each alert's first pages, which are sent before all others."""
    rows = connection.execute(
        "SELECT DISTINCT alert_id FROM notify_notification WHERE alert_id = ANY(%s) AND purpose = 'page'", (alert_ids,)
    ).fetchall()
    paged_alert_ids = {row[0] for row in rows}
    earliest: dict[int, datetime] = {}
    for page in pages:
        alert_id = page.request.alert_id
        if alert_id not in paged_alert_ids and not page.problem:
            earliest[alert_id] = min(page.due_at, earliest.get(alert_id, page.due_at))
    return frozenset(index for index, page in enumerate(pages) if page.due_at == earliest.get(page.request.alert_id))
