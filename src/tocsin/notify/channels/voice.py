"""The voice channel: the spoken script of a call and the keys it accepts."""

from __future__ import annotations

from dataclasses import replace

from tocsin.alerts.states import CommandChannel
from tocsin.core.reasons import translatable
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.channels.phone_numbers import PhoneChannel
from tocsin.notify.interfaces import CallScript, Message, Rendered
from tocsin.notify.text import voice


class VoiceChannel(PhoneChannel):
    name = "voice"
    label = "Call"
    nouns = (translatable("call"), "calls")
    icon = "phone"
    quietness = 4
    bundle_limit = 5
    is_call = True
    command_channel = CommandChannel.VOICE
    layout = "voice"

    def render(self, message: Message) -> Rendered:
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject="",
            text=sanitize(voice.spoken(message)),
            script=_storable(voice.script(message)),
            priority=first.priority if first else None,
        )


def _storable(script: CallScript) -> CallScript:
    return replace(
        script,
        greeting=sanitize(script.greeting),
        message=sanitize(script.message),
        menu=sanitize(script.menu),
    )
