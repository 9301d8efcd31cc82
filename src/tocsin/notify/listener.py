"""Queues all-clears when alerts change, in the same transaction. When an alert is assigned, closed or cancelled, every
user who was paged and has not responded is notified once. Does not cancel pages: escalation does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tocsin.alerts.commands import AlertChange, AlertState
from tocsin.alerts.states import TERMINAL, AlertStatus
from tocsin.alerts.store import load_alerts
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, AlertRef, Person, Reason, Text, sentence
from tocsin.notify.models import Delivery, LastSent, MailReply, MessageUpdate, Notification, OptOut, SandboxMessage
from tocsin.notify.pages import AlertEnded, queue_all_clear
from tocsin.notify.text import formatting
from tocsin.people.models import ContactMethod

MAX_SUBJECT_CHARS = 120

_CLOSED = Text("Closed")
_ASSIGNED = Text("Assigned to {owner}")


def all_clear(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The alert change handler: queues one all-clear per alert that needs no further responder."""
    ended = [(change, outcome) for change in changes if (outcome := _outcome(change)) is not None]
    if not ended:
        return
    alerts = load_alerts(connection, [n for change, _ in ended for n in _all_of(change)], "subject")
    subjects = {key: formatting.one_line(row["subject"], MAX_SUBJECT_CHARS) for key, row in alerts.items()}
    # Later entries overwrite earlier ones, so the last change of an alert decides.
    endings = {
        number: AlertEnded(
            number,
            _all_clear(outcome, subjects.get(number, ""), number),
            _responder_ids(change),
            merged_into=None if number == change.alert_id else change.alert_id,
        )
        for change, outcome in ended
        for number in _all_of(change)
    }
    queue_all_clear(connection, list(endings.values()), now)


def _all_of(change: AlertChange) -> tuple[int, ...]:
    """The alert and the alerts merged into it, which need no responder any more either."""
    assert change.before is not None
    return (*change.before.children, change.alert_id)


def _all_clear(outcome: Reason, subject: str, alert_id: int) -> Reason:
    alert = AlertRef(alert_id)
    if not subject:
        return sentence("{outcome}: alert #{alert}. Nothing to do.", outcome=outcome, alert=alert)
    return sentence("{outcome}: {subject} (#{alert}). Nothing to do.", outcome=outcome, subject=subject, alert=alert)


def _outcome(change: AlertChange) -> Reason | None:
    """Returns the start of the all-clear, such as "Assigned to Alice"; None if somebody is still needed."""
    before, after = change.before, change.after
    if before is None or before.status in TERMINAL:
        return None
    if before.status is AlertStatus.MERGED and after.status not in TERMINAL:
        return None
    # Without a name if no event says who did it.
    actors = [event.actor for event in change.events[-1:]]
    by = next((Person(formatting.one_line(actor.name, 60), actor.user_id) for actor in actors), Person(""))
    match after.status:
        case AlertStatus.CLOSED:
            return sentence("Closed by {user}", user=by) if by.name else _CLOSED()
        case AlertStatus.CANCELLED if by.name:
            return sentence("Closed as false alarm by {user}", user=by)
        case AlertStatus.CANCELLED:
            return sentence("Closed as false alarm")
        case AlertStatus.MERGED:
            return None
        case _ if after.is_owned and _owner(before) != _owner(after):
            owner = Person(formatting.one_line(after.owner_name, 60), after.owner_id)
            if by.name in ("", owner.name):
                return _ASSIGNED(owner=owner)
            return sentence("Assigned to {owner} by {user}", owner=owner, user=by)
        case _:
            return None


def _owner(state: AlertState) -> tuple[int | None, str]:
    return state.owner_id, "" if state.owner_id is not None else state.owner_name


def _responder_ids(change: AlertChange) -> frozenset[int]:
    """The ids of the users who had responded before or who caused this change. They need no all-clear."""
    assert change.before is not None
    states = (change.before, change.after)
    user_ids = {user for state in states for user in state.acknowledged}
    user_ids |= {state.owner_id for state in states if state.owner_id is not None}
    user_ids |= {event.actor.user_id for event in change.events if event.actor.user_id is not None}
    return frozenset(user_ids)


# ---------- erasure
# Erases personal data when a user account is deleted: the addresses of sent messages, sandbox messages and mail
# senders. The record that the user was paged, and of the user's actions, remains.


def erase_user(user_id: int) -> None:
    """Erases the user's addresses and sandbox messages. Runs inside the caller's transaction, before the account row is
    deleted. An opt-out is kept while another user has the same contact method.
    """
    notifications = Notification.objects.filter(user=user_id)
    deliveries = Delivery.objects.filter(notification__in=notifications.values("pk"))
    MessageUpdate.objects.filter(delivery__in=deliveries.values("pk")).delete()
    deliveries.update(address="", error=NO_REASON)
    notifications.update(address="")
    SandboxMessage.objects.filter(user=user_id).delete()
    LastSent.objects.filter(recipient=user_id).delete()
    MailReply.objects.filter(user=user_id).update(sender="", reason=NO_REASON)
    for channel, address in ContactMethod.objects.filter(user=user_id).values_list("channel", "address"):
        if not ContactMethod.objects.filter(channel=channel, address=address).exclude(user=user_id).exists():
            OptOut.objects.filter(channel=channel, address=address).delete()
