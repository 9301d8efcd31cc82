"""Reports deliveries that failed for good: on the alert's timeline and to the administrators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from tocsin.alerts import store as alert_rows
from tocsin.alerts.commands import SYSTEM, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db.database import Connection
from tocsin.notify.dispatch.send import SendFailed
from tocsin.notify.enqueue import queue
from tocsin.notify.enqueue.queue import Notice
from tocsin.notify.registry import CHANNELS
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.rules.retry_policy import FailureKind
from tocsin.notify.states import Purpose

#: How often administrators are notified of the same kind of failure. Each alert shows its own failures.
NOTICE_INTERVAL = timedelta(minutes=15)

#: A failed notice causes no further notice; a user who runs a test sees it fail.
NOT_REPORTED = frozenset({Purpose.NOTICE, Purpose.TEST})


class FailedDelivery(Protocol):
    """A delivery that has failed for good."""

    @property
    def due(self) -> DueDelivery: ...
    @property
    def send_failure(self) -> SendFailed: ...
    @property
    def provider(self) -> str: ...
    @property
    def at(self) -> datetime: ...


def is_stuck(failure: FailureKind) -> bool:
    """Returns whether Tocsin itself failed, not a provider."""
    return failure in (FailureKind.INTERNAL_ERROR, FailureKind.WORKER_LOST)


def report_failures(connection: Connection, failures: Sequence[FailedDelivery]) -> None:
    """Writes an event on each alert concerned and mails the administrators once for all of them. Notices on other
    channels than e-mail fall back to e-mail.
    """
    if not failures:
        return
    alert_rows.insert_events(
        connection,
        [
            _event(entry)
            for entry in failures
            if entry.due.alert is not None and entry.due.purpose is not Purpose.NOTICE
        ],
    )
    for entry in failures:
        if entry.due.purpose is Purpose.NOTICE and entry.due.channel != "email" and entry.due.user_id is not None:
            _mail_instead(connection, entry.due, entry.due.user_id, entry.at)
    pages = [entry for entry in failures if entry.due.purpose not in NOT_REPORTED]
    for about in ("stuck", "failed"):
        matching = [entry for entry in pages if (about == "stuck") == is_stuck(entry.send_failure.kind)]
        if matching:
            _notify_administrators(connection, matching, about)


def _mail_instead(connection: Connection, due: DueDelivery, user_id: int, now: datetime) -> None:
    """Mails a notice to the user's login address instead."""
    reason = f"{due.notification_reason} It could not be sent by {_method_label(due)}, so it comes by mail."
    texts = {name: str(due.data.get(name, "")) for name in ("title", "text", "about", "heading")}
    notice = Notice(**texts, reason=reason.strip(), alert_id=due.alert.id if due.alert is not None else None)
    queue.queue_notice(connection, notice, now, user_ids=[user_id])


def _event(entry: FailedDelivery) -> NewEvent:
    due = entry.due
    assert due.alert is not None
    noun = _purpose_text(due)
    return NewEvent(
        due.alert.id,
        EventKind.PAGE_FAILED,
        entry.at,
        SYSTEM,
        f"{noun} could not be sent to {due.name}{_via_method(due)}: {_with_full_stop(entry.send_failure.error)}",
        CommandChannel.POLICY,
        {"delivery": str(due.id), "channel": due.channel, "provider": entry.provider},
    )


def _notify_administrators(connection: Connection, failures: Sequence[FailedDelivery], about: str) -> None:
    first = failures[0]
    admins = queue.administrators(connection)
    if not admins or queue.was_noticed(connection, admins, about, first.at, NOTICE_INTERVAL):
        return
    lines = [
        f"{_purpose_text(entry.due)}{_of_alert(entry.due)} could not be sent to "
        f"{entry.due.name}{_via_method(entry.due)}: "
        f"{_with_full_stop(entry.send_failure.error)}"
        for entry in failures[:20]
    ]
    if len(failures) > 20:
        lines.append(f"And {len(failures) - 20} more.")
    if about == "stuck":
        title, advice = "Tocsin itself cannot send a message", "This is a fault of Tocsin's: please report it."
    else:
        title, advice = (
            "A message could not be sent",
            "Look at the provider's page, and at the person's contact methods.",
        )
    frequency_hint = (
        f"You are told once in {NOTICE_INTERVAL // timedelta(minutes=1)} minutes; each alert shows its own."
    )
    reason = "You administer this installation."
    queue.queue_notice(
        connection,
        Notice(title, "\n".join([*lines, "", advice, frequency_hint]), about, reason),
        first.at,
        user_ids=admins,
    )


def _purpose_text(due: DueDelivery) -> str:
    match due.purpose:
        case Purpose.PAGE:
            return "A page"
        case Purpose.ALL_CLEAR:
            return "An all-clear"
        case Purpose.ACK_REMINDER:
            return 'The question "Still on it?"'
        case Purpose.NOTICE:
            return "A notice"
        case Purpose.TEST:
            return "A test"


def _of_alert(due: DueDelivery) -> str:
    return f" about alert #{due.alert.id}" if due.alert is not None else ""


def _via_method(due: DueDelivery) -> str:
    label = _method_label(due)
    return f" by {label}" if label != due.name else ""


def _method_label(due: DueDelivery) -> str:
    return due.label or (CHANNELS[due.channel].label if due.channel in CHANNELS else due.channel)


def _with_full_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
