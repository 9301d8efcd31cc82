"""Queues pages, all-clears, acknowledgement reminders and notices in the outbox, and cancels queued ones with a reason.
All functions take lists, run inside the caller's transaction and send nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Person, Reason, as_reason, reason_as_json
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem, quietest_channel
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.rules import page_planner as planning
from tocsin.notify.rules.notification_rules import NotificationMethod, Recipient, apply_rules
from tocsin.notify.rules.page_planner import AllClear, Page, PagedRecipient, PagePlan, PageRequest, Unreachable
from tocsin.notify.states import DeliveryStatus, Purpose

#: The purposes that are cancelled when an alert needs nobody any more.
ACTIVE_ALERT_PURPOSES = (Purpose.PAGE, Purpose.ACK_REMINDER)


@dataclass(frozen=True, slots=True)
class QueuedPages:
    """The result of queueing: the planned pages, and the recipients who cannot be reached."""

    pages: tuple[Page, ...]
    #: For the alert's timeline: no recipient is skipped silently.
    unreachable: tuple[Unreachable, ...]


def queue(connection: Connection, requests: Sequence[PageRequest], now: datetime) -> QueuedPages:
    """Plans and writes the pages of `requests`: one notification and one delivery for each contact method and
    repetition.

    A page with an unusable address is written as failed, with the reason. The caller writes each `unreachable` to its
    alert's timeline.
    """
    if not requests:
        return QueuedPages((), ())
    planned = plan_of(connection, requests)
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


def plan_of(connection: Connection, requests: Sequence[PageRequest]) -> PagePlan:
    """Returns what `queue` would write for `requests`, with the current contact methods. Writes nothing."""
    recipients = load_recipients(connection, {request.user_id for request in requests if request.user_id is not None})
    contacts = _contacts(connection, {s.group_contact_id for s in requests if s.group_contact_id is not None})
    return planning.plan(requests, recipients, contacts, address_problem)


_RECIPIENTS = """
SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, u.is_active, u.time_zone, u.notification_rules,
       m.label, m.channel, m.address, m.wait, m.repeat_times, m.repeat_every,
       m.is_enabled AND NOT m.awaits_code AS is_enabled
FROM people_user u LEFT JOIN people_contactmethod m ON m.user_id = u.id
WHERE u.id = ANY(%s) ORDER BY u.id, m.position, m.id
"""


def load_recipients(connection: Connection, user_ids: Collection[int]) -> dict[int, Recipient]:
    """Returns the users with their contact methods and notification rules, by id."""
    if not user_ids:
        return {}
    rows_by_user: dict[int, tuple[dict[str, Any], list[NotificationMethod]]] = {}
    for row in database.rows(connection, _RECIPIENTS, (list(user_ids),)):
        methods = rows_by_user.setdefault(row["id"], (row, []))[1]
        if row["label"] is not None:
            methods.append(
                NotificationMethod(
                    row["label"], row["channel"], row["address"], row["wait"], row["repeat_times"], row["repeat_every"],
                    row["is_enabled"],
                )
            )  # fmt: skip
    return {user_id: _recipient(row, methods) for user_id, (row, methods) in rows_by_user.items()}


def _recipient(row: Mapping[str, Any], methods: Sequence[NotificationMethod]) -> Recipient:
    recipient = Recipient(row["id"], row["name"], tuple(methods), row["is_active"], row["time_zone"])
    return apply_rules(recipient, row["notification_rules"]) if row["notification_rules"] else recipient


def _contacts(connection: Connection, contact_ids: Collection[int]) -> dict[int, NotificationMethod]:
    if not contact_ids:
        return {}
    rows = database.rows(
        connection,
        "SELECT c.id, c.label, c.channel, c.address FROM people_groupcontact c WHERE c.id = ANY(%s)",
        (list(contact_ids),),
    )
    return {row["id"]: NotificationMethod(row["label"], row["channel"], row["address"]) for row in rows}


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


# A sent page without a receipt may still be reported as failed, after which the next provider would take over.
_CANCELLABLE = """
SELECT id FROM notify_delivery
WHERE alert_id = ANY(%(alerts)s) AND purpose = ANY(%(purposes)s)
  AND (status IN ('queued', 'sending') OR (status = 'sent' AND receipt = '' AND cancel_requested_code = ''))
  AND (%(users)s::bigint[] IS NULL OR user_id = ANY(%(users)s))
