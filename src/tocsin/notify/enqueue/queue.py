"""Queues pages, all-clears, acknowledgement reminders and notices in the outbox, and cancels queued ones with a reason.
All functions take lists, run inside the caller's transaction and send nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem, quietest_channel
from tocsin.notify.rules import page_planner as planning
from tocsin.notify.rules.notification_rules import NotificationMethod, Recipient, apply_rules
from tocsin.notify.rules.page_planner import AllClear, Page, PagedRecipient, PagePlan, PageRequest, Unreachable
from tocsin.notify.rules.pre_send_check import NOT_AGAIN, ON_HOLD
from tocsin.notify.states import DeliveryStatus, Purpose

#: The purposes that are cancelled when an alert needs nobody any more.
ABOUT_LIVE = (Purpose.PAGE, Purpose.STILL_ON_IT)


@dataclass(frozen=True, slots=True)
class QueuedPages:
    """The result of queueing: the planned pages, and the recipients who cannot be reached."""

    pages: tuple[Page, ...]
    #: For the alert's timeline: no recipient is skipped silently.
    unreachable: tuple[Unreachable, ...]


def queue(connection: Connection, starts: Sequence[PageRequest], now: datetime) -> QueuedPages:
    """Plans and writes the pages of `starts`: one notification and one delivery for each contact method and repetition.

    A page with an unusable address is written as failed, with the reason. The caller writes each `unreachable` to its
    alert's timeline.
    """
    if not starts:
        return QueuedPages((), ())
    planned = plan_of(connection, starts)
    alert_ids = sorted({start.alert_id for start in starts})
    firsts = _first_pages(connection, alert_ids, planned.pages)
    rows = [
        NotificationRow(
            purpose=Purpose.PAGE,
            channel=page.channel,
            address=page.address,
            label=page.label,
            reason=page.reason,
            due_at=page.due_at,
            alert_id=page.start.alert_id,
            run_id=page.start.run_id,
            user_id=page.start.user_id,
            group_contact_id=page.start.group_contact_id,
            data=page.data,
            is_first=number in firsts,
            problem=page.problem,
        )
        for number, page in enumerate(planned.pages)
    ]
    write(connection, rows, now)
    return QueuedPages(planned.pages, planned.unreachable)


def plan_of(connection: Connection, starts: Sequence[PageRequest]) -> PagePlan:
    """Returns what `queue` would write for `starts`, with the current contact methods. Writes nothing."""
    people = people_of(connection, {start.user_id for start in starts if start.user_id is not None})
    contacts = _contacts(connection, {s.group_contact_id for s in starts if s.group_contact_id is not None})
    return planning.plan(starts, people, contacts, address_problem)


_PEOPLE = """
SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, u.is_active, u.time_zone, u.notification_rules,
       m.label, m.channel, m.address, m.wait, m.repeat_times, m.repeat_every,
       m.is_enabled AND NOT m.awaits_code AS is_enabled
FROM people_user u LEFT JOIN people_contactmethod m ON m.user_id = u.id
WHERE u.id = ANY(%s) ORDER BY u.id, m.position, m.id
"""


def people_of(connection: Connection, user_ids: Collection[int]) -> dict[int, Recipient]:
    """Returns the users with their contact methods and notification rules, by id: for `rules.page_planner.plan` and
    `rules.notification_rules.leaves`.
    """
    if not user_ids:
        return {}
    found: dict[int, tuple[dict[str, Any], list[NotificationMethod]]] = {}
    for row in database.rows(connection, _PEOPLE, (list(user_ids),)):
        methods = found.setdefault(row["id"], (row, []))[1]
        if row["label"] is not None:
            methods.append(
                NotificationMethod(
                    row["label"], row["channel"], row["address"], row["wait"], row["repeat_times"], row["repeat_every"],
                    row["is_enabled"],
                )
            )  # fmt: skip
    return {user_id: _person(row, methods) for user_id, (row, methods) in found.items()}


def _person(row: Mapping[str, Any], methods: Sequence[NotificationMethod]) -> Recipient:
    person = Recipient(row["id"], row["name"], tuple(methods), row["is_active"], row["time_zone"])
    return apply_rules(person, row["notification_rules"]) if row["notification_rules"] else person


def _contacts(connection: Connection, contact_ids: Collection[int]) -> dict[int, NotificationMethod]:
    if not contact_ids:
        return {}
    found = database.rows(
        connection,
        "SELECT c.id, c.label, c.channel, c.address FROM people_groupcontact c WHERE c.id = ANY(%s)",
        (list(contact_ids),),
    )
    return {row["id"]: NotificationMethod(row["label"], row["channel"], row["address"]) for row in found}


def _first_pages(connection: Connection, alert_ids: list[int], pages: Sequence[Page]) -> frozenset[int]:
    """Returns the indexes in `pages` of each alert's first pages, which are sent before all others."""
    paged = connection.execute(
        "SELECT DISTINCT alert_id FROM notify_notification WHERE alert_id = ANY(%s) AND purpose = 'page'", (alert_ids,)
    ).fetchall()
    known = {row[0] for row in paged}
    earliest: dict[int, datetime] = {}
    for page in pages:
        alert_id = page.start.alert_id
        if alert_id not in known and not page.problem:
            earliest[alert_id] = min(page.due_at, earliest.get(alert_id, page.due_at))
    return frozenset(number for number, page in enumerate(pages) if page.due_at == earliest.get(page.start.alert_id))


