"""How much of an alert a channel's messages say: everything, client and subject, or its number only. Pure.

What leaves the house by text message, call or chat is read by operators and vendors on its way.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from tocsin.notify import wording
from tocsin.notify.channels.contract import AlertText, Message


class Content(StrEnum):
    """What messages may say of an alert."""

    FULL = "full"
    SUBJECT = "subject"
    NUMBER = "number"


def disclosed(message: Message, content: Content) -> Message:
    """The message with no more in it than may leave."""
    if content is Content.FULL:
        return message
    return replace(message, alerts=tuple(_alert(alert, content) for alert in message.alerts))


def _alert(alert: AlertText, content: Content) -> AlertText:
    told = replace(alert, short_text="", long_text="", site="", team="", requester="", requester_phone="", is_vip=False)
    if content is Content.SUBJECT:
        return told
    # The link leads to the rest, for those who may see it.
    subject = wording.mark(alert) or f"Alert {alert.id}"
    return replace(told, subject=subject, client="", source_id="", source_url="", news="")
