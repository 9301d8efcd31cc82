"""Queues a notice to several users and group contacts, on a chosen contact method. Runs inside the caller's transaction
and sends nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Person, Reason, ReasonType, as_reason
from tocsin.notify.enqueue.queue import Notice, notice_data
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem
from tocsin.notify.states import Purpose


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


def queue_notices(
    connection: Connection,
    notice: Notice,
    now: datetime,
    *,
    user_ids: Sequence[int] = (),
    label: str = "",
    contacts_of: Collection[int] = (),
) -> NoticeRecipients:
    """Queues a notice to users on their contact method `label` ("": by e-mail to the login address), and to every
    contact of the groups `contacts_of`. Uses three statements, regardless of the number of recipients.
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
    write(connection, rows, now)
    return NoticeRecipients(tuple(names), tuple(missed))


def _row(
    notice: Notice,
    target: dict[str, Any],
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
