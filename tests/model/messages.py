"""Inbound messages: tickets and hosts that open, change and close; some are late, duplicated or malformed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.model import forecasts
from tests.model.routing import PRIORITIES
from tests.model.system import System
from tests.support.ingest import Ingest, message
from tests.support.people import ACTOR
from tocsin.core.errors import Rejected
from tocsin.inbound import inspect
from tocsin.inbound.models import InboundMessage, Integration

#: Few tickets, so that messages meet existing alerts.
TICKETS = 5

_MALFORMED = b"{{ not json at all \xff"


def arrive(system: System) -> None:
    """One message arrives, or a few at once at random integrations."""
    rng = system.rng
    integrations = {integration.pk: integration for integration in Integration.objects.order_by("id")}
    sent: list[tuple[int, dict[str, Any] | bytes]] = []
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        dice = rng.random()
        integration = rng.choice(list(integrations.values()))
        if dice < 0.05:
            sent.append((integration.pk, _MALFORMED))
        elif dice < 0.12 and system.payloads:
            sent.append(rng.choice(system.payloads))
        else:
            sent.append((integration.pk, _payload(system, integration.kind)))
    system.payloads += sent
    ingest = Ingest(system.registry, system.numbers)
    # A batch may contain messages of several integrations, like the committer's.
    batch = [message(integrations[pk], payload, system.now) for pk, payload in sent]
    simulated = forecasts.simulate(system, sent[0][0], batch[0]) if len(batch) == 1 and rng.random() < 0.5 else None
    stored = ingest.decide(batch, now=system.now)
    for (pk, payload), one in zip(sent, stored, strict=True):
        body = payload if isinstance(payload, bytes) else json.dumps(payload)
        system.record(f"{integrations[pk].name} sends {body!r}: {one.status}, #{one.alert_id}, {one.reason}")
    if simulated is not None:
        forecasts.compare(system, simulated, stored[0])


def replay_one(system: System) -> None:
    """Replays an earlier message, if there is one."""
    messages = InboundMessage.objects.exclude(status="Pending").order_by("-pk")[:15]
    if not messages:
        return
    chosen, page = system.rng.choice(list(messages)), system.rng.choice([None, True, False])
    try:
        got = inspect.replay(chosen.pk, page, ACTOR, system.now)
    except Rejected as refusal:
        system.record(f"a replay is refused: {refusal}")
    else:
        system.record(f"replay of {chosen.status}, page {page}: {got.status}, #{got.alert_id}, {got.reason}")


def _payload(system: System, kind: str) -> dict[str, Any]:
    rng = system.rng
    ticket, dice = rng.randint(1, TICKETS), rng.random()
    text = (system.now - timedelta(minutes=rng.choice([0, 0, 0, 1, 30]))).isoformat()
    status = "New" if dice < 0.45 else "In Progress" if dice < 0.7 else "Closed"
    priority = rng.choice(PRIORITIES) if rng.random() < 0.5 else None
    return (_halo if kind == "haloitsm" else _mapped)(system, ticket, status, priority, text)


def _halo(system: System, number: int, status: str, priority: str | None, said_at: str) -> dict[str, Any]:
    rng = system.rng
    ticket: dict[str, Any] = {"id": number, "summary": f"VPN {number}", "client_name": rng.choice(["Acme", "Beta"])}
    ticket["status"] = {"id": 1, "name": status}
    event = "new ticket logged" if status == "New" else "ticket status changed"
    if priority:
        ticket["priority"] = {"name": priority.title()}
    if rng.random() < 0.25:
        ticket["agent"] = {"id": 5, "name": rng.choice(["Alice", "Bob", "Zed", "Unassigned"])}
    payload = {"event": event, "object_id": number, "timestamp": said_at, "ticket": ticket}
    if rng.random() < 0.1:
        payload["id"] = str(UUID(int=rng.getrandbits(128)))
    if rng.random() < 0.04:
        payload["event"] = "ticket deleted"
    return payload


def _mapped(system: System, number: int, status: str, priority: str | None, said_at: str) -> dict[str, Any]:
    rng = system.rng
    payload: dict[str, Any] = {"id": number, "status": status, "subject": f"Host {number}", "time": said_at}
    payload["client"] = rng.choice(["Acme", "Beta"])
    if priority:
        payload["priority"] = priority
    if rng.random() < 0.1:
        payload["delivery"] = f"d{rng.getrandbits(40)}"
    if rng.random() < 0.3:
        payload["parent"] = rng.randint(1, TICKETS)
    if rng.random() < 0.04:
        del payload["id"]
    return payload
