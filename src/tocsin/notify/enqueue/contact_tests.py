"""Tests of contact methods: queued as any message, and limited, because they cost money and ring phones."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem
from tocsin.notify.states import Purpose

#: A person's tests within so long: a test costs money, and a phone that never stops ringing helps nobody.
MAX_TESTS = 10
TESTS_WITHIN = timedelta(minutes=10)
#: Texts and calls among them, in a day.
MAX_PAID_TESTS = 20
_PAID = ("sms", "voice")


def queue_test(connection: Connection, user_id: int, contact_method_id: int, now: datetime) -> UUID:
    """Sends a test message by one of the user's contact methods; returns the notification's id, to look at later.

    Raises Rejected: `not_found`, `invalid_address`, or `too_many` within a few minutes.
    """
    found = database.row(
        connection,
        "SELECT label, channel, address, awaits_code FROM people_contactmethod WHERE id = %s AND user_id = %s",
        (contact_method_id, user_id),
    )
    if found is None:
        raise Rejected("not_found", "There is no such contact method.")
    if found["awaits_code"]:
        raise Rejected("not_confirmed", "Confirm this address first, by the code that is sent to it.")
    return _queue(connection, user_id, found["label"], found["channel"], found["address"], now)


def queue_group_test(connection: Connection, user_id: int, contact_id: int, now: datetime) -> UUID:
    """Sends a test to a group's contact; returns the notification's id. It counts as one of the user who asks.

    Who may is asked by the caller. Raises Rejected as `queue_test` does.
    """
    found = database.row(
        connection,
        "SELECT c.label, c.channel, c.address, g.name FROM people_groupcontact c "
        "JOIN people_group g ON g.id = c.group_id WHERE c.id = %s",
        (contact_id,),
    )
    if found is None:
        raise Rejected("not_found", "There is no such contact.")
    label = f"{found['name']}, {found['label']}"
    return _queue(connection, user_id, label, found["channel"], found["address"], now)


def _queue(connection: Connection, user_id: int, label: str, channel: str, address: str, now: datetime) -> UUID:
    if problem := address_problem(channel, address):
        raise Rejected("invalid_address", problem)
    _require_few_tests(connection, user_id, channel, now)
    row = NotificationRow(
        purpose=Purpose.TEST,
        channel=channel,
        address=address,
        label=label,
        reason="Somebody asked for this test.",
        due_at=now,
        user_id=user_id,
        data={
            "title": f"Tocsin test: {label} works",
            "text": f"This is a test by Tocsin. {label} works; there is nothing to do.",
        },
    )
    write(connection, [row], now)
    return row.id


_TESTS = """
SELECT count(*) FILTER (WHERE created_at > %(lately)s) AS lately,
       count(*) FILTER (WHERE created_at > %(day)s AND channel = ANY(%(paid)s)) AS paid
FROM notify_notification WHERE user_id = %(user)s AND id >= %(newest)s AND purpose = 'test' AND NOT data ? 'provider'
"""


def _require_few_tests(connection: Connection, user_id: int, channel: str, now: datetime) -> None:
    """Raises Rejected("too_many"). Holds the person's row, so that requests at one moment are counted one by one."""
    connection.execute("SELECT 1 FROM people_user WHERE id = %s FOR NO KEY UPDATE", (user_id,))
    day = now - timedelta(days=1)
    # The ids, which carry the machine's time, lead to the newest rows; the rows' own time decides.
    wanted = {
        "user": user_id, "newest": ids.first_uuid7(day - timedelta(days=1)), "day": day, "lately": now - TESTS_WITHIN,
        "paid": list(_PAID),
    }  # fmt: skip
    found = database.row(connection, _TESTS, wanted)
    if found is not None and found["lately"] >= MAX_TESTS:
        minutes = TESTS_WITHIN // timedelta(minutes=1)
        raise Rejected(
            "too_many", f"{MAX_TESTS} tests were sent within {minutes} minutes. Wait a little, then send another."
        )
    if found is not None and channel in _PAID and found["paid"] >= MAX_PAID_TESTS:
        raise Rejected(
            "too_many",
            f"{MAX_PAID_TESTS} texts and calls were sent as tests within a day, and each costs money. Try again "
            "tomorrow, or have an administrator test the provider.",
        )
