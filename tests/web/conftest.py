"""A small company, its alerts, and people with browsers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
from django.core.cache import caches
from django.test import Client
from django.utils import translation
from pytest_django.fixtures import Settings

from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.commands import open_by_hand
from tocsin.alerts.openings import NewAlert
from tocsin.alerts.orders import Actor, NewEvent
from tocsin.alerts.reactors import Paging, PagingMode
from tocsin.alerts.states import ActorKind, EventKind, Priority
from tocsin.core import clock
from tocsin.escalation import commands as policies
from tocsin.escalation.models import Policy
from tocsin.inbound import commands as integrations
from tocsin.inbound.models import Integration
from tocsin.people import commands as people
from tocsin.people import groups
from tocsin.people.models import Group, User

PASSWORD = "a tall green bicycle"


@dataclass(frozen=True, slots=True)
class Company:
    """Who and what there is."""

    admin: User
    manager: User
    responder: User
    observer: User
    desk: Group
    #: A group that none of them but the administrator is in.
    night: Group
    policy: Policy
    halo: Integration
    now: datetime


def make_user(username: str, role: str, name: str = "") -> User:
    """A user who can sign in with PASSWORD."""
    spec = {"username": username, "name": name, "email": f"{username}@example.org", "role": role}
    return people.save_user(spec, actor=COMMAND_LINE, now=clock.now(), password=PASSWORD)


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Passwords are hashed a hundred times a test here: slowness, their hashers' virtue, would be ours."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def own_mail(settings: Settings) -> None:
    """Mail goes Tocsin's own way, where pytest-django would keep it in a list."""
    settings.MAILERS = {"default": {"BACKEND": "tocsin.web.mail.Backend"}}


@pytest.fixture(autouse=True)
def own_language() -> Iterator[None]:
    """The language that a page was asked for in stays with its thread, and would be the next test's."""
    yield
    translation.deactivate()


@pytest.fixture
def imports_end(database: str) -> Iterator[None]:
    """Imports that were begun, and mails that are leaving, end before the database goes."""
    yield
    threads_end("import-")
    mails_leave()


def mails_leave() -> None:
    """Returns when the mails about people's accounts have left."""
    threads_end("account mail")


def threads_end(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(30)


@pytest.fixture
def company(database: str, imports_end: None) -> Company:
    caches["process"].clear()
    now = clock.now()
    admin = make_user("alice", "admin", "Alice Andersson")
    manager = make_user("mia", "manager", "Mia Manager")
    responder = make_user("bob", "responder", "Bob Brown")
    observer = make_user("olga", "observer", "Olga Observer")
    members = [
        {"user": "bob", "roles": ["primary"]},
        {"user": "alice", "roles": ["secondary"]},
        {"user": "mia", "roles": ["manager"]},
    ]
    desk = groups.save_group({"name": "Service Desk", "members": members}, actor=COMMAND_LINE, now=now)
    night = groups.save_group({"name": "Night", "members": [{"user": "alice"}]}, actor=COMMAND_LINE, now=now)
    steps = [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
    ]
    policy = policies.save_policy(
        {"name": "Standard", "group": "Service Desk", "steps": steps}, actor=COMMAND_LINE, now=now
    )
    halo = integrations.save_integration(
        {
            "name": "HaloITSM",
            "kind": "haloitsm",
            "group": "Service Desk",
            "escalation_policy": "Standard",
            "recipients": {"groups": ["Service Desk"]},
            "settings": {"halo_address": "https://acme.haloitsm.com"},
        },
        actor=COMMAND_LINE,
        now=now,
    )
    return Company(admin, manager, responder, observer, desk, night, policy, halo, now)


@pytest.fixture
def browser_of() -> Callable[[User], Client]:
    """A browser in which that person is signed in."""

    def sign_in(user: User) -> Client:
        client = Client(raise_request_exception=False)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


@pytest.fixture
def open_alert(company: Company) -> Callable[..., int]:
    """Opens an alert that pages by the company's policy, and returns its number."""

    def make(subject: str = "VPN down", priority: Priority = Priority.CRITICAL, **columns: str) -> int:
        now = clock.now()
        actor = Actor(ActorKind.INTEGRATION, "HaloITSM")
        alert = NewAlert(0, priority, subject, now, source="HaloITSM", integration_id=company.halo.pk, columns=columns)
        paging = Paging(PagingMode.PAGE, company.policy.current_id, (), (company.desk.pk,), "By the policy Standard.")
        event = NewEvent(0, EventKind.OPENED, now, actor, "Opened by HaloITSM.")
        return open_by_hand(alert, paging, event, now=now)

    return make
