"""Phone numbers as people enter them: read by the rules of countries, and of the installation's own where no country
code is written. Stored numbers need none of this."""

from __future__ import annotations

from collections.abc import Callable

from tocsin.core.config import settings_store
from tocsin.notify.channels import phone_numbers
from tocsin.notify.interfaces import Channel


def as_entered(channel: Channel) -> Callable[[str], str]:
    """The check of an address that somebody enters for a channel of phones."""

    def check(text: str) -> str:
        written = text.strip()
        has_code = written.startswith(("+", "00"))
        region = "" if has_code else settings_store.get(settings_store.PHONE_REGION)
        return channel.address(phone_numbers.entered(written, region))

    return check
