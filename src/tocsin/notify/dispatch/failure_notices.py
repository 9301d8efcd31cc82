"""Reports deliveries that failed for good: on the alert's timeline and to the administrators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from tocsin.alerts import store as alert_rows
from tocsin.alerts.commands import SYSTEM, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db.database import Connection
from tocsin.core.delivery.failure import AttemptFailed, FailureKind
from tocsin.core.reasons import AlertRef, Reason, ReasonType, joined, reason_from_json
from tocsin.notify.enqueue.notices import Notice, queue_notice, queue_otherwise, was_noticed
from tocsin.notify.enqueue.recipients import load_administrators
from tocsin.notify.registry import CHANNELS
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose

#: How often administrators are notified of the same kind of failure. Each alert shows its own failures.
NOTICE_INTERVAL = timedelta(minutes=15)

#: A failed notice causes no further notice; a user who runs a test sees it fail.
NOT_REPORTED = frozenset({Purpose.NOTICE, Purpose.TEST})


#: The maximum number of failures that one notice names.
MAX_NAMED_FAILURES = 20

_STUCK_TITLE = ReasonType("notice.tocsin_cannot_send", "Internal error while sending a message")
_STUCK_ADVICE = ReasonType("notice.report_fault", "This is a bug in Tocsin. Please report it.")
_FAILED_TITLE = ReasonType("notice.message_not_sent", "A message could not be sent")
_FAILED_ADVICE = ReasonType("notice.check_provider", "Check the provider, and the contact methods of the recipient.")
_MORE_FAILURES = ReasonType("notice.more_failures", "And {more} more.")
_FREQUENCY = ReasonType(
    "notice.failure_frequency", "You are notified at most once per {interval}. All failures are listed on each alert."
)


class FailedDelivery(Protocol):
    """A delivery that has failed for good."""

    @property
    def due(self) -> DueDelivery: ...
    @property
    def send_failure(self) -> AttemptFailed: ...
    @property
    def provider(self) -> str: ...
    @property
    def at(self) -> datetime: ...


def is_stuck(failure: FailureKind) -> bool:
    """Returns whether Tocsin itself failed, not a provider."""
    return failure in (FailureKind.INTERNAL_ERROR, FailureKind.WORKER_LOST)


def report_failures(connection: Connection, failures: Sequence[FailedDelivery]) -> None:
    """Writes an event on each alert concerned and mails the administrators once for all of them. Notices on other
    channels than e-mail fall back to e-mail, and urgent ones by e-mail to the other contact methods.
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
        if entry.due.purpose is not Purpose.NOTICE or entry.due.user_id is None:
            continue
        if entry.due.channel != "email":
            _mail_instead(connection, entry.due, entry.due.user_id, entry.at)
        elif entry.due.data.get("urgent"):
            queue_otherwise(connection, _notice_of(entry.due), [entry.due.user_id], entry.at)
    pages = [entry for entry in failures if entry.due.purpose not in NOT_REPORTED]
    for about in ("stuck", "failed"):
        matching = [entry for entry in pages if (about == "stuck") == is_stuck(entry.send_failure.kind)]
        if matching:
            _notify_administrators(connection, matching, about)


def _mail_instead(connection: Connection, due: DueDelivery, user_id: int, now: datetime) -> None:
    """Mails a notice to the user's login address instead."""
    instead = delivery_reasons.EMAILED_INSTEAD(method=_method_label(due))
    notice = replace(_notice_of(due), reason=joined(due.notification_reason, instead, separator=" "))
    queue_notice(connection, notice, now, user_ids=[user_id])


def _notice_of(due: DueDelivery) -> Notice:
    return Notice(
        title=reason_from_json(due.data.get("title")),
        text=reason_from_json(due.data.get("text")),
        about=str(due.data.get("about", "")),
        reason=due.notification_reason,
        alert_id=due.alert.id if due.alert is not None else None,
        heading=reason_from_json(due.data.get("heading")),
    )


def _event(entry: FailedDelivery) -> NewEvent:
    due = entry.due
    assert due.alert is not None
    return NewEvent(
        due.alert.id,
        EventKind.PAGE_FAILED,
        entry.at,
        SYSTEM,
        _unsent(entry, _purpose(due)),
        CommandChannel.POLICY,
        {"delivery": str(due.id), "channel": due.channel, "provider": entry.provider},
    )


def _notify_administrators(connection: Connection, failures: Sequence[FailedDelivery], about: str) -> None:
    first = failures[0]
    admins = load_administrators(connection)
    if not admins or was_noticed(connection, admins, about, first.at, NOTICE_INTERVAL):
        return
    lines = [_unsent(entry, _about_alert(entry.due)) for entry in failures[:MAX_NAMED_FAILURES]]
    if len(failures) > MAX_NAMED_FAILURES:
        lines.append(_MORE_FAILURES(more=len(failures) - MAX_NAMED_FAILURES))
    title, advice = (_STUCK_TITLE, _STUCK_ADVICE) if about == "stuck" else (_FAILED_TITLE, _FAILED_ADVICE)
    hints = joined(advice(), _FREQUENCY(interval=NOTICE_INTERVAL), separator="\n")
    text = joined(joined(*lines, separator="\n"), hints, separator="\n\n")
    notice = Notice(title(), text, about, delivery_reasons.IS_ADMINISTRATOR(), is_urgent=True)
    queue_notice(connection, notice, first.at, user_ids=admins)


def _unsent(entry: FailedDelivery, message: Reason) -> Reason:
    due, label = entry.due, _method_label(entry.due)
    if label == due.name:
        return delivery_reasons.UNSENT(message=message, recipient=due.recipient, error=entry.send_failure.error)
    return delivery_reasons.UNSENT_BY(
        message=message, recipient=due.recipient, method=label, error=entry.send_failure.error
    )


def _purpose(due: DueDelivery) -> Reason:
    match due.purpose:
        case Purpose.PAGE:
            return delivery_reasons.PAGE()
        case Purpose.ALL_CLEAR:
            return delivery_reasons.ALL_CLEAR()
        case Purpose.ACK_REMINDER:
            return delivery_reasons.ACK_REMINDER()
        case Purpose.NOTICE:
            return delivery_reasons.NOTICE()
        case Purpose.TEST:
            return delivery_reasons.TEST()


def _about_alert(due: DueDelivery) -> Reason:
    if due.alert is None:
        return _purpose(due)
    return delivery_reasons.ABOUT_ALERT(message=_purpose(due), alert=AlertRef(due.alert.id))


def _method_label(due: DueDelivery) -> str:
    return due.label or (CHANNELS[due.channel].label if due.channel in CHANNELS else due.channel)
