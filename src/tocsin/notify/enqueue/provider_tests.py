"""Queues a test message through one provider to an address that an administrator enters, without fallback to other
providers.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, reason_as_json
from tocsin.notify.enqueue.store import NotificationRow, write
from tocsin.notify.models import Provider
from tocsin.notify.providers.pool import carries_country
from tocsin.notify.registry import CHANNELS, KINDS, channel
from tocsin.notify.rules.delivery_reasons import PROVIDER_TEST, TEST_TEXT, TEST_TITLE
from tocsin.notify.states import Purpose
from tocsin.people.models import User

_NOT_ENABLED = ReasonType("provider.not_enabled", "{provider} is not enabled.")
_CHANNEL_NOT_CARRIED = ReasonType(
    "provider.channel_not_carried", '{provider} does not support the channel "{channel}".'
)
_ADDRESS_NOT_CARRIED = ReasonType("provider.address_not_carried", "{provider} does not deliver to this address.")


def send_test(provider: Provider, channel_name: str, text: str, *, user: User, now: datetime) -> UUID:
    """Queues a test on the channel `channel_name` to the address `text`. Returns the notification's id, to query its
    outcome.

    Raises Rejected("not_in_use"), or Rejected on `channel` or `address` if the provider does not carry them.
    """
    kind = KINDS.get(provider.kind)
    if not provider.is_enabled or kind is None:
        raise Rejected("not_in_use", _NOT_ENABLED(provider=provider.name))
    if channel_name not in provider.channels:
        raise Rejected("invalid", _CHANNEL_NOT_CARRIED(provider=provider.name, channel=channel_name), "channel")
    try:
        address = channel(channel_name).normalize_address(text)
    except Rejected as problem:
        raise Rejected(problem.code, problem.reason, "address") from None
    if not kind.accepts(channel_name, address) or not carries_country(provider.settings, channel_name, address):
        raise Rejected("invalid_address", _ADDRESS_NOT_CARRIED(provider=provider.name), "address")
    label = f"{provider.name}, {CHANNELS[channel_name].label}"
    row = NotificationRow(
        purpose=Purpose.TEST,
        channel=channel_name,
        address=address,
        label=label,
        reason=PROVIDER_TEST(),
        due_at=now,
        user_id=user.pk,
        data={
            "title": reason_as_json(TEST_TITLE(name=provider.name)),
            "text": reason_as_json(TEST_TEXT(name=provider.name)),
            "provider": provider.name,
        },
        provider=provider,
    )
    with database.transaction() as connection:
        write(connection, [row], now)
    return row.id
