"""Users, alerts and a delivery dispatcher with a controlled clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from tests.support.people import make_user
from tocsin.alerts import commands, service
from tocsin.alerts.commands import SYSTEM, Actor, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, EventKind, Priority
from tocsin.core.config import crypto, environment
from tocsin.core.db import database
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.models import Delivery, Provider
from tocsin.notify.pages import queue_pages
from tocsin.notify.rules.page_planner import PagePlan, PageRequest
from tocsin.people.models import User


@dataclass
class OutboxHarness:
    """Time is told by `at`, in seconds from the start; `go` moves it and lets the outbox send what is then due."""

    start: datetime
    seconds: float = 0.0
    users: dict[str, User] = field(default_factory=dict)
    outboxes: list[DeliveryDispatcher] = field(default_factory=list)
    #: Set to have retries wait their shortest time.
    jitter: float = 0.0

    @property
    def now(self) -> datetime:
        return self.at(self.seconds)

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def user(self, name: str, *methods: dict[str, Any], **spec: Any) -> User:
        """A user with these contact methods; by default one e-mail."""
        ways = list(methods) or [{"label": "Email-Official", "channel": "email", "address": f"{name}@example.org"}]
        self.users[name] = make_user(name, self.start, name=name.title(), contact_methods=ways, **spec)
        return self.users[name]

    def actor(self, name: str) -> Actor:
        return Actor(ActorKind.USER, name.title(), self.users[name].pk)

    def alert(self, subject: str = "VPN down", integration: int | None = None, **columns: Any) -> int:
        """Opens an alert that nobody is paged about yet."""
        alert = NewAlert(
            0, Priority.CRITICAL, subject, self.now, source="HaloITSM", source_id="20817",
            columns={"client": "Acme", **columns}, integration_id=integration,
        )  # fmt: skip
        event = NewEvent(0, EventKind.OPENED, self.now, SYSTEM, "It was opened.")
        return service.create_manual_alert(alert, PagingConfig(PagingMode.LOG_ONLY), event, now=self.now)

    def page(self, alert: int, *names: str, reason: str = "Alice is primary.", **data: Any) -> PagePlan:
        """Starts paging these people about an alert."""
        starts = [PageRequest(alert, self.now, reason, self.users[name].pk, data=data) for name in names]
        with database.transaction() as connection:
            return queue_pages(connection, starts, self.now)

    def act(self, alert: int, command: Any) -> None:
        """A person acts; nothing else follows here: no reactor is installed."""
        service.apply_command(FoundAlert.by_tocsin(alert), command, now=self.now)

    def outbox(self, **changes: Any) -> DeliveryDispatcher:
        """One more process's outbox."""
        box = DeliveryDispatcher(now=lambda: self.now, jitter=lambda: self.jitter, **changes)
        self.outboxes.append(box)
        return box

    def go(self, seconds: float | None = None, box: DeliveryDispatcher | None = None) -> None:
        """Moves the clock to `seconds`, and lets an outbox send all that is due then."""
        self.seconds = self.seconds if seconds is None else seconds
        sender = box or (self.outboxes or [self.outbox()])[0]
        while sender.run_once():
            sender.settle()
        sender.settle()

    def deliveries(self, alert: int | None = None) -> list[Delivery]:
        rows = Delivery.objects.select_related("notification", "user").order_by("id")
        return list(rows if alert is None else rows.filter(alert=alert))

    def states(self, alert: int | None = None) -> list[tuple[str, str, str]]:
        """(label, status, provider) of each delivery, in the order they were made."""
        return [(d.notification.label, d.status, d.provider_name) for d in self.deliveries(alert)]


def provider(name: str, kind: str, channels: Sequence[str], order: int = 1, **settings: Any) -> Provider:
    """A row for a provider; `secrets` among the settings are sealed."""
    secrets = settings.pop("secrets", {})
    made = Provider.objects.create(
        name=name,
        kind=kind,
        channels=list(channels),
        settings=settings,
        secrets=crypto.encrypt_bundle(secrets),
        order=order,
    )
    changed()
    return made


def changed() -> None:
    """Tells that the configuration changed."""
    from django.db import transaction

    from tocsin.core.config import settings_store

    with transaction.atomic():
        settings_store.bump()


def configured(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Changes the process's own configuration for one test."""
    whole = replace(environment.current(), **changes)
    monkeypatch.setattr(environment, "current", lambda: whole)


def allow_loopback(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Lets calls reach servers on this machine."""
    configured(monkeypatch, allow_targets=(ip_network("127.0.0.0/8"),), **changes)


@contextmanager
def outbox_harness(now: datetime) -> Iterator[OutboxHarness]:
    """A post whose outboxes are closed at the end. What else follows an act is left out: here only the outbox works."""
    post = OutboxHarness(now)
    try:
        with commands.HANDLERS.restored(empty=True):
            yield post
    finally:
        for box in post.outboxes:
            box.close()
