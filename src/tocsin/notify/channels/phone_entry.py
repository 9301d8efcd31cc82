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
        entered = text.strip()
        has_code = entered.startswith(("+", "00"))
        region = "" if has_code else settings_store.get(settings_store.PHONE_REGION)
        return channel.normalize_address(phone_numbers.format_for_entry(entered, region))

    return check
