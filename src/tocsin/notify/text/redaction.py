"""Limits how much of an alert a channel's messages disclose: everything, client and subject, or only its number. Pure.

Operators and vendors can read text messages, calls and chats in transit.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from tocsin.core.reasons import as_reason
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.text import formatting
from tocsin.notify.text.phrases import phrase

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
    redacted = replace(message, alerts=tuple(_alert(alert, content_level) for alert in message.alerts))
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


def _alert(alert: AlertContent, content_level: ContentLevel) -> AlertContent:
    redacted = replace(
        alert, short_text="", long_text="", site="", team="", requester="", requester_phone="", is_vip=False
    )
    if content_level is ContentLevel.SUBJECT:
        return redacted
    # The link leads authorised users to the rest.
    subject = formatting.mark(alert) or f"Alert {alert.id}"
    return replace(redacted, subject=subject, client="", source_id="", source_url="", all_clear_text="")
