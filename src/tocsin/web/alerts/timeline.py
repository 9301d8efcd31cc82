"""An alert's timeline: its events, notifications and their results, and repeated messages that were only counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Model, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.reasons import Reason
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import InboundMessage
from tocsin.notify.interfaces import ReceiptState
from tocsin.notify.models import Delivery, Notification
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.web.ui.forms import channel_name

#: Number of newest events, notifications and messages shown initially, and after "show all".
INITIAL_ENTRIES = 300
MAX_ENTRIES = 2000


# Hebrew, Arabic and related scripts, with their presentation forms.
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_SEPARATORS = re.compile(" → |; ")


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of the timeline."""

    at: datetime
    #: Colour of the line's marker: `now`, `ok`, `wait`, `accent` or empty.
    tone: str
    title: str
    detail: str = ""
    #: Text that a user wrote.
    quote: str = ""
    #: The inbound message behind the line.
    message: InboundMessage | None = None


@dataclass(frozen=True, slots=True)
class AlertTimeline:
    """The timeline of one alert."""

    #: Newest first. The entries go back to a moment after which nothing is missing.
    entries: Sequence[TimelineEntry]
    paged: Sequence[NotifiedPerson]
    #: Newest first.
    messages: Sequence[InboundMessage]
    more_messages: bool
    #: Whether there are older entries.
    is_cut: bool


@dataclass(frozen=True, slots=True)
class NotifiedPerson:
    """A user or group contact who was paged about the alert, with channels and result."""

    name: str
    channels: str
    result: str
    #: `ok`, `now` or empty.
    tone: str


_TONES = {
    EventKind.OPENED: "now",
    EventKind.REOPENED: "now",
    EventKind.ACKNOWLEDGED: "ok",
    EventKind.ASSIGNED: "ok",
    EventKind.CLOSED: "ok",
    EventKind.CANCELLED: "ok",
    EventKind.STEP_FIRED: "accent",
    EventKind.ESCALATION_STARTED: "accent",
    EventKind.ACK_REMINDER_SENT: "accent",
    EventKind.NOTICE_SENT: "accent",
    EventKind.REPLIED: "accent",
    EventKind.WORKFLOW: "accent",
    EventKind.ESCALATED: "accent",
    EventKind.ESCALATION_EXHAUSTED: "now",
    EventKind.STEP_EMPTY: "now",
    EventKind.PAGE_FAILED: "now",
    EventKind.ACKNOWLEDGEMENT_EXPIRED: "wait",
    EventKind.PUT_ON_HOLD: "wait",
    EventKind.GROUP_JOINED: "wait",
    EventKind.GROUP_MEMBER_ENDED: "ok",
    EventKind.UNASSIGNED: "wait",
    EventKind.UNACKNOWLEDGED: "wait",
    EventKind.UPDATED: "",
}


def read(alert: Alert, now: datetime, limit: int = INITIAL_ENTRIES) -> AlertTimeline:
    """Return the timeline, the recipients and the newest messages, at most `limit` of each kind, in three SQL
    statements."""
    events, more_events = _newest(AlertEvent.objects.filter(alert=alert), limit)
    pages = Notification.objects.filter(alert=alert).select_related("user", "group_contact")
    notifications, more_notifications = _newest(pages.prefetch_related("deliveries"), limit)
    messages, more_messages = _newest(InboundMessage.objects.filter(alert=alert).defer("raw", "headers"), limit)
    # If one kind of entry is only complete from some moment on, all kinds are cut there, so that no period is
    # misleading.
    cutoffs = [
        *([events[-1].at] if more_events else []),
        *([notifications[-1].created_at] if more_notifications else []),
        *([messages[-1].received_at] if more_messages else []),
    ]
    # A message that was added to the alert already has a line for its event.
    linked_message_ids = {event.data.get("message_id") for event in events if event.data}
    entries = [
        *(_event_entry(event) for event in events),
        *(entry for notification in notifications for entry in _notification_entries(notification, now)),
        *(
            _message_entry(alert, message)
            for message in messages
            if message.status == MessageStatus.APPENDED and str(message.pk) not in linked_message_ids
        ),
    ]
    # A stable sort: among entries of the same moment the later one in this order stays on top.
    entries.sort(key=lambda entry: entry.at, reverse=True)
    complete_entries = [entry for entry in entries if not cutoffs or entry.at >= max(cutoffs)]
    return AlertTimeline(complete_entries, _paged(notifications), messages, more_messages, bool(cutoffs))


