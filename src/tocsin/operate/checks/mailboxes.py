"""Checks the integrations' mailboxes by signing in to each, without reading anything."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta

from tocsin.core.reasons import ReasonType
from tocsin.inbound.admin import secrets
from tocsin.inbound.email import imap_poller
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.operate.finding import HealthFinding, reason_of_future

#: For all mailboxes together.
DEADLINE = timedelta(seconds=20)

_UNREADABLE = ReasonType("health.mailbox_unreadable", "The mailbox of {integration} cannot be read: {error}")
_UNREADABLE_REMEDY = ReasonType(
    "health.mailbox_unreadable_remedy",
    "Check its address and password under Security, and whether this machine may connect to it.",
)


def check() -> Iterator[HealthFinding]:
    """Yields the mailboxes that reject the sign-in or do not answer in time. Checks all in parallel."""
    pool = ThreadPoolExecutor(8, thread_name_prefix="doctor")
    pending: dict[str, Future[str]] = {}
    for integration in Integration.objects.exclude(credentials="").exclude(mode=IntegrationMode.DISABLED):
        imap = secrets.readable_credentials(integration).get("imap")
        if imap:
            pending[integration.name] = pool.submit(
                imap_poller.check_mailbox, imap["mailbox"], imap.get("password", "")
            )
    wait(pending.values(), DEADLINE.total_seconds())
    pool.shutdown(wait=False, cancel_futures=True)
    for name, future in pending.items():
        if error := reason_of_future(future, DEADLINE):
            detail = _UNREADABLE(integration=name, error=error)
            yield HealthFinding("mailbox.refuses", detail, _UNREADABLE_REMEDY(), about=name)
