"""The SMS channel: a text of a few segments, with the commands that the recipient can reply."""

from __future__ import annotations

from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.channels.phone_numbers import phone_number
from tocsin.notify.interfaces import Message, Rendered
from tocsin.notify.text import sms


class SmsChannel:
    name = "sms"
    label = "SMS"
    quietness = 3
    bundle_limit = 10
    counts_omitted = True

    def render(self, message: Message) -> Rendered:
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject="",
            text=sanitize(sms.text_message(message)),
            link=first.link if first else "",
            priority=first.priority if first else None,
        )

    def normalize_address(self, text: str) -> str:
        return phone_number(text)
