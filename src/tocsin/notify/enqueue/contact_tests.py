"""Queues test messages to contact methods. Limited, because they cost money and ring phones."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, reason_as_json
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.registry import address_problem
from tocsin.notify.rules.delivery_reasons import TEST_REQUESTED, TEST_TEXT, TEST_TITLE
from tocsin.notify.states import Purpose
from tocsin.people.models import ContactMethod, GroupContact, User

#: The maximum number of tests per user within `TEST_WINDOW`.
MAX_TESTS = 10
TEST_WINDOW = timedelta(minutes=10)
#: The maximum number of texts and calls among them within a day.
MAX_PAID_TESTS = 20
_PAID = ("sms", "voice")

METHOD_NOT_FOUND = ReasonType("contact_method.unknown", "Contact method not found.")
_CONTACT_NOT_FOUND = ReasonType("group_contact.not_found", "Contact not found.")
_NOT_VERIFIED = ReasonType("contact_method.not_verified", "Verify this address first with the code sent to it.")
_TOO_MANY = ReasonType(
    "contact_method.too_many_tests",
    "{count} test was sent within {window}. Try again later.",
    "{count} tests were sent within {window}. Try again later.",
)
_TOO_MANY_PAID = ReasonType(
    "contact_method.too_many_paid_tests",
    "{count} test text or call was sent within a day, and each costs money. Try again tomorrow, or ask an "
    "administrator to test the provider.",
    "{count} test texts and calls were sent within a day, and each costs money. Try again tomorrow, or ask an "
    "administrator to test the provider.",
)


def queue_test(connection: Connection, method: ContactMethod, now: datetime) -> UUID:
    """Queues a test message to a user's contact method. Returns the notification's id, to query its outcome.

    Raises Rejected("not_found"), Rejected("not_confirmed"), Rejected("invalid_address") or Rejected("too_many").
    """
    stored = database.row(
        connection,
        "SELECT label, channel, address, awaits_code FROM people_contactmethod WHERE id = %s",
        (method.pk,),
    )
    if stored is None:
        raise Rejected("not_found", METHOD_NOT_FOUND())
    if stored["awaits_code"]:
        raise Rejected("not_confirmed", _NOT_VERIFIED())
    return _queue(connection, method.user_id, stored["label"], stored["channel"], stored["address"], now)


def queue_group_test(connection: Connection, contact: GroupContact, user: User, now: datetime) -> UUID:
    """Queues a test message to a group contact. Returns the notification's id. Counts against the limit of `user`, who
    asks for it. The caller checks permissions.

    Raises Rejected as `queue_test` does.
    """
    stored = database.row(
        connection,
        "SELECT c.label, c.channel, c.address, g.name FROM people_groupcontact c "
        "JOIN people_group g ON g.id = c.group_id WHERE c.id = %s",
        (contact.pk,),
    )
    if stored is None:
        raise Rejected("not_found", _CONTACT_NOT_FOUND())
    label = f"{stored['name']}, {stored['label']}"
    return _queue(connection, user.pk, label, stored["channel"], stored["address"], now)


def _queue(connection: Connection, user_id: int, label: str, channel: str, address: str, now: datetime) -> UUID:
    if problem := address_problem(channel, address):
        raise Rejected("invalid_address", problem)
    _require_few_tests(connection, user_id, channel, now)
    row = NotificationRow(
        purpose=Purpose.TEST,
        channel=channel,
        address=address,
        label=label,
        reason=TEST_REQUESTED(),
        due_at=now,
        user_id=user_id,
        data={"title": reason_as_json(TEST_TITLE(name=label)), "text": reason_as_json(TEST_TEXT(name=label))},
    )
    write(connection, [row], now)
    return row.id


_TESTS = """
SELECT count(*) FILTER (WHERE created_at > %(lately)s) AS lately,
       count(*) FILTER (WHERE created_at > %(day)s AND channel = ANY(%(paid)s)) AS paid
FROM notify_notification WHERE user_id = %(user)s AND id >= %(newest)s AND purpose = 'test' AND NOT data ? 'provider'
"""


def _require_few_tests(connection: Connection, user_id: int, channel: str, now: datetime) -> None:
    """Raises Rejected("too_many"). Locks the user's row, so that concurrent requests are counted one by one."""
    connection.execute("SELECT 1 FROM people_user WHERE id = %s FOR NO KEY UPDATE", (user_id,))
    day = now - timedelta(days=1)
    # Ids carry the machine's clock and lead to the newest rows; the rows' own time decides.
    parameters = {
        "user": user_id, "newest": ids.first_uuid7(day - timedelta(days=1)), "day": day, "lately": now - TEST_WINDOW,
        "paid": list(_PAID),
    }  # fmt: skip
    counts = database.row(connection, _TESTS, parameters)
    if counts is not None and counts["lately"] >= MAX_TESTS:
        raise Rejected("too_many", _TOO_MANY(count=MAX_TESTS, window=TEST_WINDOW))
    if counts is not None and channel in _PAID and counts["paid"] >= MAX_PAID_TESTS:
        raise Rejected("too_many", _TOO_MANY_PAID(count=MAX_PAID_TESTS))
