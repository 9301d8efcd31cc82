"""Inserts notifications with their first deliveries in bulk, inside the caller's transaction. Sends nothing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import batched
from typing import Any
from uuid import UUID

from tocsin.alerts.store import load_alerts, load_responders
from tocsin.core import ids
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.reasons import NO_REASON, Person, Reason, as_reason, reason_as_json
from tocsin.notify.models import Provider
from tocsin.notify.providers.pool import address_problem, quietest_channel
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import (
    NotificationMethod,
    Page,
    PagedRecipient,
    PagePlan,
    PageRequest,
    Recipient,
    Unreachable,
    apply_rules,
)
from tocsin.notify.rules.pre_send_check import BUNDLED, WINDOW
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people.sql import USERS_WITH_METHODS, join_user

#: Rows per statement: the server ends a transaction in which nothing happens while a busy machine prepares more.
MAX_ROWS = 1000


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One notification with its first delivery."""

    purpose: Purpose
    channel: str
    address: str
    due_at: datetime
    label: str = ""
    reason: Reason = NO_REASON
    alert_id: int | None = None
    run_id: int | None = None
    user_id: int | None = None
    group_contact_id: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    is_first: bool = False
    problem: Reason = NO_REASON
    #: The only provider that may send it; None: any.
    provider: Provider | None = None
    id: UUID = field(default_factory=ids.uuid7)


_WRITE = """
WITH given AS (
  SELECT * FROM json_to_recordset(%(rows)s) AS n(id uuid, delivery_id uuid, alert_id bigint, run_id bigint,
    user_id bigint, group_contact_id bigint, integration_id bigint, purpose text, channel text, label text,
    address text, reason jsonb, data jsonb, is_first boolean, status text, delivery_reason jsonb, is_permanent boolean,
    due_at timestamptz, ended_at timestamptz, provider_id bigint, provider_name text)
), notifications AS (
  INSERT INTO notify_notification (id, alert_id, run_id, user_id, group_contact_id, purpose, channel, label, address,
         reason, data, created_at)
  SELECT id, alert_id, run_id, user_id, group_contact_id, purpose, channel, label, address, reason, data, %(now)s
  FROM given
)
INSERT INTO notify_delivery (id, notification_id, alert_id, user_id, integration_id, channel, address, purpose,
       is_first, status, reason, is_permanent, due_at, ended_at, provider_id, provider_name, queued_at)
SELECT g.delivery_id, g.id, g.alert_id, g.user_id, g.integration_id, g.channel, g.address, g.purpose, g.is_first,
       g.status, CASE WHEN l.bundled_at IS NULL THEN g.delivery_reason ELSE %(bundled)s END, g.is_permanent,
       coalesce(l.bundled_at, g.due_at), g.ended_at, g.provider_id, g.provider_name, %(now)s
FROM given g LEFT JOIN LATERAL (
  SELECT l.last_sent_at + %(window)s AS bundled_at FROM notify_lastsent l
  WHERE l.recipient = coalesce(g.user_id, 0) AND l.channel = g.channel AND l.address = g.address
    AND l.purpose = g.purpose AND l.last_sent_at <= %(now)s AND l.last_sent_at + %(window)s > g.due_at
    AND g.purpose = ANY(%(bundling)s) AND g.alert_id IS NOT NULL AND g.provider_id IS NULL AND g.status = 'queued'
) l ON true
"""


def write(connection: Connection, rows: Sequence[NotificationRow], now: datetime) -> None:
    """Inserts notifications and deliveries, and notifies the outbox if any is due at once.

    What would only be claimed to wait for its bundle (`pre_send_check.arrange`) waits from the start: in a storm that
    is most of all claims.
    """
    if not rows:
        return
    alert_ids = {row.alert_id for row in rows if row.alert_id is not None}
    alerts = load_alerts(connection, alert_ids, "integration_id") if alert_ids else {}
    integrations = {key: row["integration_id"] for key, row in alerts.items()}
    bundling = {"window": WINDOW, "bundling": sorted(BUNDLED), "bundled": page_planner.BUNDLED_LATER()}
    for part in batched(rows, MAX_ROWS):
        values = as_json([_columns(row, integrations, now) for row in part])
        connection.execute(_WRITE, {"rows": values, "now": now} | bundling)
    if any(row.due_at <= now + timedelta(seconds=1) for row in rows):
        database.notify(connection, "outbox")


