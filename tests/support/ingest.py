"""Creates integrations and messages in one line, and decides messages: shared by the store tests of ingest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tocsin.core.config import crypto, settings_store
from tocsin.core.db import database
from tocsin.core.ids import token, token_hash, uuid7
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import Integration, IntegrationVersion
from tocsin.inbound.parsing.decode import decode
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def make_integration(name: str = "HaloITSM", kind: str = "haloitsm", **fields: Any) -> Integration:
    """An integration as the commands would make it, without a policy unless one is given."""
    definition = fields.pop("definition", {})
    text = fields.pop("token_text", token())
    integration = Integration.objects.create(
        name=name,
        kind=kind,
        created_at=NOW,
        token_hash=token_hash(text),
        token=crypto.encrypt(text),
        **fields,
    )
    integration.current_version = IntegrationVersion.objects.create(
        integration=integration, number=1, definition=definition, created_at=NOW
    )
    integration.save()
    settings_store.bump()
    return integration


def halo(
    ticket: int = 20817, status: str = "New", *, delivery: str | None = None, **ticket_fields: Any
) -> dict[str, Any]:
    """A HaloITSM message of a ticket, with linked objects."""
    envelope: dict[str, Any] = {
        "event": "new ticket logged" if status == "New" else "ticket status changed",
        "object_id": ticket,
        "ticket": {
            "id": ticket,
            "summary": f"VPN down {ticket}",
            "status": {"id": 1, "name": status},
            "client_name": "Acme",
            **ticket_fields,
        },
    }
    if delivery is not None:
        envelope["id"] = delivery
    return envelope


@dataclass
class Ingest:
    """Decides messages as the committer does, in batches that the test chooses."""

    registry: IntegrationRegistry = field(default_factory=IntegrationRegistry)
    numbers: AlertIdAllocator = field(default_factory=AlertIdAllocator)

    def send(
        self, integration: Integration, *payloads: Mapping[str, Any] | bytes, now: datetime = NOW, wait: bool = True
    ) -> list[MessageResult]:
        """All payloads as one batch."""
        return self.decide([message(integration, payload, now) for payload in payloads], now=now, wait=wait)

    def decide(
        self, incoming: Sequence[IncomingMessage], *, now: datetime = NOW, wait: bool = True
    ) -> list[MessageResult]:
        """These messages as one batch."""
        with database.connect(name="test committer") as connection:
            connection.execute("SET lock_timeout = '50ms'")
            self.registry.refresh()
            return batch.process(connection, self.registry, self.numbers, incoming, now, wait=wait)


def message(integration: Integration, payload: Mapping[str, Any] | bytes, now: datetime = NOW) -> IncomingMessage:
    """One message as the door makes it."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    from tocsin.inbound.storage.messages import element_of

    return IncomingMessage(uuid7(), integration.pk, now, raw, element_of(raw, "application/json", lenient=True))


__all__ = ["NOW", "Ingest", "decode", "halo", "make_integration", "message", "timedelta"]
