"""The worker's periodic tasks for notifications: the outbox, its leases, provider probes and mail replies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.dispatch import updates
from tocsin.notify.dispatch.claim import LEASES, OUTBOX
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.dispatch.results import IS_RECEIPT_OVERDUE
from tocsin.notify.dispatch.send import FOLDER, SentJournal
from tocsin.notify.inbound import mail_replies, receipts


def loops() -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of one process. After they have stopped, `close` finishes the sends in progress."""
    dispatcher = shared_dispatcher()
    return (
        # A hint starts it at once. Without one, delayed messages and retries are sent half a second late at most.
        PeriodicTask(
            "outbox",
            dispatcher.run_once,
            timedelta(milliseconds=500),
            frozenset({"outbox", "clock", "config"}),
            due=OUTBOX.is_due,
            is_busy=lambda: bool(dispatcher.in_flight.jobs()),
        ),
        PeriodicTask(
            "outbox leases",
            dispatcher.maintain_leases,
            timedelta(seconds=2),
            due=database.literal(f"({LEASES.is_any_held} OR {IS_RECEIPT_OVERDUE})"),
        ),
        PeriodicTask(
            "receipts",
            lambda: receipts.poll(dispatcher.provider_pool, clock.now),
            timedelta(seconds=1),
            frozenset({"receipts"}),
            due=database.literal(receipts.IS_DUE),
        ),
        PeriodicTask(
            "message updates",
            lambda: updates.run_once(dispatcher.provider_pool, clock.now()),
            timedelta(seconds=1),
            frozenset({updates.TOPIC}),
            due=database.literal(updates.IS_DUE),
        ),
        PeriodicTask("providers", dispatcher.probe_providers, timedelta(seconds=5)),
        mail_replies.loop(),
    )


_shared: DeliveryDispatcher | None = None


def shared_dispatcher() -> DeliveryDispatcher:
    """The process's dispatcher, created on first use."""
    global _shared
    if _shared is None:
        _shared = DeliveryDispatcher(journal=SentJournal(environment.current().data_dir / FOLDER))
    return _shared


def stuck_senders() -> Mapping[str, int]:
    """Returns how many sends of this process are stuck past their deadline, by provider."""
    return _shared.stuck_senders() if _shared is not None else {}


def close(timeout: float = 20.0) -> None:
    """Waits for sends in progress and records their results. Another process sends the rest again."""
    global _shared
    if _shared is not None:
        _shared.close(timeout)
        _shared = None