def _columns(row: NotificationRow, integrations: Mapping[int, int | None], now: datetime) -> dict[str, object]:
    """Returns the values of `_WRITE` by name."""
    return {
        "id": row.id,
        "delivery_id": ids.uuid7(),
        "alert_id": row.alert_id,
        "run_id": row.run_id,
        "user_id": row.user_id,
        "group_contact_id": row.group_contact_id,
        "integration_id": integrations.get(row.alert_id) if row.alert_id is not None else None,
        "purpose": row.purpose,
        "channel": row.channel,
        "label": row.label,
        "address": row.address,
        "reason": reason_as_json(row.reason),
        "data": row.data,
        "is_first": row.is_first,
        "status": DeliveryStatus.FAILED if row.problem else DeliveryStatus.QUEUED,
        "delivery_reason": reason_as_json(row.problem),
        "is_permanent": bool(row.problem),
        "due_at": row.due_at,
        "ended_at": now if row.problem else None,
        "provider_id": row.provider.pk if row.provider else None,
        "provider_name": row.provider.name if row.provider else "",
    }


# ---------- recipients


_RECIPIENTS = f"""
SELECT u.id, u.display_name AS name, u.is_active, u.time_zone, u.notification_rules,
       m.label, m.channel, m.address, m.wait, m.repeat_times, m.repeat_every,
       m.is_enabled AND NOT m.awaits_code AS is_enabled
FROM {USERS_WITH_METHODS}
WHERE u.id = ANY(%s) ORDER BY u.id, m.position, m.id
"""


def load_recipients(connection: Connection, user_ids: Collection[int]) -> dict[int, Recipient]:
    """Returns the users with their contact methods and notification rules, by id."""
    if not user_ids:
        return {}
    recipients: dict[int, Recipient] = {}
    methods: defaultdict[int, list[NotificationMethod]] = defaultdict(list)
    for row in database.rows(connection, _RECIPIENTS, (list(user_ids),)):
        user_id, rules = row["id"], row["notification_rules"]
        if user_id not in recipients:
            recipient = Recipient(user_id, row["name"], (), row["is_active"], row["time_zone"])
            recipients[user_id] = apply_rules(recipient, rules) if rules else recipient
        if row["label"] is not None:
            methods[user_id].append(
                NotificationMethod(
                    row["label"], row["channel"], row["address"], row["wait"], row["repeat_times"], row["repeat_every"],
                    row["is_enabled"],
                )
            )  # fmt: skip
    return {user_id: replace(one, methods=tuple(methods[user_id])) for user_id, one in recipients.items()}


def load_group_contacts(connection: Connection, contact_ids: Collection[int]) -> dict[int, NotificationMethod]:
    if not contact_ids:
        return {}
    rows = database.rows(
        connection,
        "SELECT c.id, c.label, c.channel, c.address FROM people_groupcontact c WHERE c.id = ANY(%s)",
        (list(contact_ids),),
    )
    return {row["id"]: NotificationMethod(row["label"], row["channel"], row["address"]) for row in rows}


# ---------- pages


def queue_pages(connection: Connection, requests: Sequence[PageRequest], now: datetime) -> PagePlan:
    """Plans and writes the pages of `requests`: one notification and one delivery for each contact method and
    repetition.

    A page with an unusable address is written as failed, with the reason. The caller writes each `unreachable` to its
    alert's timeline.
    """
    if not requests:
        return PagePlan((), ())
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
    return planned


def plan_pages(connection: Connection, requests: Sequence[PageRequest]) -> PagePlan:
    """Returns what `queue_pages` would write for `requests`, with the current contact methods. Writes nothing."""
    recipients = load_recipients(connection, {request.user_id for request in requests if request.user_id is not None})
    contacts = load_group_contacts(connection, {s.group_contact_id for s in requests if s.group_contact_id is not None})
    return page_planner.plan(requests, recipients, contacts, address_problem)


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
            cause = page_planner.ACCOUNT_DISABLED if is_deactivated else page_planner.NO_USABLE_METHOD
            reason = page_planner.NOT_REMINDED(user=Person(name, user_id), cause=cause())
            unreachable.append(Unreachable(PageRequest(alert_id, now, reason, user_id), name, reason))
        rows += [
            NotificationRow(
                purpose=Purpose.ACK_REMINDER,
                channel=method.channel,
                address=method.address,
                label=method.label,
                reason=page_planner.ACKNOWLEDGED_BEFORE(),
                due_at=now,
                alert_id=alert_id,
                user_id=user_id,
            )
            for method in ([m for m in usable if not m.wait] or usable[:1])
        ]
    write(connection, rows, now)
    return unreachable