ORDER BY id FOR NO KEY UPDATE
"""
_CANCEL = f"""
WITH wanted AS ({_CANCELLABLE})
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'queued' THEN 'cancelled' ELSE d.status END,
    reason_code = CASE WHEN d.status <> 'queued' THEN d.reason_code
                       WHEN d.outcome_unknown_at IS NOT NULL THEN %(not_resent_code)s ELSE %(code)s END,
    reason_data = CASE WHEN d.status <> 'queued' THEN d.reason_data
                       WHEN d.outcome_unknown_at IS NOT NULL THEN %(not_resent_data)s ELSE %(data)s END,
    cancel_requested_code = CASE WHEN d.status = 'queued' THEN d.cancel_requested_code ELSE %(code)s END,
    cancel_requested_data = CASE WHEN d.status = 'queued' THEN d.cancel_requested_data ELSE %(data)s END,
    ended_at = CASE WHEN d.status = 'queued' THEN %(now)s ELSE d.ended_at END
FROM wanted w WHERE d.id = w.id AND d.status IN ('queued', 'sending', 'sent')
RETURNING d.alert_id, d.user_id, d.status
"""


@dataclass(frozen=True, slots=True)
class CancelledPages:
    """The number of cancelled pages by alert and user (None: group contacts)."""

    counts: Mapping[tuple[int, int | None], int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def cancel(
    connection: Connection,
    alert_ids: Iterable[int],
    user_ids: Iterable[int] | None,
    reason: Reason | str,
    now: datetime,
    *,
    purposes: Collection[Purpose] = ACTIVE_ALERT_PURPOSES,
) -> CancelledPages:
    """Cancels queued deliveries of these alerts, for all users or only for `user_ids`. The rows stay, with the reason.

    A delivery that is being sent or was sent cannot be recalled. If it fails, it is not retried, for the same reason.
    """
    code, data = reason_columns(as_reason(reason))
    not_resent_code, not_resent_data = reason_columns(delivery_reasons.NOT_RESENT(cause=as_reason(reason)))
    parameters = {
        "alerts": sorted(set(alert_ids)),
        "users": None if user_ids is None else sorted(set(user_ids)),
        "purposes": [str(purpose) for purpose in purposes],
        "code": code,
        "data": Jsonb(data),
        "not_resent_code": not_resent_code,
        "not_resent_data": Jsonb(not_resent_data),
        "now": now,
    }
    # Locks in a separate statement first: if a failed attempt has just inserted the next provider's row, the second
    # statement sees it.
    connection.execute(_CANCELLABLE, parameters)
    rows = connection.execute(database.literal(_CANCEL), parameters).fetchall()
    counts: dict[tuple[int, int | None], int] = {}
    for alert_id, user_id, status in rows:
        if status == DeliveryStatus.CANCELLED:
            counts[alert_id, user_id] = counts.get((alert_id, user_id), 0) + 1
    return CancelledPages(counts)


# A delivery that was being sent at the time of the action, and failed later, was cancelled at its failure.
_RESTORE = """
WITH undone AS (
  SELECT * FROM unnest(%(alerts)s::bigint[], %(moments)s::timestamptz[], %(codes)s::text[], %(data)s::jsonb[],
                       %(after)s::timestamptz[]) AS u(alert_id, at, code, data, due_after)
), wanted AS (
  SELECT d.id, u.code, u.data FROM notify_delivery d JOIN undone u ON u.alert_id = d.alert_id
  WHERE d.purpose = 'page' AND (
    (d.status = 'cancelled' AND (d.ended_at = u.at OR (d.cancel_requested_code <> '' AND d.ended_at > u.at))
     AND (u.due_after IS NULL OR d.due_at > u.due_after))
    OR (d.status IN ('sending', 'sent') AND d.cancel_requested_code <> ''))
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'cancelled' THEN 'queued' ELSE d.status END,
    reason_code = CASE WHEN d.status = 'cancelled' THEN w.code ELSE d.reason_code END,
    reason_data = CASE WHEN d.status = 'cancelled' THEN w.data ELSE d.reason_data END,
    ended_at = CASE WHEN d.status = 'cancelled' THEN NULL ELSE d.ended_at END,
    cancel_requested_code = '', cancel_requested_data = '{}'
FROM wanted w WHERE d.id = w.id
RETURNING d.alert_id, d.user_id, d.due_at, d.status
"""


@dataclass(frozen=True, slots=True)
class ReversedAction:
    """The reversal of an action that cancelled pages: when the action was done, and why the pages are restored."""

    at: datetime
    reason: Reason | str
    #: Restores only pages that are due after this; None restores all.
    due_after: datetime | None = None


def restore(connection: Connection, reversals: Mapping[int, ReversedAction]) -> dict[int, dict[int, datetime]]:
    """Restores pages that an action cancelled, by alert. They are sent at their original due time.

    Returns, by alert, the time of each user's last restored page.
    """
    if not reversals:
        return {}
    columns = [reason_columns(as_reason(reversal.reason)) for reversal in reversals.values()]
    parameters = {
        "alerts": list(reversals),
        "moments": [reversal.at for reversal in reversals.values()],
        "codes": [code for code, _ in columns],
        "data": [Jsonb(data) for _, data in columns],
        "after": [reversal.due_after for reversal in reversals.values()],
    }
    restored: dict[int, dict[int, datetime]] = {}
    for alert_id, user_id, due_at, status in connection.execute(_RESTORE, parameters).fetchall():
        if status == DeliveryStatus.QUEUED:
            users = restored.setdefault(alert_id, {})
            if user_id is not None:
                users[user_id] = max(due_at, users.get(user_id, due_at))
    if restored:
        database.notify(connection, "outbox")
    return restored


def release(connection: Connection, alert_ids: Iterable[int], now: datetime) -> int:
    """Sends pages that waited for the end of their alert's hold. Returns how many."""
    released_count = connection.execute(
        "UPDATE notify_delivery SET due_at = %s WHERE id IN (SELECT id FROM notify_delivery "
        "WHERE alert_id = ANY(%s) AND status = 'queued' AND reason_code = %s ORDER BY id FOR NO KEY UPDATE)",
        (now, sorted(set(alert_ids)), delivery_reasons.ON_HOLD.code),
    ).rowcount
    if released_count:
        database.notify(connection, "outbox")
    return released_count


@dataclass(frozen=True, slots=True)
class AlertEnded:
    """An alert that needs nobody any more: the sentence for the users who were paged, and the users who
    have responded.
    """

    alert_id: int
    #: "Assigned to Alice: VPN down (#42). Nothing to do."
    sentence: Reason
    #: Users besides those who have acknowledged or own the alert, such as the user who closed it.
    responder_ids: frozenset[int] = frozenset()
    #: The alert that it was merged into, which has its own all-clear. Users who were paged about both get only that
    #: one.
    merged_into: int | None = None


_PAGED = """
SELECT d.alert_id, d.user_id, d.channel, d.address, n.label, coalesce(d.sent_at, d.outcome_unknown_at) AS sent_at
FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
JOIN people_user u ON u.id = d.user_id AND u.is_active
WHERE d.alert_id = ANY(%(alerts)s) AND d.purpose = 'page'
  AND (d.status IN ('sending', 'sent', 'delivered') OR d.outcome_unknown_at IS NOT NULL)
ORDER BY d.id
"""
_RESPONDERS = """
SELECT alert_id, user_id FROM alerts_acknowledgement WHERE alert_id = ANY(%(alerts)s)
UNION SELECT id, owner_id FROM alerts_alert WHERE id = ANY(%(alerts)s) AND owner_id IS NOT NULL
"""
_LAST_ALL_CLEARS = """
SELECT alert_id, user_id, max(created_at) FROM notify_notification
WHERE alert_id = ANY(%(alerts)s) AND purpose = 'all_clear' GROUP BY alert_id, user_id
"""


def queue_all_clear(connection: Connection, ended: Sequence[AlertEnded], now: datetime) -> list[AllClear]:
    """Queues one all-clear to each user who was paged about these alerts and has not responded, on the quietest channel
    used.

    A page that is being sent counts: its all-clear follows it, or is dropped if the page is never sent. A page with an
    unknown outcome counts too, since it may have woken the user.
    """
    if not ended:
        return []
    by_alert = {entry.alert_id: entry for entry in ended}
    parameters: dict[str, object] = {"alerts": list(by_alert)}
    paged = [PagedRecipient(**row) for row in database.rows(connection, _PAGED, parameters)]
    if not paged:
        return []
    responder_ids = {alert_id: set(entry.responder_ids) for alert_id, entry in by_alert.items()}
    for alert_id, user_id in connection.execute(_RESPONDERS, parameters).fetchall():
        responder_ids[alert_id].add(user_id)
    for entry in ended:
        if entry.merged_into is not None:
            responder_ids[entry.alert_id] |= responder_ids[entry.merged_into]
            responder_ids[entry.alert_id] |= {page.user_id for page in paged if page.alert_id == entry.merged_into}
    last_all_clears = {(row[0], row[1]): row[2] for row in connection.execute(_LAST_ALL_CLEARS, parameters).fetchall()}
    all_clears = planning.all_clears(
        paged, {key: frozenset(users) for key, users in responder_ids.items()}, last_all_clears, quietest_channel
    )
    rows = [
        NotificationRow(
            purpose=Purpose.ALL_CLEAR,
            channel=all_clear.channel,
            address=all_clear.address,
            label=all_clear.label,
            reason=delivery_reasons.WAS_PAGED(),
            due_at=now,
            alert_id=all_clear.alert_id,
            user_id=all_clear.user_id,
            data={"news": reason_as_json(by_alert[all_clear.alert_id].sentence)},
        )
        for all_clear in all_clears
    ]
    write(connection, rows, now)
    return all_clears


def queue_ack_reminder(connection: Connection, targets: Sequence[tuple[int, int]], now: datetime) -> list[Unreachable]:
    """Queues the acknowledgement reminder "Still on it?" for each (alert id, user id), on every contact method without
    a wait, else on the first. Returns the users who cannot be asked.
    """
    recipients = load_recipients(connection, {user_id for _, user_id in targets})
    rows: list[NotificationRow] = []
    unreachable: list[Unreachable] = []
    for alert_id, user_id in targets:
        recipient = recipients.get(user_id)
        name = recipient.name if recipient else "Somebody"
        usable = [
            method
            for method in (recipient.methods if recipient and recipient.is_active else ())
            if method.is_enabled and address_problem(method.channel, method.address) is None
        ]
        if not usable:
            is_deactivated = recipient is not None and not recipient.is_active
            cause = delivery_reasons.ACCOUNT_DISABLED if is_deactivated else delivery_reasons.NO_USABLE_METHOD
            reason = delivery_reasons.NOT_REMINDED(user=Person(name, user_id), cause=cause())
            unreachable.append(Unreachable(PageRequest(alert_id, now, reason, user_id), name, reason))
        rows += [
            NotificationRow(
                purpose=Purpose.ACK_REMINDER,
                channel=method.channel,
                address=method.address,
                label=method.label,
                reason=delivery_reasons.ACKNOWLEDGED_BEFORE(),
                due_at=now,
                alert_id=alert_id,
                user_id=user_id,
            )
            for method in ([m for m in usable if not m.wait] or usable[:1])
        ]
    write(connection, rows, now)
    return unreachable


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to users about something other than an alert that needs a response."""

    #: Rendered for each recipient when it is sent.
    title: Reason
    text: Reason
    #: Identifies the subject, to recognise later notices about the same thing.
    about: str = ""
    #: Why the recipients get it.
    reason: Reason = NO_REASON
    alert_id: int | None = None
    #: The heading under which it can be bundled with others of its kind, such as "Nobody answered"; empty: never
    #: bundled.
    heading: Reason = NO_REASON
    swap_id: int | None = None  # which the recipient is asked to accept or decline


def queue_notice(
    connection: Connection,
    notice: Notice,
    now: datetime,
    *,
    user_ids: Collection[int] = (),
    addresses: Collection[str] = (),
) -> int:
    """Mails a notice to users, at their login address, and to plain addresses. Returns the number of recipients."""
    user_rows = connection.execute(
        "SELECT id, email FROM people_user WHERE id = ANY(%s) AND is_active AND email <> '' ORDER BY id",
        (sorted(user_ids),),
    ).fetchall()
    targets: list[tuple[int | None, str]] = [(row[0], row[1]) for row in user_rows]
    known_addresses = {address.lower() for _, address in targets}
    targets += [(None, address) for address in dict.fromkeys(addresses) if address.lower() not in known_addresses]
    data = notice_data(notice)
    rows = [
        NotificationRow(
            purpose=Purpose.NOTICE,
            channel="email",
            address=address,
            label="E-mail",
            reason=notice.reason,
            due_at=now,
            alert_id=notice.alert_id,
            user_id=user_id,
            data=data,
        )
        for user_id, address in targets
    ]
    write(connection, rows, now)
    return len(rows)


def queue_notice_by(connection: Connection, notice: Notice, now: datetime, *, user_id: int, label: str) -> bool:
    """Queues a notice on the user's contact method of that label. Returns False if there is no usable one."""
    method = database.row(
        connection,
        "SELECT m.label, m.channel, m.address FROM people_contactmethod m JOIN people_user u ON u.id = m.user_id "
        "WHERE m.user_id = %s AND lower(m.label) = lower(%s) AND m.is_enabled AND NOT m.awaits_code AND u.is_active",
        (user_id, label),
    )
    if method is None or address_problem(method["channel"], method["address"]):
        return False
    row = NotificationRow(
        purpose=Purpose.NOTICE,
        channel=method["channel"],
        address=method["address"],
        label=method["label"],
        reason=notice.reason,
        due_at=now,
        alert_id=notice.alert_id,
        user_id=user_id,
        data=notice_data(notice),
    )
    write(connection, [row], now)
    return True


def notice_data(notice: Notice) -> dict[str, Any]:
    """Returns the data that the notification of a notice stores."""
    texts = {"title": notice.title, "text": notice.text} | ({"heading": notice.heading} if notice.heading else {})
    stored = {name: reason_as_json(text) for name, text in texts.items()}
    details: dict[str, Any] = {"about": notice.about} if notice.about else {}
    return stored | details | ({"swap": notice.swap_id} if notice.swap_id else {})


#: More than the difference between two nodes' clocks.
_MAX_CLOCK_SKEW = timedelta(seconds=5)


def administrators(connection: Connection) -> list[int]:
    """Returns the ids of the active administrators."""
    rows = connection.execute(
        "SELECT id FROM people_user WHERE role = 'admin' AND is_active AND NOT is_service_account ORDER BY id"
    ).fetchall()
    return [row[0] for row in rows]


def was_noticed(
    connection: Connection, user_ids: Collection[int], about: str, now: datetime, window: timedelta
) -> bool:
    """Returns whether one of these users was sent a notice about the same thing within `window`. A notice dated in the
    future was sent before a clock rollback, at an unknown time, and does not count.
    """
    row = connection.execute(
        "SELECT 1 FROM notify_notification WHERE user_id = ANY(%s) AND purpose = 'notice' AND data->>'about' = %s "
        "AND created_at BETWEEN %s AND %s LIMIT 1",
        (sorted(user_ids), about, now - window, now + _MAX_CLOCK_SKEW),
    ).fetchone()
    return row is not None
