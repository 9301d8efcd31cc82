"""A small company and API clients with tokens."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
import uvicorn
from django.test import Client
from pytest_django import DjangoDbBlocker

from tests.doubles.ntfy import NtfyDouble, ntfy_double
from tests.support.openapi_check import check_answer
from tests.support.postgres import DatabasePool, Postgres, filled
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import UNLIMITED, Role
from tocsin.alerts.commands import Actor, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.service import create_manual_alert
from tocsin.alerts.states import ActorKind, EventKind, Priority
from tocsin.core.config import environment
from tocsin.core.net.asgi import BodyReader
from tocsin.core.runtime import clock
from tocsin.inbound.app import InboundApp
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing.committer import Committer
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, User


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response, with its JSON."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def fields(self) -> list[str]:
        """The fields that an error is about."""
        return list(self.body.get("fields") or filter(None, [self.body.get("field")]))


@dataclass(slots=True)
class Api:
    """A caller. Without a token it is anonymous."""

    token: str | None = None
    user: User | None = None
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def get(self, path: str, **query: Any) -> ApiResponse:
        return self._send("get", path, data=query)

    def post(self, path: str, body: Any = None, **headers: str) -> ApiResponse:
        return self.send("POST", path, body, **headers)

    def put(self, path: str, body: Any) -> ApiResponse:
        return self.send("PUT", path, body)

    def patch(self, path: str, body: Any) -> ApiResponse:
        return self.send("PATCH", path, body)

    def delete(self, path: str) -> ApiResponse:
        return self.send("DELETE", path)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> ApiResponse:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self._send("generic", path, method=method, data=data, content_type="application/json", headers=headers)

    def _send(self, call: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> ApiResponse:
        given = dict(headers or {})
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        where = path if path.startswith("/") else f"/api/v1/{path}"
        method = more.pop("method", call.upper())
        if call == "generic":
            response = self.client.generic(method, where, headers=given, **more)
        else:
            response = getattr(self.client, call)(where, headers=given, **more)
        kind = response.headers.get("Content-Type", "")
        body = json.loads(response.content) if kind.startswith("application/json") and response.content else None
        if body is not None:
            check_answer(method, where, response.status_code, body)
        return ApiResponse(response.status_code, body, dict(response.headers))


@dataclass(frozen=True, slots=True)
class Company:
    """Who works there: an administrator, and in the Service Desk a manager, a responder and an observer; Nadia is in
    the Network group, which nobody of them is in."""

    alice: User
    mia: User
    bob: User
    olga: User
    nadia: User
    desk: Group
    network: Group
    now: datetime


@pytest.fixture(scope="session")
def company_database_pool(
    postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker
) -> Iterator[DatabasePool]:
    """Lends databases in which this company is."""
    with filled(postgres, template, django_db_blocker, _make_company) as databases:
        yield databases


def _make_company() -> None:
    def person(username: str, role: Role, number: int) -> User:
        user = User.objects.create(
            username=username, name=f"{username.title()} Andersson", email=f"{username}@example.org", role=role
        )
        ContactMethod.objects.create(user=user, label="Email-Official", channel="email", address=user.email, position=0)
        ContactMethod.objects.create(
            user=user, label="SMS-Official", channel="sms", address=f"+4179000000{number}", position=1
        )
        return user

    person("alice", Role.ADMIN, 1)
    mia, bob = person("mia", Role.MANAGER, 2), person("bob", Role.RESPONDER, 3)
    olga, nadia = person("olga", Role.OBSERVER, 4), person("nadia", Role.RESPONDER, 5)
    desk = Group.objects.create(name="Service Desk", time_zone="Europe/Zurich")
    network = Group.objects.create(name="Network")
    for position, (user, roles) in enumerate([(mia, ["lead"]), (bob, ["primary"]), (olga, [])]):
        Membership.objects.create(group=desk, user=user, roles=roles, position=position)
    Membership.objects.create(group=network, user=nadia, roles=["primary"])
    GroupContact.objects.create(group=network, label="List", channel="email", address="network@example.org")


@pytest.fixture
def company(database: str, imports_end: None) -> Company:
    users = {user.username: user for user in User.objects.all()}
    people = (users[name] for name in ("alice", "mia", "bob", "olga", "nadia"))
    return Company(*people, Group.objects.get(name="Service Desk"), Group.objects.get(name="Network"), clock.now())


@pytest.fixture
def caller() -> Callable[[User], Api]:
    """Makes a caller with a token of that user."""

    def make(user: User) -> Api:
        made = tokens.create(
            user, f"test {clock.now().timestamp()}", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now()
        )
        return Api(token=made.secret, user=user)

    return make


@pytest.fixture
def admin(company: Company, caller: Callable[[User], Api]) -> Api:
    return caller(company.alice)


@pytest.fixture
def manager(company: Company, caller: Callable[[User], Api]) -> Api:
    return caller(company.mia)


@pytest.fixture
def responder(company: Company, caller: Callable[[User], Api]) -> Api:
    return caller(company.bob)


@pytest.fixture
def observer(company: Company, caller: Callable[[User], Api]) -> Api:
    return caller(company.olga)


@pytest.fixture
def open_alert(database: str) -> Callable[..., int]:
    """Opens an alert, and gives its number."""

    def make(subject: str = "VPN down", *, ago: timedelta = timedelta(), **columns: Any) -> int:
        at = clock.now() - ago
        alert = NewAlert(0, Priority(columns.pop("priority", "high")), subject, at, **columns)
        event = NewEvent(0, EventKind.OPENED, at, Actor(ActorKind.SYSTEM, "Tocsin"), "A test opened it.")
        return create_manual_alert(alert, PagingConfig(PagingMode.LOG_ONLY, reason="A test opened it."), event, now=at)

    return make


@pytest.fixture
def ntfy(monkeypatch: pytest.MonkeyPatch) -> Iterator[NtfyDouble]:
    """A push server on loopback, which outbound calls may reach; it also answers, as it should not, at Tocsin's own
    public address."""
    with ntfy_double() as double:
        allowed = replace(environment.current(), allow_targets=(ip_network("127.0.0.0/8"),), base_url=double.url)
        monkeypatch.setattr(environment, "current", lambda: allowed)
        yield double


@pytest.fixture
def inbound_url(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The inbound doors, listening at the installation's public address."""
    registry = IntegrationRegistry()
    committer = Committer(registry)
    app = InboundApp(registry, committer, BodyReader())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # whoever comes before the server runs waits for it
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        public = replace(environment.current(), base_url=url)
        monkeypatch.setattr(environment, "current", lambda: public)
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        committer.start()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(10)
            committer.stop(10)


def moment(text: str) -> datetime:
    """A moment of an answer. It must say its zone."""
    at = datetime.fromisoformat(text)
    assert at.tzinfo is not None
    return at.astimezone(UTC)
