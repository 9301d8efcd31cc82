"""The SMS channel: a text of a few segments, with the commands that the recipient can reply."""

from __future__ import annotations

from tocsin.alerts.states import CommandChannel
from tocsin.core.reasons import translatable
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.channels.phone_numbers import PhoneChannel
from tocsin.notify.interfaces import Message, Rendered
from tocsin.notify.text import sms


class SmsChannel(PhoneChannel):
    name = "sms"
    label = "SMS"
    nouns = (translatable("SMS"), "SMS")
    icon = "message"
    quietness = 3
    bundle_limit = 10
    command_channel = CommandChannel.SMS
    layout = "sms"

    def render(self, message: Message) -> Rendered:
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject="",
            text=sanitize(sms.text_message(message)),
            link=first.link if first else "",
            priority=first.priority if first else None,
        )
