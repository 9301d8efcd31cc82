"""The loops by which a worker sends: the outbox, and the leases of what it is sending."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.mail_replies import poller as mail_replies


def loops(outbox: DeliveryDispatcher | None = None) -> tuple[PeriodicTask, ...]:
    """The loops of one process. When the worker has stopped, `close` finishes what is on its way."""
    box = outbox or shared()
    return (
        # Hints wake it at once; without one, waits and repeats leave within half a second of their time.
        PeriodicTask("outbox", box.turn, timedelta(milliseconds=500), frozenset({"outbox", "clock", "config"})),
        PeriodicTask("outbox leases", box.keep_leases, timedelta(seconds=2)),
        PeriodicTask("providers", box.ask_providers, timedelta(seconds=5)),
        mail_replies.loop(),
    )


_shared: DeliveryDispatcher | None = None


def shared() -> DeliveryDispatcher:
    """The process's outbox, made when it is first asked for."""
    global _shared
    if _shared is None:
        _shared = DeliveryDispatcher()
    return _shared


def stuck_senders() -> Mapping[str, int]:
    """How many sends of this process hang past their deadline, by provider."""
    return _shared.stuck_senders() if _shared is not None else {}


def close(timeout: float = 20.0) -> None:
    """Lets what is on its way end, for `timeout` seconds at most, and writes it down. What is not done by then is sent
    again by another process."""
    global _shared
    if _shared is not None:
        _shared.close(timeout)
        _shared = None