# A sent page without a receipt may still be reported as failed, after which the next provider would take over.
_WANTED = """
SELECT id FROM notify_delivery
WHERE alert_id = ANY(%(alerts)s) AND purpose = ANY(%(purposes)s)
  AND (status IN ('queued', 'sending') OR (status = 'sent' AND receipt = '' AND cancel_requested = ''))
  AND (%(users)s::bigint[] IS NULL OR user_id = ANY(%(users)s))
ORDER BY id FOR NO KEY UPDATE
"""
_CANCEL = f"""
WITH wanted AS ({_WANTED})
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'queued' THEN 'cancelled' ELSE d.status END,
    reason = CASE WHEN d.status <> 'queued' THEN d.reason
                  WHEN d.outcome_unknown_at IS NOT NULL THEN %(not_again)s ELSE %(reason)s END,
    cancel_requested = CASE WHEN d.status = 'queued' THEN d.cancel_requested ELSE %(reason)s END,
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
    reason: str,
    now: datetime,
    *,
    purposes: Collection[Purpose] = ABOUT_LIVE,
) -> CancelledPages:
    """Cancels queued deliveries of these alerts, for all users or only for `user_ids`. The rows stay, with the reason.

    A delivery that is being sent or was sent cannot be recalled. If it fails, it is not retried, for the same reason.
    """
    parameters = {
        "alerts": sorted(set(alert_ids)),
        "users": None if user_ids is None else sorted(set(user_ids)),
        "purposes": [str(purpose) for purpose in purposes],
        "reason": reason,
        "not_again": f"{NOT_AGAIN}: {reason}",
        "now": now,
    }
    # Locks in a separate statement first: if a failed attempt has just inserted the next provider's row, the second
    # statement sees it.
    connection.execute(_WANTED, parameters)
    found = connection.execute(database.literal(_CANCEL), parameters).fetchall()
    counts: dict[tuple[int, int | None], int] = {}
    for alert_id, user_id, status in found:
        if status == DeliveryStatus.CANCELLED:
            counts[alert_id, user_id] = counts.get((alert_id, user_id), 0) + 1
    return CancelledPages(counts)


# A delivery that was being sent at the time of the action, and failed later, was cancelled at its failure.
_RESTORE = """
WITH undone AS (
  SELECT * FROM unnest(%(alerts)s::bigint[], %(moments)s::timestamptz[], %(reasons)s::text[], %(after)s::timestamptz[])
    AS u(alert_id, at, reason, due_after)
), wanted AS (
  SELECT d.id, u.reason FROM notify_delivery d JOIN undone u ON u.alert_id = d.alert_id
  WHERE d.purpose = 'page' AND (
    (d.status = 'cancelled' AND (d.ended_at = u.at OR (d.cancel_requested <> '' AND d.ended_at > u.at))
     AND (u.due_after IS NULL OR d.due_at > u.due_after))
    OR (d.status IN ('sending', 'sent') AND d.cancel_requested <> ''))
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'cancelled' THEN 'queued' ELSE d.status END,
    reason = CASE WHEN d.status = 'cancelled' THEN w.reason ELSE d.reason END,
    ended_at = CASE WHEN d.status = 'cancelled' THEN NULL ELSE d.ended_at END, cancel_requested = ''
FROM wanted w WHERE d.id = w.id
RETURNING d.alert_id, d.user_id, d.due_at, d.status
"""


@dataclass(frozen=True, slots=True)
class ReversedAction:
    """The reversal of an action that cancelled pages: when the action was done, and why the pages are restored."""

    at: datetime
    reason: str
    #: Restores only pages that are due after this; None restores all.
    due_after: datetime | None = None


def restore(connection: Connection, undone: Mapping[int, ReversedAction]) -> dict[int, dict[int, datetime]]:
    """Restores pages that an action cancelled, by alert. They are sent at their original due time.

    Returns, by alert, the time of each user's last restored page.
    """
    if not undone:
        return {}
    parameters = {
        "alerts": list(undone),
        "moments": [act.at for act in undone.values()],
        "reasons": [act.reason for act in undone.values()],
        "after": [act.due_after for act in undone.values()],
    }
    found: dict[int, dict[int, datetime]] = {}
    for alert_id, user_id, due_at, status in connection.execute(_RESTORE, parameters).fetchall():
        if status == DeliveryStatus.QUEUED:
            users = found.setdefault(alert_id, {})
            if user_id is not None:
                users[user_id] = max(due_at, users.get(user_id, due_at))
    if found:
        database.notify(connection, "outbox")
    return found


def release(connection: Connection, alert_ids: Iterable[int], now: datetime) -> int:
    """Sends pages that waited for the end of their alert's hold. Returns how many."""
    found = connection.execute(
        "UPDATE notify_delivery SET due_at = %s WHERE id IN (SELECT id FROM notify_delivery "
        "WHERE alert_id = ANY(%s) AND status = 'queued' AND reason = %s ORDER BY id FOR NO KEY UPDATE)",
        (now, sorted(set(alert_ids)), ON_HOLD),
    ).rowcount
    if found:
        database.notify(connection, "outbox")
    return found


@dataclass(frozen=True, slots=True)
class AlertEnded:
    """An alert that needs nobody any more: the sentence for the users who were paged, and the users who
    have responded.
    """

    alert_id: int
    #: "Taken by Alice: VPN down (#42). Nothing to do."
    sentence: str
    #: Users besides those who have acknowledged or own the alert, such as the user who closed it.
    answered: frozenset[int] = frozenset()
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
_ANSWERED = """
SELECT alert_id, user_id FROM alerts_acknowledgement WHERE alert_id = ANY(%(alerts)s)
UNION SELECT id, owner_id FROM alerts_alert WHERE id = ANY(%(alerts)s) AND owner_id IS NOT NULL
"""
_TOLD = """
SELECT alert_id, user_id, max(created_at) FROM notify_notification
WHERE alert_id = ANY(%(alerts)s) AND purpose = 'all_clear' GROUP BY alert_id, user_id
"""


def queue_all_clear(connection: Connection, over: Sequence[AlertEnded], now: datetime) -> list[AllClear]:
    """Queues one all-clear to each user who was paged about these alerts and has not responded, on the quietest channel
    used.

    A page that is being sent counts: its all-clear follows it, or is dropped if the page is never sent. A page with an
    unknown outcome counts too, since it may have woken the user.
    """
    if not over:
        return []
    by_alert = {entry.alert_id: entry for entry in over}
    wanted: dict[str, object] = {"alerts": list(by_alert)}
    paged = [PagedRecipient(**row) for row in database.rows(connection, _PAGED, wanted)]
    if not paged:
        return []
    answered = {alert_id: set(entry.answered) for alert_id, entry in by_alert.items()}
    for alert_id, user_id in connection.execute(_ANSWERED, wanted).fetchall():
        answered[alert_id].add(user_id)
    for entry in over:
        if entry.merged_into is not None:
            answered[entry.alert_id] |= answered[entry.merged_into]
            answered[entry.alert_id] |= {page.user_id for page in paged if page.alert_id == entry.merged_into}
    told = {(row[0], row[1]): row[2] for row in connection.execute(_TOLD, wanted).fetchall()}
    clears = planning.all_clears(
        paged, {key: frozenset(users) for key, users in answered.items()}, told, quietest_channel
    )
    rows = [
        NotificationRow(
            purpose=Purpose.ALL_CLEAR,
            channel=clear.channel,
            address=clear.address,
            label=clear.label,
            reason="You were paged about this alert and need to do nothing.",
            due_at=now,
            alert_id=clear.alert_id,
            user_id=clear.user_id,
            data={"news": by_alert[clear.alert_id].sentence},
        )
        for clear in clears
    ]
    write(connection, rows, now)
    return clears


def queue_ack_reminder(connection: Connection, asked: Sequence[tuple[int, int]], now: datetime) -> list[Unreachable]:
    """Queues the acknowledgement reminder "Still on it?" for each (alert id, user id), on every contact method without
    a wait, else on the first. Returns the users who cannot be asked.
    """
    people = people_of(connection, {user_id for _, user_id in asked})
    rows: list[NotificationRow] = []
    unreachable: list[Unreachable] = []
    for alert_id, user_id in asked:
        person = people.get(user_id)
        name = person.name if person else "Somebody"
        usable = [
            method
            for method in (person.methods if person and person.is_active else ())
            if method.is_enabled and address_problem(method.channel, method.address) is None
        ]
        if not usable:
            is_off = person is not None and not person.is_active
            why = "the account is switched off" if is_off else "no contact method can be used"
            reason = f"{name} acknowledged the alert and cannot be asked about it: {why}."
            unreachable.append(Unreachable(PageRequest(alert_id, now, reason, user_id), name, reason))
        rows += [
            NotificationRow(
                purpose=Purpose.STILL_ON_IT,
                channel=method.channel,
                address=method.address,
                label=method.label,
                reason="You acknowledged this alert a while ago.",
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

    title: str
    text: str
    #: Identifies the subject, to recognise later notices about the same thing.
    about: str = ""
    #: Why the recipients get it: a sentence.
    reason: str = ""
    alert_id: int | None = None
    #: The heading under which it can be bundled with others of its kind, such as "Nobody answered"; empty: never
    #: bundled.
    heading: str = ""


def queue_notice(
    connection: Connection,
    notice: Notice,
    now: datetime,
    *,
    user_ids: Collection[int] = (),
    addresses: Collection[str] = (),
) -> int:
    """Mails a notice to users, at their login address, and to plain addresses. Returns the number of recipients."""
    people = connection.execute(
        "SELECT id, email FROM people_user WHERE id = ANY(%s) AND is_active AND email <> '' ORDER BY id",
        (sorted(user_ids),),
    ).fetchall()
    targets: list[tuple[int | None, str]] = [(row[0], row[1]) for row in people]
    known = {address.lower() for _, address in targets}
    targets += [(None, address) for address in dict.fromkeys(addresses) if address.lower() not in known]
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
    found = database.row(
        connection,
        "SELECT m.label, m.channel, m.address FROM people_contactmethod m JOIN people_user u ON u.id = m.user_id "
        "WHERE m.user_id = %s AND lower(m.label) = lower(%s) AND m.is_enabled AND NOT m.awaits_code AND u.is_active",
        (user_id, label),
    )
    if found is None or address_problem(found["channel"], found["address"]):
        return False
    row = NotificationRow(
        purpose=Purpose.NOTICE,
        channel=found["channel"],
        address=found["address"],
        label=found["label"],
        reason=notice.reason,
        due_at=now,
        alert_id=notice.alert_id,
        user_id=user_id,
        data=notice_data(notice),
    )
    write(connection, [row], now)
    return True


def notice_data(notice: Notice) -> dict[str, str]:
    """Returns the data that the notification of a notice stores."""
    more = {"about": notice.about, "heading": notice.heading}
    return {"title": notice.title, "text": notice.text, **{name: text for name, text in more.items() if text}}


#: More than the difference between two nodes' clocks.
_APART = timedelta(seconds=5)


def administrators(connection: Connection) -> list[int]:
    """Returns the ids of the active administrators."""
    found = connection.execute("SELECT id FROM people_user WHERE role = 'admin' AND is_active ORDER BY id").fetchall()
    return [row[0] for row in found]


def was_noticed(
    connection: Connection, user_ids: Collection[int], about: str, now: datetime, within: timedelta
) -> bool:
    """Returns whether one of these users was sent a notice about the same thing within `within`. A notice dated in the
    future was sent before a clock rollback, at an unknown time, and does not count.
    """
    found = connection.execute(
        "SELECT 1 FROM notify_notification WHERE user_id = ANY(%s) AND purpose = 'notice' AND data->>'about' = %s "
        "AND created_at BETWEEN %s AND %s LIMIT 1",
        (sorted(user_ids), about, now - within, now + _APART),
    ).fetchone()
    return found is not None
