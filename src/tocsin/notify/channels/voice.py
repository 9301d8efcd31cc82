"""The voice channel: the spoken script of a call and the keys it accepts."""

from __future__ import annotations

from dataclasses import replace

from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.channels.phone_numbers import phone_number
from tocsin.notify.interfaces import CallScript, Message, Rendered
from tocsin.notify.text import voice


class VoiceChannel:
    name = "voice"
    label = "Phone call"
    quietness = 4
    bundle_limit = 5
    counts_omitted = True

    def render(self, message: Message) -> Rendered:
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject="",
            text=sanitize(voice.spoken(message)),
            script=_storable(voice.script(message)),
            priority=first.priority if first else None,
        )

    def normalize_address(self, text: str) -> str:
        return phone_number(text)


def _storable(script: CallScript) -> CallScript:
    return replace(
        script,
        greeting=sanitize(script.greeting),
        message=sanitize(script.message),
        menu=sanitize(script.menu),
    )