def _newest[Row: Model](rows: QuerySet[Row], limit: int) -> tuple[list[Row], bool]:
    """Return the newest rows, and whether there are more."""
    newest_rows = list(rows.order_by("-pk")[: limit + 1])
    return newest_rows[:limit], len(newest_rows) > limit


def _event_entry(event: AlertEvent) -> TimelineEntry:
    data = event.data or {}
    quote = str(data.get("text") or "")
    via = {
        CommandChannel.EMAIL: _("by email"),
        CommandChannel.API: _("through the API"),
        CommandChannel.SMS: _("by SMS"),
        CommandChannel.VOICE: _("on the phone"),
        CommandChannel.PUSH: _("by push"),
        CommandChannel.CHAT: _("in the chat"),
        CommandChannel.HALO: _("in Halo"),
    }.get(CommandChannel(event.via) if event.via in set(CommandChannel) else CommandChannel.WEB, "")
    first, more = _lines(event.reason)
    # The step's condition did not match, or its users are already being paged: neither is a problem.
    is_informational = bool(data.get("left_out") or data.get("busy"))
    return TimelineEntry(
        event.at,
        "" if is_informational else _TONES.get(_kind(event), ""),
        add_direction_marks(first) or event.kind,
        more or via,
        quote,
    )


def _lines(reason: Reason) -> tuple[str, str]:
    """Return the first line of a reason and the rest, in the reader's language."""
    first, _separator, more = reason.localized().partition("\n")
    return first, more


def add_direction_marks(text: str) -> str:
    """Add left-to-right marks around arrows and semicolons if the sentence contains right-to-left text, so that the old
    value remains in front of the new one."""
    return _SEPARATORS.sub("\u200e\\g<0>\u200e", text) if _RIGHT_TO_LEFT.search(text) else text


def _kind(event: AlertEvent) -> EventKind:
    return EventKind(event.kind) if event.kind in set(EventKind) else EventKind.UPDATED


def _message_entry(alert: Alert, message: InboundMessage) -> TimelineEntry:
    title = _("%(source)s sent it again; counted, no page") % {"source": alert.source or _("The source")}
    return TimelineEntry(
        message.received_at, "wait", title, f"{message.status}: {message.reason.localized()}", message=message
    )


def _notification_entries(notification: Notification, now: datetime) -> Iterable[TimelineEntry]:
    channel = channel_name(notification.channel)
    recipient_name = recipient(notification)
    for delivery in notification.deliveries.all():
        yield _delivery_entry(notification, delivery, f"{channel} → {recipient_name}", now)


def _delivery_entry(notification: Notification, delivery: Delivery, heading: str, now: datetime) -> TimelineEntry:
    purpose_suffix = "" if delivery.purpose == Purpose.PAGE else f" ({_purpose(Purpose(delivery.purpose))})"
    reason = (delivery.reason or notification.reason).localized()
    match DeliveryStatus(delivery.status):
        case DeliveryStatus.SENT | DeliveryStatus.DELIVERED:
            at = delivery.sent_at or delivery.queued_at
            tone = "wait" if delivery.receipt == ReceiptState.NOT_REACHED else "ok"
            return TimelineEntry(
                at, tone, f"{heading}: {_result_text(delivery)}{purpose_suffix}", _provider(delivery, notification)
            )
        case DeliveryStatus.FAILED:
            at = delivery.ended_at or delivery.due_at
            parts = [delivery.provider_name, delivery.error.localized(), reason]
            return TimelineEntry(
                at, "now", f"{heading}: {_('not sent')}{purpose_suffix}", " · ".join(part for part in parts if part)
            )
        case DeliveryStatus.SANDBOXED:
            at = delivery.ended_at or delivery.due_at
            return TimelineEntry(at, "now", f"{heading}: {_('no provider')}{purpose_suffix}", reason)
        case DeliveryStatus.CANCELLED:
            at = delivery.ended_at or delivery.due_at
            return TimelineEntry(at, "", f"{heading}: {_('cancelled')}{purpose_suffix}", reason)
        case DeliveryStatus.QUEUED if delivery.due_at > now:
            until = timezone.localtime(delivery.due_at)
            status_text = _("waits until %(time)s") % {"time": f"{until:%H:%M:%S}"}
            return TimelineEntry(
                delivery.queued_at,
                "wait",
                f"{heading}: {status_text}{purpose_suffix}",
                delivery.error.localized() or reason,
            )
        case DeliveryStatus.QUEUED | DeliveryStatus.SENDING:
            return TimelineEntry(
                delivery.queued_at,
                "accent",
                f"{heading}: {_('on its way')}{purpose_suffix}",
                delivery.error.localized() or reason,
            )


