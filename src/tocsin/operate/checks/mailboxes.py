"""Checks the integrations' mailboxes by signing in to each, without reading anything."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from tocsin.core.errors import TocsinError
from tocsin.core.reasons import Reason
from tocsin.inbound.admin import secrets
from tocsin.inbound.email import imap_poller
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.operate.finding import HealthFinding

#: In seconds, for all mailboxes together.
DEADLINE = 20.0

_REMEDY = "Look at its address and password under Security, and whether this machine may connect to it."


def check() -> Iterator[HealthFinding]:
    """Yields the mailboxes that reject the sign-in or do not answer in time. Checks all in parallel."""
    pool = ThreadPoolExecutor(8, thread_name_prefix="doctor")
    pending: dict[str, Future[Reason]] = {}
    for integration in Integration.objects.exclude(credentials="").exclude(mode=IntegrationMode.DISABLED):
        imap = secrets.readable_credentials(integration).get("imap")
        if imap:
            pending[integration.name] = pool.submit(
                imap_poller.check_mailbox, imap["mailbox"], imap.get("password", "")
            )
    wait(pending.values(), DEADLINE)
    pool.shutdown(wait=False, cancel_futures=True)
    for name, future in pending.items():
        if (problem := _problem(future)) is not None:
            yield HealthFinding(
                "mailbox.refuses", f"The mailbox of {name} cannot be read: {problem}", _REMEDY, about=name
            )


def _problem(future: Future[Reason]) -> str | None:
    if not future.done():
        return f"it gave no answer within {DEADLINE:.0f} seconds."
    error = future.exception()
    if error is None:
        return None
    return str(error) if isinstance(error, TocsinError) else f"it cannot be asked ({type(error).__name__})."
