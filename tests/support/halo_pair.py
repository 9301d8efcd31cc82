"""A HaloITSM double and Tocsin with a shared clock: tickets there, alerts here, synchronized in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.doubles.halo import API_AGENT, DESK_AGENT, EVENTS, FakeHalo, HaloServer, running
from tests.support import outbound_harness
from tests.support.people import ACTOR, make_user
from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, Command
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, ActorKind
from tocsin.core.db import database
from tocsin.core.ids import uuid7
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import InboundMessage
from tocsin.inbound.parsing.decode import decode
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.processing.drain import drain
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult
from tocsin.outbound import commands
from tocsin.outbound.delivery.dispatcher import CallDispatcher
from tocsin.outbound.delivery.results import IntegrationPool
from tocsin.outbound.halo_sync import poller, ticket_messages
from tocsin.outbound.models import Call, IntegrationStatus
from tocsin.people.models import User


@dataclass
class HaloPair:
    """`server` is Halo; `go` moves the clock, lets the outbox send, and delivers Halo's webhooks."""

    server: HaloServer
    start: datetime
    seconds: float = 0.0
    registry: IntegrationRegistry = field(default_factory=IntegrationRegistry)
    numbers: AlertIdAllocator = field(default_factory=AlertIdAllocator)
    stored: list[MessageResult] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.halo.now = lambda: self.now
        self.server.hooks.deliver = self.deliver
        self.box = CallDispatcher(now=lambda: self.now, jitter=lambda: 0.0)
        self.directory = IntegrationPool()
        for name in ("alice", "bob"):
            full = {"alice": "Alice Andersson", "bob": "Bob Brown"}[name]
            self.users[name] = make_user(name, self.start, name=full)

    @property
    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    @property
    def halo(self) -> FakeHalo:
        return self.server.halo

    def connect(self, kind: str = "haloitsm", **spec: Any) -> None:
        """Tocsin connected to Halo, its lists read, the webhook in place. `kind`: of the inbound integration."""
        whole = {
            "name": "Halo", "kind": "haloitsm", "base_url": self.server.url, "client_id": self.halo.client_id,
            "client_secret": self.halo.client_secret, "application": "Tocsin", "rate": 50, **spec,
        }  # fmt: skip
        self.outbound = commands.save_outbound(whole, actor=ACTOR, now=self.now)
        self.inbound = integrations.save_integration(
            {"name": "HaloITSM", "kind": kind, "outbound": "Halo",
             "settings": {"halo_address": "https://acme.haloitsm.com", "fail_open": False}, "anyway": True},
            actor=ACTOR, now=self.now,
        )  # fmt: skip
        self.poll()

    def hook(self, **fields: Any) -> None:
        """A webhook in Halo that hears of everything."""
        self.halo.webhooks["hook"] = {
            "id": "hook",
            "url": "http://tocsin/in/x",
            "active": True,
            "payload_type": 1,
            **fields,
        }
        for number in EVENTS.values():
            self.halo.notifications[number] = {"id": number, "webhook_id": "hook", "eventno": number}

    def change(self, **spec: Any) -> None:
        """Changes the outbound integration's settings."""
        self.outbound = commands.save_outbound(
            {**commands.outbound_spec(self.outbound), **spec}, existing=self.outbound, actor=ACTOR, now=self.now
        )

    def deliver(self, webhook: Mapping[str, Any], content: bytes) -> tuple[int, str]:
        """As the inbound door takes a POST of Halo's in."""
        self.registry.refresh()
        incoming = [
            IncomingMessage(uuid7(), self.inbound.pk, self.now, element.raw, element, "application/json")
            for element in decode(content, "application/json", lenient=True).elements
        ]
        with database.connect(name="test committer") as connection:
            connection.execute("SET lock_timeout = '50ms'")
            self.stored += batch.process(connection, self.registry, self.numbers, incoming, self.now)
        return 200, "{}"

    def go(self, seconds: float | None = None, turns: int = 100) -> None:
        """Until nothing is on its way in either direction."""
        self.seconds = self.seconds if seconds is None else seconds
        for _ in range(turns):
            was_busy = outbound_harness.run_once(self.box)
            sent = self.server.hooks.run()
            asked = ticket_messages.complete_waiting_messages(self.directory, lambda: self.now)
            drained = drain(self.registry, self.numbers, self.now)
            if not (was_busy or sent or asked or drained):
                return

    def poll(self, seconds: float | None = None) -> None:
        """One look at Halo, due or not."""
        self.seconds = self.seconds if seconds is None else seconds
        IntegrationStatus.objects.filter(pk=self.outbound.pk).update(next_poll_at=self.now)
        assert poller.poll(self.directory, lambda: self.now)

    def log(self, summary: str = "VPN down", **fields: Any) -> int:
        """A new ticket in Halo, heard of here."""
        number: int = self.halo.create_ticket({"summary": summary, **fields}, DESK_AGENT)["id"]
        self.go()
        return number

    def act(self, alert: int, make: type[Any], who: str = "alice", **fields: Any) -> None:
        """A person acts in Tocsin."""
        user = self.users[who]
        actor = Actor(ActorKind.USER, user.display_name, user.pk)
        if make.__name__ == "Assign" and "name" not in fields:
            fields = {**fields, "name": user.display_name, "user_id": user.pk}
        command: Command = make(actor=actor, **fields)
        alerts.apply_command(FoundAlert.by_tocsin(alert), command, now=self.now)

    def alerts(self, ticket: int) -> list[Alert]:
        return list(Alert.objects.filter(source_id=str(ticket)).order_by("pk"))

    def alert(self, ticket: int) -> Alert:
        (alert,) = self.alerts(ticket)
        return alert

    def live(self, ticket: int) -> list[Alert]:
        return [alert for alert in self.alerts(ticket) if alert.status in ACTIVE]

    def notes(self, ticket: int) -> list[str]:
        """What Tocsin wrote on a ticket."""
        own = [one for one in self.halo.actions if one["ticket_id"] == ticket and one["who_agentid"] == API_AGENT]
        return [str(one["note_html"]).removeprefix("<p>").removesuffix("</p>") for one in own]

    def story(self, alert: int) -> list[str]:
        return list(AlertEvent.objects.filter(alert=alert).order_by("pk").values_list("kind", flat=True))

    def status(self) -> IntegrationStatus:
        return IntegrationStatus.objects.get(pk=self.outbound.pk)

    def calls(self, **wanted: Any) -> list[Call]:
        return list(Call.objects.filter(**wanted).order_by("pk"))

    def inbox(self, **wanted: Any) -> list[InboundMessage]:
        return list(InboundMessage.objects.filter(**wanted).order_by("pk"))


@contextmanager
def halo_pair(now: datetime) -> Iterator[HaloPair]:
    """Both, not connected yet."""
    with running(sends_webhooks=False) as server:
        made = HaloPair(server, now)
        try:
            yield made
        finally:
            made.box.close()
            made.directory.close()
