"""Checks the mailboxes: whether the last poll could read them, and whether they accept a sign-in now. Reads no mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.net.mailbox_errors import MailboxReader
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.runtime.daemon_threads import run_in_time
from tocsin.core.stored_reason import reason_in
from tocsin.inbound.admin import secrets
from tocsin.inbound.email import imap_poller
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.operate.finding import HealthFinding, reason_of_future

#: For all mailboxes together.
DEADLINE = timedelta(seconds=20)

_UNREADABLE = ReasonType("health.mailbox_unreadable", "Can't read the mailbox of {integration}: {error}")
_REPLIES_UNREAD = ReasonType("health.mailbox_replies_unread", "{provider} can't read email replies: {error}")
_UNREADABLE_REMEDY = ReasonType(
    "health.mailbox_unreadable_remedy",
    "Check its address and password on the Security tab, and whether this server can connect to it.",
)


_LAST_POLL = """
SELECT t.reads, coalesce(i.id, p.id) AS id, coalesce(i.name, p.name) AS name, t.reason_code, t.reason_data
FROM core_mailboxtrouble t
LEFT JOIN inbound_integration i ON t.reads = %(inbound)s AND i.id = t.number AND i.mode <> 'disabled'
LEFT JOIN notify_provider p ON t.reads = %(replies)s AND p.id = t.number AND p.is_enabled
WHERE i.id IS NOT NULL OR p.id IS NOT NULL ORDER BY t.reads, t.since, t.number
"""


def check_last_poll(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the mailboxes that could not be read at their last poll."""
    parameters: dict[str, object] = {"inbound": MailboxReader.INBOUND, "replies": MailboxReader.REPLIES}
    for row in database.rows(connection, _LAST_POLL, parameters):
        name, number, error = row["name"], row["id"], reason_in(row, "reason")
        if row["reads"] == MailboxReader.INBOUND:
            detail = _UNREADABLE(integration=name, error=error)
            yield HealthFinding(
                "mailbox.unread", detail, _UNREADABLE_REMEDY(), about=name, object_id=number, is_urgent=True
            )
        else:
            detail = _REPLIES_UNREAD(provider=name, error=error)
            yield HealthFinding("mailbox.replies_unread", detail, _UNREADABLE_REMEDY(), about=name, object_id=number)


def check() -> Iterator[HealthFinding]:
    """Yields the mailboxes that reject the sign-in or do not answer in time. Checks all in parallel."""
    checks: dict[str, Callable[[], Reason]] = {}
    for integration in Integration.objects.exclude(credentials="").exclude(mode=IntegrationMode.DISABLED):
        imap = secrets.readable_credentials(integration).get("imap")
        if imap:
            checks[integration.name] = partial(imap_poller.check_mailbox, imap["mailbox"], imap.get("password", ""))
    for name, future in run_in_time(checks, DEADLINE, name="doctor").items():
        if error := reason_of_future(future, DEADLINE):
            detail = _UNREADABLE(integration=name, error=error)
            yield HealthFinding("mailbox.refuses", detail, _UNREADABLE_REMEDY(), about=name)
