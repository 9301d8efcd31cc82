"""Validates phone numbers as users enter them. Without a country code, the installation's own country applies. Stored
numbers do not need this.
"""

from __future__ import annotations

from collections.abc import Callable

from tocsin.core.config import settings_store
from tocsin.notify.channels import phone_numbers
from tocsin.notify.interfaces import Channel


def parse_entered(channel: Channel) -> Callable[[str], str]:
    """Returns the validator for an address entered on a phone channel."""

    def check(text: str) -> str:
        written = text.strip()
        has_code = written.startswith(("+", "00"))
        region = "" if has_code else settings_store.get(settings_store.PHONE_REGION)
        return channel.address(phone_numbers.format_for_entry(written, region))

    return check
