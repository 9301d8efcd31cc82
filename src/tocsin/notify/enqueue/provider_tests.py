"""Queues a test message through one provider to an address that an administrator enters, without fallback to other
providers.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, reason_as_json
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.models import Provider
from tocsin.notify.providers.pool import carries_country
from tocsin.notify.registry import CHANNELS, KINDS, channel
from tocsin.notify.rules.delivery_reasons import PROVIDER_TEST, TEST_TEXT, TEST_TITLE
from tocsin.notify.states import Purpose

_NOTIFICATION = """
INSERT INTO notify_notification (id, user_id, purpose, channel, label, address, reason_code, reason_data, data,
                                 created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_DELIVERY = """
INSERT INTO notify_delivery (id, notification_id, user_id, channel, address, purpose, status, provider_id,
                             provider_name, queued_at, due_at)
VALUES (%s, %s, %s, %s, %s, %s, 'queued', %s, %s, %s, %s)
"""


_NOT_ENABLED = ReasonType("provider.not_enabled", "{provider} is not enabled.")
_CHANNEL_NOT_CARRIED = ReasonType("provider.channel_not_carried", '{provider} does not carry "{channel}".')
_ADDRESS_NOT_CARRIED = ReasonType("provider.address_not_carried", "{provider} does not deliver to this address.")


def send_test(provider: Provider, channel_name: str, text: str, *, user_id: int, now: datetime) -> UUID:
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
    notification, purpose = ids.uuid7(), str(Purpose.TEST)
    data = {
        "title": reason_as_json(TEST_TITLE(name=provider.name)),
        "text": reason_as_json(TEST_TEXT(name=provider.name)),
        "provider": provider.name,
    }
    code, reason_data = reason_columns(PROVIDER_TEST())
    with database.transaction() as connection:
        connection.execute(
            _NOTIFICATION,
            (
                notification, user_id, purpose, channel_name, label, address, code, Jsonb(reason_data), Jsonb(data),
                now,
            ),
        )  # fmt: skip
        connection.execute(
            _DELIVERY,
            (ids.uuid7(), notification, user_id, channel_name, address, purpose, provider.pk, provider.name, now, now),
        )
        database.notify(connection, "outbox")
    return notification
