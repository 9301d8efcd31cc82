"""The preflight names the users that a critical alert would page, and stores nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.apps import apps
from django.db import transaction

from tests.store.simulate.test_simulation import EXAMPLE, NIGHT, NOON, configure
from tests.support.people import ACTOR
from tocsin.alerts.states import Priority
from tocsin.core.config import settings_store
from tocsin.escalation.commands import save_policy
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import specs
from tocsin.inbound.admin.commands import integration_spec, save_integration
from tocsin.inbound.models import Integration, IntegrationVersion
from tocsin.people.changes import groups
from tocsin.people.models import ContactMethod
from tocsin.simulate.escalation import CLIENT_ROUTES_OMITTED, PreflightResult, next_at, preflight

__all__ = ["example"]


@pytest.fixture(autouse=True)
def example(database: str, now: object) -> None:
    configure(EXAMPLE.read_text(), now)  # type: ignore[arg-type]


def the_one(at: object = NIGHT) -> PreflightResult:
    (checked,) = preflight(at)  # type: ignore[arg-type]
    return checked


def changed() -> PreflightResult:
    with transaction.atomic():
        settings_store.bump()
    return the_one()


def route_by_client(clients: list[dict[str, str]], now: datetime) -> None:
    """Has the integration choose groups and policies by a table of these clients."""
    specs.save_client_table({"name": "Customers", "clients": clients}, actor=ACTOR, now=now)
    integration = Integration.objects.get()
    save_integration(
        {**integration_spec(integration), "routes": [{"name": "Clients", "client_table": "Customers"}], "anyway": True},
        existing=integration,
        actor=ACTOR,
        now=now,
    )


def test_each_path_names_user_method_and_time() -> None:
    before = {model.__name__: model._default_manager.count() for model in apps.get_models() if model._meta.managed}
    checked = the_one()
    own = checked.routes[-1]
    assert own.route == ""
    assert [(page.name, page.channel, page.after) for page in own.pages[:3]] == [
        ("Bob Brown", "email", timedelta()),
        ("Bob Brown", "sms", timedelta()),
        ("Bob Brown", "voice", timedelta(minutes=3)),
    ]
    after = {model.__name__: model._default_manager.count() for model in apps.get_models() if model._meta.managed}
    assert after == before


def test_only_currently_matching_routes_are_listed() -> None:
    by_night = [method.route for method in the_one(NIGHT).routes]
    by_day = [method.route for method in the_one(NOON).routes]
    assert by_night != by_day
    assert by_night[-1] == by_day[-1] == ""


def test_client_table_route_pages_named_targets_others_use_route(now: datetime) -> None:
    members = [{"user": "bob", "roles": ["primary"]}]
    other = groups.save_group({"name": "Nights", "members": members}, actor=ACTOR, now=now)
    save_policy({"name": "Nights only", "steps": [{"notify": {"roles": ["primary"]}}]}, actor=ACTOR, now=now)
    clients = [
        {"client": "Acme", "group": other.name, "escalation_policy": "Nights only"},
        {"client": "Globex", "group": other.name},
        {"client": "Beta", "group": other.name, "escalation_policy": "Nights only"},
    ]
    route_by_client(clients, now)
    methods = changed().routes
    assert [(method.route, method.clients, method.policy) for method in methods] == [
        ("Clients", ("Acme", "Beta"), "Nights only"),
        ("Clients", ("Globex",), "Standard"),
        ("Clients", (), "Standard"),
        ("", None, "Standard"),
    ]
    assert {page.name for page in methods[0].pages} == {"Bob Brown"}
    taken = {client: the_one().for_client(client).routes for client in ("acme", "Globex", "Initech")}
    assert {client: [route.clients for route in routes] for client, routes in taken.items()} == {
        "acme": [("Acme", "Beta"), None], "Globex": [("Globex",), None], "Initech": [(), None],
    }  # fmt: skip


def test_preflight_of_one_integration_and_priority(now: datetime) -> None:
    low = preflight(NIGHT, only=Integration.objects.get(), priority=Priority.LOW)[0]  # type: ignore[arg-type]
    assert low.name == the_one().name
    assert [route.route for route in low.routes] == [route.route for route in the_one().routes]


def test_clients_with_same_on_call_users_are_one_path(now: datetime) -> None:
    members = [{"user": "bob", "roles": ["primary"]}]
    names = ("Nights", "Weekends", "Holidays")
    for name in names:
        groups.save_group({"name": name, "members": members}, actor=ACTOR, now=now)
    clients = [{"client": f"{name} Ltd", "group": name, "escalation_policy": "Standard"} for name in names]
    route_by_client(clients, now)
    methods = changed().routes
    assert [method.clients for method in methods] == [("Nights Ltd", "Weekends Ltd", "Holidays Ltd"), (), None]
    assert {page.name for page in methods[0].pages} == {"Bob Brown"}


def test_client_table_with_many_targets_is_checked_in_part(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.simulate.escalation.MAX_CLIENT_ROUTES", 1)
    for name in ("Nights", "Weekends", "Holidays"):
        groups.save_group({"name": name, "members": [{"user": "bob", "roles": ["primary"]}]}, actor=ACTOR, now=now)
    clients = [{"client": f"{name} Ltd", "group": name} for name in ("Nights", "Weekends", "Holidays")]
    route_by_client(clients, now)
    checked, others, _ = changed().routes
    assert checked.clients == ("Nights Ltd",)
    assert CLIENT_ROUTES_OMITTED(count=2, table="Customers") in others.notes


def test_integration_with_an_unusable_configuration_fails_preflight() -> None:
    IntegrationVersion.objects.update(definition={"rules": 7})
    checked = changed()
    assert not checked.is_fine
    assert [note.code for route in checked.routes for note in route.notes] == [
        "Its configuration cannot be used: {problem}"
    ]


def test_unreachable_integration_fails_preflight_with_reason() -> None:
    assert the_one().is_fine
    ContactMethod.objects.update(is_enabled=False)
    checked = the_one()
    assert not checked.is_fine
    assert all(method.notes for method in checked.routes)
    Integration.objects.update(policy=None)
    assert "no policy or recipient user" in str(changed().routes[-1].notes[0])


def test_hours_without_pages_are_reported() -> None:
    steps = [{"notify": {"roles": ["primary"]}, "after": "2h"}]
    policy = Policy.objects.get(name="Standard")
    save_policy({"name": "Standard", "steps": steps}, existing=policy, actor=ACTOR, now=NIGHT)
    method = changed().routes[-1]
    assert tuple(map(str, method.notes)) == ("No one is paged for 2 hours.",)
    assert method.reaches_anybody


def test_three_in_the_morning_is_the_next_one() -> None:
    assert next_at(3, NIGHT.replace(hour=2)).day == NIGHT.day
    assert next_at(3, NIGHT.replace(hour=3)).day == NIGHT.day + 1