# ---------- all clear


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


_PAGED = f"""
SELECT d.alert_id, d.user_id, d.channel, d.address, n.label, coalesce(d.sent_at, d.outcome_unknown_at) AS sent_at
FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
{join_user("d.user_id")} AND u.is_active
WHERE d.alert_id = ANY(%(alerts)s) AND d.purpose = 'page'
  AND (d.status IN ('sending', 'sent', 'delivered') OR d.outcome_unknown_at IS NOT NULL)
ORDER BY d.id
"""
_LAST_ALL_CLEARS = """
SELECT alert_id, user_id, max(created_at) FROM notify_notification
WHERE alert_id = ANY(%(alerts)s) AND purpose = 'all_clear' GROUP BY alert_id, user_id
"""


def queue_all_clear(connection: Connection, ended: Sequence[AlertEnded], now: datetime) -> None:
    """Queues one all-clear to each user who was paged about these alerts and has not responded, on the quietest channel
    used.

    A page that is being sent counts: its all-clear follows it, or is dropped if the page is never sent. A page with an
    unknown outcome counts too, since it may have woken the user.
    """
    by_alert = {entry.alert_id: entry for entry in ended}
    parameters: dict[str, object] = {"alerts": list(by_alert)}
    paged = [PagedRecipient(**row) for row in database.rows(connection, _PAGED, parameters)]
    if not paged:
        return
    responder_ids = {alert_id: set(entry.responder_ids) for alert_id, entry in by_alert.items()}
    for alert_id, user_id in load_responders(connection, list(by_alert)):
        responder_ids[alert_id].add(user_id)
    for entry in ended:
        if entry.merged_into is not None:
            responder_ids[entry.alert_id] |= responder_ids[entry.merged_into]
            responder_ids[entry.alert_id] |= {page.user_id for page in paged if page.alert_id == entry.merged_into}
    last_all_clears = {(row[0], row[1]): row[2] for row in connection.execute(_LAST_ALL_CLEARS, parameters).fetchall()}
    all_clears = page_planner.all_clears(
        paged, {key: frozenset(users) for key, users in responder_ids.items()}, last_all_clears, quietest_channel
    )
    rows = [
        NotificationRow(
            purpose=Purpose.ALL_CLEAR,
            channel=all_clear.channel,
            address=all_clear.address,
            label=all_clear.label,
            reason=page_planner.WAS_PAGED(),
            due_at=now,
            alert_id=all_clear.alert_id,
            user_id=all_clear.user_id,
            data={"news": reason_as_json(by_alert[all_clear.alert_id].sentence)},
        )
        for all_clear in all_clears
    ]
    write(connection, rows, now)


# ---------- cancel


# A sent page without a receipt may still be reported as failed, after which the next provider would take over.
_CANCELLABLE = """
SELECT id FROM notify_delivery
WHERE alert_id = ANY(%(alerts)s) AND purpose IN ('page', 'still_on_it')
  AND (status IN ('queued', 'sending') OR (status = 'sent' AND receipt = '' AND cancel_requested = '{}'))
  AND (%(users)s::bigint[] IS NULL OR user_id = ANY(%(users)s))
  AND (%(queued_since)s::timestamptz IS NULL OR queued_at >= %(queued_since)s)
ORDER BY id FOR NO KEY UPDATE
"""
_CANCEL = f"""
WITH wanted AS ({_CANCELLABLE})
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'queued' THEN 'cancelled' ELSE d.status END,
    reason = CASE WHEN d.status <> 'queued' THEN d.reason
                  WHEN d.outcome_unknown_at IS NOT NULL THEN %(not_resent)s ELSE %(reason)s END,
    cancel_requested = CASE WHEN d.status = 'queued' THEN d.cancel_requested ELSE %(reason)s END,
    ended_at = CASE WHEN d.status = 'queued' THEN %(now)s ELSE d.ended_at END
FROM wanted w WHERE d.id = w.id AND d.status IN ('queued', 'sending', 'sent')
"""


