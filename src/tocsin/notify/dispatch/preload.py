"""Loads templates, translations, time zones and certificates at startup, so that sending opens no file and works even
if the process has run out of file descriptors.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings

from tocsin.alerts.states import Priority
from tocsin.core.net import egress
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.registry import CHANNELS
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.states import Purpose
from tocsin.notify.text.phrases import localize


def preload(now: datetime) -> None:
    """Renders one message for each channel, purpose and language and discards it."""
    egress.tls_context()
    alert = AlertContent(
        id=1,
        subject="Preload",
        long_text="<p>Preload</p>",
        priority=Priority.CRITICAL,
        opened_at=now,
        link="https://tocsin.invalid/",
    )
    for language, _ in settings.LANGUAGES:
        localize(delivery_reasons.PAGE(), language)
        for purpose in Purpose:
            message = Message(UUID(int=0), purpose, now, alerts=(alert,), text="Preload", language=language)
            for channel in CHANNELS.values():
                channel.render(message)
