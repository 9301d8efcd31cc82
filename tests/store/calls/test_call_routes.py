"""Call routes as configuration."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.people import ACTOR
from tocsin.access.models import AuditEntry
from tocsin.calls import routes
from tocsin.calls.models import CallRoute
from tocsin.calls.states import MenuAction, TargetKind
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core.errors import Rejected
from tocsin.escalation.models import Policy
from tocsin.notify.models import Provider
from tocsin.notify.providers.commands import delete_provider
from tocsin.people.models import Group
from tocsin.resources import registry
from tocsin.web.ui.forms import problems_of

YAML = """
users:
  - {username: alice, email: alice@example.org, role: admin}
groups:
  - {name: Desk, members: [{user: alice, roles: [primary]}]}
  - {name: Network, members: [{user: alice, roles: [primary]}]}
escalation_policies:
  - {name: Standard, steps: [{notify: {roles: [primary]}, after: 0m}]}
providers:
  - {name: Phones, kind: twilio, account_sid: AC00000000000000000000000000000000, auth_token: secret,
     from_number: "+41445550100"}
  - {name: Push, kind: ntfy}
outbound_integrations:
  - {name: Web, kind: http, url: "https://x.example"}
call_routes:
  - name: Night hotline
    group: Desk
    numbers: ["+41 44 555 01 00", "0041445550101"]
    provider: Phones
    escalation_policy: Standard
    menu:
      - {key: 1, label: network, group: Network}
      - {key: 2, escalation_policy: Standard}
      - {key: 3, client: Acme}
      - {key: 4, voicemail: true}
      - {key: 5, sentence: We are closed.}
    blocked: ["+41790000009"]
"""


def apply(text: str, now: datetime) -> plan.ConfigPlan:
    return plan.apply(config_files.collect([yaml_loader.parse(text, "t.yaml", Path())]), prune=False, now=now)


@pytest.fixture(autouse=True)
def configured(database: str, now: datetime) -> None:
    apply(YAML, now)


def save(now: datetime, *, existing: CallRoute | None = None, **keys: Any) -> CallRoute:
    base = {"name": "Day", "numbers": ["+41445550199"], "provider": "Phones", "escalation_policy": "Standard"}
    return routes.CALL_ROUTES.save(base | keys, existing=existing, actor=ACTOR, now=now)


def problems(now: datetime, **keys: Any) -> dict[str, str]:
    with pytest.raises(Rejected) as rejected:
        save(now, **keys)
    return {problem.field or "": str(problem.reason) for problem in problems_of(rejected.value)}


def test_route_survives_export_and_second_import(now: datetime) -> None:
    assert apply(YAML, now).is_empty
    (exported,) = plan.export_configuration(with_secrets=False)["call_routes"]
    assert exported["numbers"] == ["+41445550100", "+41445550101"]
    assert exported["escalation_policy"] == "Standard"
    assert exported["menu"][0] == {"key": 1, "label": "network", "group": "Network"}
    assert AuditEntry.objects.filter(object_type="call_route", action="create").count() == 1


def test_router_gets_stored_settings() -> None:
    route = CallRoute.objects.get()
    found = routes.settings_of(route)
    assert [entry.action for entry in found.menu] == list(MenuAction)
    network, policy, client, _voicemail, closed = found.menu
    assert network.target == Group.objects.get(name="Network").pk
    assert policy.target == Policy.objects.get().pk
    assert (client.text, closed.text) == ("Acme", "We are closed.")
    assert found.blocked == {"+41790000009"}
    assert found.target is not None
    assert found.target.kind is TargetKind.POLICY
    assert found.group_id == route.group_id
    assert found.alert_policy_id == route.policy_id
    assert routes.find_route("+41445550101") == route
    assert routes.find_route("+41445550102") is None


@pytest.mark.parametrize(
    ("keys", "field", "part"),
    [
        ({"numbers": []}, "numbers", "required"),
        ({"numbers": ["044 555 01 99"]}, "numbers[0]", "country code"),
        ({"numbers": [f"+4144555{n:04}" for n in range(21)]}, "numbers", "20"),
        ({"numbers": ["+41445550101"]}, "numbers[0]", "belongs to call route Night hotline"),
        ({"provider": "Nobody"}, "provider", 'no provider named "Nobody"'),
        ({"provider": ""}, "provider", "required"),
        ({"provider": "Push"}, "provider", "carries no calls"),
        ({"ticket_integration": "Web"}, "ticket_integration", "HaloITSM"),
        ({"escalation_policy": "Nobody"}, "escalation_policy", "unknown escalation policy"),
        ({"escalation_policy": None}, "escalation_policy", "whom a call reaches"),
        ({"support_hours": "Never"}, "support_hours", "no support hours"),
        ({"outside_hours": "sentence"}, "outside_sentence", "say what callers hear"),
        ({"rounds": 6}, "rounds", "1 to 5"),
        ({"ring_seconds": 9}, "ring_seconds", "10 to 60"),
        ({"blocked": ["+41445550199"]}, "blocked", "is a number of this route"),
        ({"menu": [{"key": 1}]}, "menu[0]", "name one of"),
        ({"menu": [{"key": 1, "client": "Acme", "voicemail": True}]}, "menu[0]", "name one of"),
        ({"menu": [{"key": 1, "client": "A"}, {"key": 1, "client": "B"}]}, "menu[1].key", "twice"),
        ({"menu": [{"key": 10, "client": "A"}]}, "menu[0].key", "1 to 9"),
        ({"menu": [{"key": 1, "group": "Nobody"}]}, "menu[0].group", 'no group named "Nobody"'),
        ({"menu": [{"key": 1, "voicemail": True}], "voicemail": False}, "menu[0]", "needs voicemail"),
    ],
)
def test_bad_input_names_its_place(now: datetime, keys: dict[str, Any], field: str, part: str) -> None:
    assert part in problems(now, **keys)[field]
    assert CallRoute.objects.count() == 1


def test_whom_is_a_policy_or_a_schedule(now: datetime) -> None:
    text = "schedules: [{name: Nights, group: Desk, shifts: [{name: A, rotate: {every: 1w, at: '09:00', on: monday,"
    apply(f"{text} users: [alice], roles: [primary]}}, start: '2026-01-05'}}]}}]", now)
    assert "not both" in problems(now, schedule="Nights")["schedule"]
    assert save(now, schedule="Nights", escalation_policy=None).schedule is not None


def test_route_keeps_its_own_numbers_when_changed(now: datetime) -> None:
    route = CallRoute.objects.get()
    changed = save(now, existing=route, name="Night hotline", numbers=["+41445550101", "+41445550103"])
    assert changed.numbers == ["+41445550101", "+41445550103"]


def test_what_a_route_uses_is_not_deleted(now: datetime) -> None:
    for row, resource in (
        (Policy.objects.get(), registry.POLICIES),
        (Group.objects.get(name="Network"), registry.GROUPS),
        (Group.objects.get(name="Desk"), registry.GROUPS),
        (Provider.objects.get(name="Phones"), registry.PROVIDERS),
    ):
        with pytest.raises(Rejected, match="call route Night hotline"):
            resource.delete(row, actor=ACTOR, now=now)
    registry.CALL_ROUTES.delete(CallRoute.objects.get(), actor=ACTOR, now=now)
    delete_provider(Provider.objects.get(name="Phones"), actor=ACTOR, now=now)
    assert AuditEntry.objects.filter(object_type="call_route", action="delete").count() == 1
