"""A small Zammad on loopback and Tocsin with a shared clock, both ways: for every described ticket system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.doubles.desk import DeskDouble
from tests.doubles.http import HttpDouble, http_double
from tests.support import outbound_harness
from tests.support.people import ACTOR, make_user
from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, Command
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind
from tocsin.catalogue.desks import load_desks
from tocsin.core.db import database
from tocsin.core.ids import uuid7
from tocsin.core.net.egress import EgressResponse
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.parsing.decode import decode
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.processing.drain import drain
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.outbound import commands
from tocsin.outbound.delivery.dispatcher import CallDispatcher
from tocsin.outbound.models import Call, OutboundIntegration
from tocsin.people.models import User

AGENTS = {
    1: ("-", "", ""),
    5: ("Alice", "Andersson", "alice@example.org"),
    6: ("Bob", "Brown", "bob@example.org"),
}


@dataclass
class DeskPair:
    """`tickets` are Zammad's; `go` lets the outbox send and delivers Zammad's webhooks until nothing is on its way."""

    server: HttpDouble
    start: datetime
    seconds: float = 0.0
    tickets: dict[int, dict[str, Any]] = field(default_factory=dict)
    articles: dict[int, list[str]] = field(default_factory=dict)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    inbound: list[Integration] = field(default_factory=list)
    outbound: list[OutboundIntegration] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)
    #: How many webhooks were delivered.
    delivered: int = 0

    def __post_init__(self) -> None:
        self.registry, self.numbers = IntegrationRegistry(), AlertIdAllocator()
        self.double = DeskDouble(load_desks()["zammad"], self.answer)
        self.server.answering = self.double.serve
        self.box = CallDispatcher(now=lambda: self.now, jitter=lambda: 0.0)
        for name, full in (("alice", "Alice Andersson"), ("bob", "Bob Brown")):
            self.users[name] = make_user(name, self.start, name=full)

    @property
    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    def connect(self, name: str = "Zammad", **spec: Any) -> OutboundIntegration:
        """An outbound integration and an inbound one with a Source of its own."""
        whole = {"name": name, "kind": "zammad", "base_url": self.server.url, "token": "a-token", "rate": 50, **spec}
        outbound = commands.save_outbound(whole, actor=ACTOR, now=self.now)
        commands.verify_outbound(outbound, self.now)
        inbound = integrations.save_integration(
            {"name": f"{name} tickets", "kind": "zammad", "outbound": name, "source": name, "anyway": True,
             },
            actor=ACTOR, now=self.now,
        )  # fmt: skip
        self.outbound.append(outbound)
        self.inbound.append(inbound)
        return outbound

    def answer(self, name: str, body: Any) -> EgressResponse | None:
        """A write to a ticket, which calls the webhooks as any change does."""
        if name in ("note", "status", "assign", "update"):
            self.change(next(iter(self.tickets)), **{k: v for k, v in body.items() if k != "article"},
                        article=body.get("article", {}).get("body", ""))  # fmt: skip
        return None

    def change(self, number: int, *, article: str = "", **fields: Any) -> None:
        """What somebody, Tocsin included, changes in Zammad."""
        ticket = self.tickets.setdefault(number, {"state": "new", "owner_id": 1, "title": "VPN down"})
        ticket |= fields
        self.seconds += 1
        if article:
            self.articles.setdefault(number, []).append(article)
        first, last, email = AGENTS[ticket["owner_id"]]
        payload: dict[str, Any] = {
            "ticket": {
                "id": number, "title": ticket["title"], "state": ticket["state"], "owner_id": ticket["owner_id"],
                "owner": {"firstname": first, "lastname": last, "email": email, "login": email or "-"},
                "updated_at": self.now.isoformat().replace("+00:00", "Z"),
                "priority": {"id": 2, "name": "2 normal"}, "group": {"id": 1, "name": "Users"},
            },
            "article": {"body": article},
        }  # fmt: skip
        self.hooks.append(payload)

    def post(self, inbound: Integration, payload: dict[str, Any]) -> list[int]:
        """A message of another sender. Returns the alerts it opened or changed."""
        self.registry.refresh()
        element = decode(json.dumps(payload).encode(), "application/json", lenient=False).elements[0]
        incoming = [IncomingMessage(uuid7(), inbound.pk, self.now, element.raw, element, "application/json")]
        with database.connect(name="test committer") as connection:
            results = batch.process(connection, self.registry, self.numbers, incoming, self.now)
        return [result.alert_id for result in results if result.alert_id]

    def deliver(self) -> bool:
        hooks, self.hooks = self.hooks, []
        self.registry.refresh()
        for payload in hooks:
            content = json.dumps(payload).encode()
            incoming = [
                IncomingMessage(uuid7(), inbound.pk, self.now, element.raw, element, "application/json")
                for inbound in self.inbound
                for element in decode(content, "application/json", lenient=False).elements
            ]
            with database.connect(name="test committer") as connection:
                batch.process(connection, self.registry, self.numbers, incoming, self.now)
            self.delivered += 1
        return bool(hooks)

    def go(self, turns: int = 60) -> bool:
        """Whether it came to rest."""
        for _ in range(turns):
            was_busy = outbound_harness.run_once(self.box)
            if not any((was_busy, self.deliver(), drain(self.registry, self.numbers, self.now))):
                return True
        return False

    def act(self, alert: int, make: type[Any], who: str = "alice", **fields: Any) -> None:
        user = self.users[who]
        if make.__name__ == "Assign":
            fields |= {"name": user.display_name, "user_id": user.pk}
        command: Command = make(actor=Actor(ActorKind.USER, user.display_name, user.pk), **fields)
        alerts.apply_command(FoundAlert.by_tocsin(alert), command, now=self.now)

    def alerts(self) -> list[Alert]:
        return list(Alert.objects.order_by("pk"))

    def calls(self, **wanted: Any) -> list[Call]:
        return list(Call.objects.filter(**wanted).order_by("pk"))

    def inbox(self) -> list[InboundMessage]:
        return list(InboundMessage.objects.order_by("pk"))


@contextmanager
def desk_pair(now: datetime) -> Iterator[DeskPair]:
    with http_double() as server:
        made = DeskPair(server, now)
        try:
            yield made
        finally:
            made.box.close()
