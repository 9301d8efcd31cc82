"""Large bodies are stored compressed and read back unchanged."""

from __future__ import annotations

import zlib
from datetime import timedelta
from typing import Any

import pytest
from psycopg import errors

from tests.support.ingest import NOW, Ingest, halo, make_integration
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.db import database as db
from tocsin.core.ids import uuid7
from tocsin.inbound.admin.commands import compile_stored
from tocsin.inbound.admin.simple_rules import load_observed_statuses
from tocsin.inbound.inspect import replay
from tocsin.inbound.models import COMPRESSED_PREFIX, InboundMessage, Integration
from tocsin.inbound.processing.drain import drain
from tocsin.inbound.storage.messages import IncomingMessage, MessageBudget, element_of
from tocsin.simulate.backtest import load_messages

pytestmark = pytest.mark.usefixtures("database")

ACTOR = AuditActor(None, "Alice", "web", "127.0.0.1")
DETAILS = "The gateway does not answer. " * 1_000


@pytest.fixture
def integration() -> Integration:
    return make_integration()


def large(ticket: int = 20817, status: str = "New", **fields: Any) -> dict[str, Any]:
    return halo(ticket, status, details=DETAILS, **fields)


def stored_size(message: InboundMessage) -> int:
    with db.transaction() as connection:
        (size,) = connection.execute(
            "SELECT length(raw) FROM inbound_inboundmessage WHERE id = %s", (message.pk,)
        ).fetchone() or (0,)
    return int(size)


def test_large_body_is_compressed_and_reads_back_unchanged(integration: Integration) -> None:
    Ingest().send(integration, large(), halo(7))
    first, small = InboundMessage.objects.order_by("pk")
    assert stored_size(first) < len(first.raw) / 5
    assert stored_size(small) == len(small.raw)
    assert DETAILS.encode() in first.raw


def test_compressed_body_replays_and_backtests_unchanged(integration: Integration) -> None:
    Ingest().send(integration, large(status="Logged"))
    old = InboundMessage.objects.get()
    made = replay(old.pk, None, ACTOR, NOW + timedelta(minutes=5))
    assert made.raw == old.raw
    (tried,) = load_messages(integration, compile_stored(integration), NOW - timedelta(hours=1), MessageBudget())
    assert tried.raw == old.raw
    assert stored_size(made) < len(made.raw) / 5


def test_tickets_that_open_nothing_are_warned_of_whatever_their_size(integration: Integration) -> None:
    integration.settings = {**integration.settings, "new_tickets_open": False}
    integration.save()
    settings_store.bump()
    payload = {**large(status="Logged"), "event": "new ticket logged"}
    Ingest().send(integration, payload)
    assert "Logged" in str(load_observed_statuses(integration, NOW).warning)


def test_pending_body_is_not_compressed_until_decided(integration: Integration) -> None:
    ingest = Ingest()
    (first,) = ingest.send(integration, halo(7))
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
        with pytest.raises(errors.LockNotAvailable):
            ingest.send(integration, large(7))
        assert ingest.send(integration, large(7), wait=False)[0].status == "Pending"
    waiting = InboundMessage.objects.get(status="Pending")
    assert stored_size(waiting) == len(waiting.raw)
    drain(ingest.registry, ingest.numbers, NOW)
    waiting.refresh_from_db()
    assert waiting.status == "Mapped Appended"


def form(integration: Integration, body: bytes) -> IncomingMessage:
    media = "application/x-www-form-urlencoded"
    return IncomingMessage(uuid7(), integration.pk, NOW, body, element_of(body, media, lenient=True), media)


def test_senders_own_compressed_lookalike_is_never_decompressed() -> None:
    integration, ingest = make_integration("Monitoring", "api"), Ingest()
    (first,) = ingest.decide([form(integration, b"source_id=7&subject=VPN+down")])
    # Form fields that are whole, and are a packed body's bytes too.
    sent = COMPRESSED_PREFIX + zlib.compress(b"&source_id=7&subject=VPN+down&more=" + b"0" * 1_000, 0)
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
        assert ingest.decide([form(integration, sent)], wait=False)[0].status == "Pending"
    assert InboundMessage.objects.get(status="Pending").raw == sent
    drain(ingest.registry, ingest.numbers, NOW)
    assert InboundMessage.objects.get(status="Mapped Appended").raw == sent