# Their vendor is told as soon as no delivery of a message stands. Mostly none is open.
_END_REPEATS = """
WITH over AS MATERIALIZED (
  SELECT coalesce(array_agg(d.id), '{}') AS ids FROM notify_delivery d
  WHERE EXISTS (SELECT FROM notify_openreceipt) AND d.alert_id = ANY(%(alerts)s)
    AND (%(users)s::bigint[] IS NULL OR d.user_id = ANY(%(users)s))
    AND (%(queued_since)s::timestamptz IS NULL OR d.queued_at >= %(queued_since)s)
)
UPDATE notify_openreceipt r
SET standing = ARRAY(SELECT unnest(r.standing) EXCEPT SELECT unnest(over.ids)), poll_at = least(r.poll_at, %(now)s)
FROM over WHERE r.standing && over.ids
"""


def alert_tag(alert_id: int) -> str:
    """Returns the tag of an alert's pages at a vendor that repeats them. Another installation may have the same account
    there, and the same number.
    """
    return hashlib.sha256(f"{environment.current().public_url} {alert_id}".encode()).hexdigest()[:24]


def cancel_pages(
    connection: Connection,
    alert_ids: Iterable[int],
    user_ids: Iterable[int] | None,
    reason: Reason | str,
    now: datetime,
    *,
    queued_since: datetime | None = None,
) -> None:
    """Cancels queued pages and reminders of these alerts, for all users or only for `user_ids`, of any age or only
    those queued at `queued_since` or later. The rows stay, with the reason.

    A delivery that is being sent or was sent cannot be recalled. If it fails, it is not retried, for the same reason;
    if its vendor repeats it, the repeats end.
    """
    parameters = {
        "alerts": sorted(set(alert_ids)),
        "users": None if user_ids is None else sorted(set(user_ids)),
        "queued_since": queued_since,
        "reason": as_reason(reason),
        "not_resent": page_planner.NOT_RESENT(cause=as_reason(reason)),
        "now": now,
    }
    # Locks in a separate statement first: if a failed attempt has just inserted the next provider's row, the second
    # statement sees it.
    connection.execute(_CANCELLABLE, parameters)
    connection.execute(database.literal(_CANCEL), parameters)
    connection.execute(_END_REPEATS, parameters)


# A delivery that was being sent at the time of the action, and failed later, was cancelled at its failure.
_RESTORE = """
WITH undone AS (
  SELECT * FROM unnest(%(alerts)s::bigint[], %(moments)s::timestamptz[], %(reasons)s::jsonb[],
                       %(after)s::timestamptz[]) AS u(alert_id, at, reason, due_after)
), wanted AS (
  SELECT d.id, u.reason FROM notify_delivery d JOIN undone u ON u.alert_id = d.alert_id
  WHERE d.purpose = 'page' AND (
    (d.status = 'cancelled' AND (d.ended_at = u.at OR (d.cancel_requested <> '{}' AND d.ended_at > u.at))
     AND (u.due_after IS NULL OR d.due_at > u.due_after))
    OR (d.status IN ('sending', 'sent') AND d.cancel_requested <> '{}'))
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'cancelled' THEN 'queued' ELSE d.status END,
    reason = CASE WHEN d.status = 'cancelled' THEN w.reason ELSE d.reason END,
    ended_at = CASE WHEN d.status = 'cancelled' THEN NULL ELSE d.ended_at END,
    cancel_requested = '{}'
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


def restore_pages(connection: Connection, reversals: Mapping[int, ReversedAction]) -> dict[int, dict[int, datetime]]:
    """Restores pages that an action cancelled, by alert. They are sent at their original due time.

    Returns, by alert, the time of each user's last restored page.
    """
    if not reversals:
        return {}
    parameters = {
        "alerts": list(reversals),
        "moments": [reversal.at for reversal in reversals.values()],
        "reasons": [as_reason(reversal.reason) for reversal in reversals.values()],
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


def release_pages(connection: Connection, alert_ids: Iterable[int], now: datetime) -> None:
    """Sends pages that waited for the end of their alert's hold."""
    released_count = connection.execute(
        "UPDATE notify_delivery SET due_at = %s WHERE id IN (SELECT id FROM notify_delivery "
        "WHERE alert_id = ANY(%s) AND status = 'queued' AND reason->>'code' = %s ORDER BY id FOR NO KEY UPDATE)",
        (now, sorted(set(alert_ids)), page_planner.ON_HOLD.code),
    ).rowcount
    if released_count:
        database.notify(connection, "outbox")
