"""Releases messages that wait for a provider as soon as it recovers.

A message waits once an attempt has failed (`late_since`). Only those rows are in the index that every statement here
uses. Runs inside the caller's transaction and sends nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tocsin.core.db.database import Connection
from tocsin.notify.rules.delivery_reasons import EARLIER_PAGE_WAITS, RETRIED_UNKNOWN


class RecoveringProvider(Protocol):
    """The part of `pool.ActiveProvider` that this module uses."""

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> Sequence[str]: ...
    def delivers_to(self, channel: str, address: str) -> bool: ...


#: The maximum number of messages that one statement releases.
MAX_RELEASED = 10_000

_CHANNELS = """
SELECT c.channel FROM unnest(%s::text[]) AS c(channel)
WHERE EXISTS (SELECT FROM notify_delivery d
              WHERE d.status = 'queued' AND d.late_since IS NOT NULL AND d.channel = c.channel AND d.due_at > %s)
"""


def awaited_channels(connection: Connection, channels: Collection[str], now: datetime) -> frozenset[str]:
    """Returns those of `channels` on which messages wait for a provider to recover. A message that another provider
    takes over at once does not wait.
    """
    if not channels:
        return frozenset()
    return frozenset(row[0] for row in connection.execute(_CHANNELS, (sorted(channels), now)).fetchall())


_ADDRESSES = """
SELECT DISTINCT channel, address FROM notify_delivery
WHERE status = 'queued' AND late_since IS NOT NULL AND channel = ANY(%s)
"""
# A provider that knows no such address is not tried again. A row locked by another transaction is being
# recorded there; that transaction releases it if the attempt was made before the provider recovered. A provider that
# passes probes may still die after taking a message. So a message whose last outcome is unknown is not repeated early,
# until the provider has sent another one, unless it did not answer probes either before it recovered.
_RELEASE = """
UPDATE notify_delivery SET due_at = %(now)s, provider_name = %(name)s WHERE id IN (
  SELECT d.id FROM unnest(%(channels)s::text[], %(addresses)s::text[]) AS k(channel, address)
  JOIN notify_delivery d ON d.channel = k.channel AND d.address = k.address
    AND d.status = 'queued' AND d.late_since IS NOT NULL
  WHERE (d.due_at > %(now)s OR d.provider_name <> %(name)s)
    AND (%(ids)s::uuid[] IS NULL OR d.id = ANY(%(ids)s))
    AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.notification_id = d.notification_id
                    AND o.provider_name = %(name)s AND o.is_final)
    AND (d.reason_code <> %(unknown)s OR %(ids)s::uuid[] IS NOT NULL OR EXISTS (
         SELECT FROM notify_providerhealth h WHERE h.name = %(name)s AND (h.failures = 0 OR h.is_unresponsive)))
  ORDER BY d.id LIMIT %(most)s FOR NO KEY UPDATE OF d SKIP LOCKED)
"""


def release(
    connection: Connection, provider: RecoveringProvider, now: datetime, ids: Sequence[UUID] | None = None
) -> int:
    """Makes every waiting message that the recovered `provider` can deliver due now, restricted to `ids` if given.
    Returns their number; if it is `MAX_RELEASED`, there may be more. They are bundled like every message that was tried
    before.
    """
    waiting = connection.execute(_ADDRESSES, (list(provider.channels),)).fetchall()
    deliverable = [(channel, address) for channel, address in waiting if provider.delivers_to(channel, address)]
    if not deliverable:
        return 0
    return connection.execute(
        _RELEASE,
        {
            "now": now,
            "name": provider.name,
            "channels": [channel for channel, _ in deliverable],
            "addresses": [address for _, address in deliverable],
            "ids": None if ids is None else list(ids),
            "most": MAX_RELEASED,
            "unknown": RETRIED_UNKNOWN.code,
        },
    ).rowcount


# The oldest page stays.
_DROP_REPEATS = """
WITH repeated AS (
  SELECT d.id FROM notify_delivery d
  WHERE d.id = ANY(%(ids)s) AND d.status = 'queued' AND d.purpose = 'page'
    AND EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.id < d.id AND o.purpose = 'page'
                AND o.status = 'queued' AND o.late_since IS NOT NULL AND o.channel = d.channel
                AND o.address = d.address AND o.user_id IS NOT DISTINCT FROM d.user_id)
)
UPDATE notify_delivery d SET status = 'cancelled', ended_at = %(now)s, reason_code = %(code)s, reason_data = '{}'
FROM repeated r WHERE d.id = r.id
"""


def drop_repeats(connection: Connection, ids: Collection[UUID], now: datetime) -> None:
    """Cancels those of these failed pages for which an older page about the same alert already waits for the same
    address. Otherwise a long outage would pile up as many pages as the policy repeats.
    """
    if ids:
        connection.execute(_DROP_REPEATS, {"ids": list(ids), "now": now, "code": EARLIER_PAGE_WAITS.code})
