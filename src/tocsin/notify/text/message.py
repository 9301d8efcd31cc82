"""Builds the message of a bundle of deliveries, with its links. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from tocsin.core.reasons import NO_REASON, as_reason, reason_from_json
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.rules.pre_send_check import DeliveryBundle, DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting
from tocsin.notify.text.phrases import alert_count, phrase

#: Returns the URL where a user (None: anyone who signs in) can act on an alert (None: on all that paged the user):
#: `(alert_id, user_id) → url`.
type LinkTo = Callable[[int | None, int | None], str]

_ACTIONABLE = (Purpose.PAGE, Purpose.ACK_REMINDER)


def message(bundle: DeliveryBundle, link_to: LinkTo, home_url: str, now: datetime, *, can_reply: bool) -> Message:
    """Returns the message of `bundle`, in the active language and time zone. `home_url` is Tocsin's public address."""
    lead = bundle.lead
    # An alert with several pages in the bundle is named once.
    alerts = {due.alert.id: due for due in bundle.members if due.alert is not None}
    is_bundle = len(alerts) > 1
    # The most urgent alerts come first. If there is no room for all, the least urgent are left out.
    named_deliveries = sorted(alerts.values(), key=lambda due: due.alert.priority.rank if due.alert else 0)
    named_deliveries = named_deliveries[: bundle.named_count or None]
    title, text = _text(lead, "title"), _text(lead, "text")
    if is_bundle and lead.purpose is Purpose.NOTICE:
        title, text = _bundled_notice_texts(alerts.values(), lead.language)
    return Message(
        notification_id=lead.notification_id,
        purpose=lead.purpose,
        at=now,
        recipient=lead.user_name,
        time_zone=lead.time_zone,
        alerts=tuple(content for due in named_deliveries if (content := _alert(due, link_to)) is not None),
        title=title,
        text=text,
        reason=NO_REASON if is_bundle else lead.notification_reason,
        home_url=link_to(None, lead.user_id if lead.purpose in _ACTIONABLE else None) if is_bundle else home_url,
        can_reply=can_reply,
        language=lead.language,
        omitted_count=len(alerts) - len(named_deliveries),
    )


def _bundled_notice_texts(members: Collection[DueDelivery], language: str) -> tuple[str, str]:
    """Returns the title and text of several notices, such as "Nobody answered: 160 alerts"."""
    counts: dict[str, int] = {}
    for due in members:
        heading = _text(due, "heading")
        counts[heading] = counts.get(heading, 0) + 1
    title = ", ".join(f"{heading}: {alert_count(language, count)}" for heading, count in counts.items())
    return title, "\n".join(dict.fromkeys(_text(due, "text") for due in members))


def _text(due: DueDelivery, name: str) -> str:
    """Returns a text of the notification."""
    return reason_from_json(due.data.get(name)).localized()


def _alert(due: DueDelivery, link_to: LinkTo) -> AlertContent | None:
    alert = due.alert
    if alert is None:
        return None
    return AlertContent(
        id=alert.id,
        priority=alert.priority,
        subject=alert.subject,
        short_text=alert.short_text,
        long_text=alert.long_text or str(alert.custom.get("details", "")),
        client=alert.client,
        site=alert.site,
        team=alert.team,
        source=alert.source,
        source_id=alert.source_id,
        source_url=alert.source_url,
        requester=alert.requester,
        requester_phone=alert.requester_phone,
        is_vip=str(alert.custom.get("vip", "")).lower() in ("true", "1", "yes"),
        is_test=alert.is_test,
        count=alert.count,
        opened_at=alert.opened_at,
        respond_by=alert.respond_by,
        fix_by=alert.fix_by,
        link=link_to(alert.id, due.user_id if due.purpose in _ACTIONABLE else None),
        all_clear_text=_text(due, "news"),
    )


# ---------- redaction
# Limits how much of an alert a channel's messages disclose: everything, client and subject, or only its number. Pure.
#
# Operators and vendors can read text messages, calls and chats in transit.


#: A shorter client or subject, such as "a", would match in the middle of words.
_MIN_REDACTED_CHARS = 3


class ContentLevel(StrEnum):
    """How much of an alert a message may disclose."""

    FULL = "full"
    SUBJECT = "subject"
    NUMBER = "number"


def redact(message: Message, content_level: ContentLevel) -> Message:
    """Returns the message reduced to the permitted content."""
    if content_level is ContentLevel.FULL:
        return message
    redacted = replace(message, alerts=tuple(_alert_redaction(alert, content_level) for alert in message.alerts))
    if content_level is ContentLevel.SUBJECT:
        return redacted
    # The text of a notice was written with the subject in it, so it is replaced there too.
    return replace(
        redacted,
        title=_replace_names(message.title, message),
        text=_replace_names(message.text, message),
        reason=as_reason(_replace_names(message.reason.localized(), message)),
    )


def _replace_names(text: str, message: Message) -> str:
    for alert in message.alerts:
        number = phrase(message.language, "alert {number}", number=alert.id)
        names = [f"{alert.client}: {alert.subject}", alert.subject, formatting.one_line(alert.subject), alert.client]
        for name in names:
            if len(name) >= _MIN_REDACTED_CHARS:
                text = text.replace(name, number)
    return text


def _alert_redaction(alert: AlertContent, content_level: ContentLevel) -> AlertContent:
    redacted = replace(
        alert, short_text="", long_text="", site="", team="", requester="", requester_phone="", is_vip=False
    )
    if content_level is ContentLevel.SUBJECT:
        return redacted
    # The link leads authorised users to the rest.
    subject = formatting.mark(alert) or f"Alert {alert.id}"
    return replace(redacted, subject=subject, client="", source_id="", source_url="", all_clear_text="")
