"""Queues notices: messages about something other than an alert that needs a response. Runs inside the caller's
transaction and sends nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Person, Reason, ReasonType, as_reason, reason_as_json
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.providers import health, pool
from tocsin.notify.providers.pool import provider_lookup
from tocsin.notify.registry import address_problem
from tocsin.notify.states import Purpose


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
    #: Whether it is about paging itself: it does not wait for a mail server that is down, but is also sent by the other
    #: contact methods.
    is_urgent: bool = False
    swap_id: int | None = None  # which the recipient is asked to accept or decline


@dataclass(frozen=True, slots=True)
class NoticeRecipients:
    """The names of a notice's recipients, and those that could not be notified, each with the reason."""

    names: tuple[str, ...] = ()
    missed: tuple[Reason, ...] = ()


_DISABLED = ReasonType("notice.recipient_disabled", "{user} is disabled")
_NO_EMAIL = ReasonType("notice.recipient_without_email", "{user} has no email address")
_NO_METHOD = ReasonType("notice.recipient_without_method", "{user} has no {method}")
_UNREACHABLE = ReasonType("notice.recipient_unreachable", "{recipient}: {problem}")


# Without a label: the login address.
_USERS = """
SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, u.is_active,
       CASE WHEN %(label)s = '' THEN 'E-mail' ELSE m.label END AS label,
       CASE WHEN %(label)s = '' THEN 'email' ELSE m.channel END AS channel,
       CASE WHEN %(label)s = '' THEN u.email ELSE m.address END AS address
FROM people_user u
LEFT JOIN people_contactmethod m ON m.user_id = u.id AND lower(m.label) = lower(%(label)s) AND m.is_enabled
     AND NOT m.awaits_code
WHERE u.id = ANY(%(users)s) ORDER BY array_position(%(users)s::bigint[], u.id)
"""

_CONTACTS = """
SELECT c.id, g.name || ': ' || c.label AS name, c.label, c.channel, c.address
FROM people_groupcontact c JOIN people_group g ON g.id = c.group_id
WHERE c.group_id = ANY(%s) ORDER BY g.name, c.position, c.id
"""


def queue_notice(
    connection: Connection,
    notice: Notice,
    now: datetime,
    *,
    user_ids: Collection[int] = (),
    label: str = "",
    contacts_of: Collection[int] = (),
    addresses: Collection[str] = (),
) -> NoticeRecipients:
    """Queues a notice to users on their contact method `label` ("": by e-mail to the login address), to every contact
    of the groups `contacts_of`, and to plain e-mail addresses that are not among these users' own. Uses three
    statements, regardless of the number of recipients.
    """
    rows: list[NotificationRow] = []
    missed: list[Reason] = []
    names: list[str] = []
    users = list(dict.fromkeys(user_ids))
    user_rows = database.rows(connection, _USERS, {"users": users, "label": label}) if users else []
    for row in user_rows:
        person = Person(row["name"], row["id"])
        if not row["is_active"]:
            missed.append(_DISABLED(user=person))
        elif not row["address"]:
            missed.append(_NO_METHOD(user=person, method=label) if label else _NO_EMAIL(user=person))
        elif problem := address_problem(row["channel"], row["address"]):
            missed.append(_UNREACHABLE(recipient=person, problem=problem))
        else:
            rows.append(_row(notice, row, now, user_id=row["id"]))
            names.append(row["name"])
    contacts = database.rows(connection, _CONTACTS, (sorted(contacts_of),)) if contacts_of else []
    for row in contacts:
        if problem := address_problem(row["channel"], row["address"]):
            missed.append(_UNREACHABLE(recipient=row["name"], problem=problem))
        else:
            rows.append(_row(notice, row, now, group_contact_id=row["id"]))
            names.append(row["name"])
    own_addresses = {row["address"].lower() for row in user_rows if row["is_active"] and row["address"]}
    for address in dict.fromkeys(addresses):
        if address.lower() not in own_addresses:
            rows.append(_row(notice, {"channel": "email", "address": address, "label": "E-mail"}, now))
            names.append(address)
    write(connection, rows, now)
    if notice.is_urgent and not label and names and not _is_mail_working(connection, rows[0].address):
        queue_otherwise(connection, notice, users, now)
    return NoticeRecipients(tuple(names), tuple(missed))


_OTHER_METHODS = """
SELECT m.user_id, m.label, m.channel, m.address FROM people_contactmethod m
JOIN people_user u ON u.id = m.user_id AND u.is_active
WHERE m.user_id = ANY(%s) AND m.channel <> 'email' AND m.is_enabled AND NOT m.awaits_code
ORDER BY m.user_id, m.channel = 'voice', m.position, m.id
"""


def queue_otherwise(connection: Connection, notice: Notice, user_ids: Collection[int], now: datetime) -> None:
    """Queues a notice that cannot be mailed to these users on their other contact methods that have a provider; a call
    only to a user who has nothing else. At most one for each user and subject an hour.
    """
    has_provider = provider_lookup(connection)
    about = f"{notice.about or notice.title.code}:otherwise"
    otherwise = replace(notice, about=about, is_urgent=False)
    rows: dict[int, list[NotificationRow]] = {}
    for row in database.rows(connection, _OTHER_METHODS, (list(user_ids),)):
        has_other = bool(rows.get(row["user_id"])) and row["channel"] == "voice"
        if not has_other and has_provider(row["channel"], row["address"]):
            rows.setdefault(row["user_id"], []).append(_row(otherwise, row, now, user_id=row["user_id"]))
    fresh = (user for user in rows if not was_noticed(connection, [user], about, now, _OTHERWISE_INTERVAL))
    write(connection, [row for user in fresh for row in rows[user]], now)


def _is_mail_working(connection: Connection, address: str) -> bool:
    return bool(set(pool.in_order(connection, "email", address)) - health.open_circuits(connection))


def _row(
    notice: Notice,
    target: Mapping[str, Any],
    now: datetime,
    *,
    user_id: int | None = None,
    group_contact_id: int | None = None,
) -> NotificationRow:
    return NotificationRow(
        purpose=Purpose.NOTICE,
        channel=target["channel"],
        address=target["address"],
        label=target["label"],
        reason=as_reason(notice.reason),
        due_at=now,
        alert_id=notice.alert_id,
        data=notice_data(notice),
        user_id=user_id,
        group_contact_id=group_contact_id,
    )


def notice_data(notice: Notice) -> dict[str, Any]:
    """Returns the data that the notification of a notice stores."""
    texts = {"title": notice.title, "text": notice.text} | ({"heading": notice.heading} if notice.heading else {})
    stored = {name: reason_as_json(text) for name, text in texts.items()}
    details: dict[str, Any] = {"about": notice.about} if notice.about else {}
    details |= {"urgent": True} if notice.is_urgent else {}
    return stored | details | ({"swap": notice.swap_id} if notice.swap_id else {})


#: A mail server that is down has each notice fail: people are told of the first by other means.
_OTHERWISE_INTERVAL = timedelta(hours=1)

#: More than the difference between two nodes' clocks.
_MAX_CLOCK_SKEW = timedelta(seconds=5)


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
