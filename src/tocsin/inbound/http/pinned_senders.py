"""Pins an integration to its sender, for kinds that know it by more than the URL, such as an Amazon SNS topic.

The first authentic message pins the sender; rotating the URL unpins it; a sender configured in the settings overrides
it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NoReturn

from tocsin.catalogue.hooks import Payload, Sender
from tocsin.core.db import database
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.http import reasons
from tocsin.inbound.http.ingest_service import HttpError

log = logging.getLogger(__name__)

_PIN = """
INSERT INTO inbound_pinnedsender (integration_id, sender, pinned_at)
SELECT id, %(sender)s, clock_timestamp() FROM inbound_integration WHERE id = %(integration)s
ON CONFLICT (integration_id) DO NOTHING
"""


def require(integration: CompiledIntegration, payloads: Sequence[Payload]) -> bool:
    """Checks the sender of authentic payloads. Returns True if the integration is to be pinned to it.

    Raises HttpError (403, "other_sender") for a sender other than the pinned or configured one.
    """
    read_sender = integration.normalizer.kind.kind_hooks.sender
    if read_sender is None:
        return False
    senders = [read_sender(payload, integration.settings) for payload in payloads]
    pinned = "" if any(sender.expected for sender in senders) else _pinned(integration.id)
    first_name = senders[0].name
    for sender in senders:
        expected = sender.expected or pinned or first_name
        if sender.name != expected:
            _refuse(integration, sender, expected)
    return not pinned and not senders[0].expected


def pin(integration: CompiledIntegration, payload: Payload) -> None:
    """Pins the integration to the payload's sender, unless it is pinned already."""
    read_sender = integration.normalizer.kind.kind_hooks.sender
    if read_sender is None:
        return
    with database.transaction() as connection:
        connection.execute(
            _PIN, {"integration": integration.id, "sender": read_sender(payload, integration.settings).name}
        )


def _pinned(integration_id: int) -> str:
    with database.transaction() as connection:
        row = database.row(
            connection, "SELECT sender FROM inbound_pinnedsender WHERE integration_id = %s", (integration_id,)
        )
    return row["sender"] if row else ""


def _refuse(integration: CompiledIntegration, sender: Sender, expected: str) -> NoReturn:
    log.warning("A message of %s to %s is refused: it takes those of %s only.", sender.name, integration.name, expected)
    raise HttpError(
        403,
        "other_sender",
        reasons.OTHER_SENDER(expected=expected, sender=sender.name, remedy=sender.remedy),
    )