def _result_text(delivery: Delivery) -> str:
    match delivery.receipt:
        case ReceiptState.ANSWERED:
            return _("answered")
        case ReceiptState.NOT_REACHED:
            return _("no one reached")
        case _:
            return _("delivered") if delivery.status == DeliveryStatus.DELIVERED else _("sent")


def _provider(delivery: Delivery, notification: Notification) -> str:
    if delivery.provider_name == "sandbox":
        return _("Kept in the sandbox; not sent")
    parts = [delivery.provider_name]
    if delivery.sent_at:
        seconds = (delivery.sent_at - delivery.due_at).total_seconds()
        parts.append(_("%(seconds).1f s late") % {"seconds": max(0.0, seconds)})
    parts += [delivery.reason.localized(), notification.reason.localized()]
    return " · ".join(part for part in parts if part)


def _paged(notifications: Sequence[Notification]) -> list[NotifiedPerson]:
    """Return each recipient once, in the order in which they were first paged."""
    by_recipient: dict[str, list[Notification]] = {}
    for notification in reversed(notifications):
        if notification.purpose == Purpose.PAGE:
            by_recipient.setdefault(recipient(notification), []).append(notification)
    return [_notified_person(name, recipient_notifications) for name, recipient_notifications in by_recipient.items()]


def _notified_person(name: str, notifications: Sequence[Notification]) -> NotifiedPerson:
    channels = ", ".join(dict.fromkeys(channel_name(n.channel) for n in notifications))
    deliveries = [delivery for n in notifications for delivery in n.deliveries.all()]
    states = {delivery.status for delivery in deliveries}
    receipts = {d.receipt for d in deliveries if d.status in (DeliveryStatus.SENT, DeliveryStatus.DELIVERED)}
    if ReceiptState.ANSWERED in receipts:
        result, tone = _("answered"), "ok"
    elif DeliveryStatus.DELIVERED in states:
        result, tone = _("delivered"), "ok"
    elif receipts == {ReceiptState.NOT_REACHED}:
        result, tone = _("no one reached"), "wait"
    elif DeliveryStatus.SENT in states:
        result, tone = _("sent"), "ok"
    elif states & {DeliveryStatus.QUEUED, DeliveryStatus.SENDING}:
        result, tone = _("waiting"), ""
    elif DeliveryStatus.FAILED in states:
        result, tone = _("failed"), "now"
    elif DeliveryStatus.SANDBOXED in states:
        result, tone = _("no provider"), "now"
    else:
        result, tone = _("cancelled"), ""
    return NotifiedPerson(name, channels, result, tone)


def recipient(notification: Notification) -> str:
    """Return the recipient's display name."""
    if notification.user is not None:
        return notification.user.display_name
    if notification.group_contact is not None:
        return notification.group_contact.label
    return notification.label or _("a deleted user")


def _purpose(purpose: Purpose) -> str:
    match purpose:
        case Purpose.PAGE:
            return _("page")
        case Purpose.ALL_CLEAR:
            return _("all clear")
        case Purpose.ACK_REMINDER:
            return _("acknowledgement reminder")
        case Purpose.NOTICE:
            return _("notice")
        case Purpose.TEST:
            return _("test")
