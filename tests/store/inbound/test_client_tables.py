"""A client table selects the group and policy for each client."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.ingest import halo
from tests.support.people import ACTOR
from tocsin.access.models import AuditEntry
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import specs
from tocsin.inbound.models import ClientTable, Integration
from tocsin.people.models import Group
from tocsin.resources import registry
from tocsin.simulate.chain import SimulatedOutcome, simulate

YAML = """
users:
  - {username: alice, email: alice@example.org, role: admin}
  - {username: bob, email: bob@example.org}
groups:
  - {name: Desk, members: [{user: alice, roles: [primary]}]}
  - {name: Gold team, members: [{user: bob, roles: [primary]}]}
escalation_policies:
  - {name: Gold, end: {then: hand_over, policy: Standard}, steps: [{notify: {roles: [primary]}, after: 2m}]}
  - {name: Standard, steps: [{notify: {roles: [primary]}, after: 0m}]}
client_tables:
  - name: Customers
    clients:
      - {client: Acme, group: Gold team, escalation_policy: Gold}
      - {client: Globex, group: Gold team}
integrations:
  - name: Halo
    kind: haloitsm
    escalation_policy: Standard
    recipients: {groups: [Desk]}
    routes: [{when: {field: subject, operator: exists}, client_table: Customers}]
"""


@pytest.fixture(autouse=True)
def configured(database: str, now: datetime) -> None:
    apply(YAML, now)


def apply(text: str, now: datetime) -> plan.ConfigPlan:
    return plan.apply(config_files.collect([yaml_loader.parse(text, "t.yaml", Path())]), prune=False, now=now)


def one(now: datetime, **ticket: Any) -> SimulatedOutcome:
    body = json.dumps(halo(**ticket)).encode()
    (outcome,) = simulate(Integration.objects.get(), body, "application/json", now).outcomes
    return outcome


def test_client_table_routes_message_to_group_and_policy_with_reason(now: datetime) -> None:
    acme, globex, other = (one(now, client_name=name) for name in ("ACME", "Globex", "Initech"))
    assert [(page.name, page.after.total_seconds()) for page in acme.pages][:1] == [("bob", 120)]
    assert "policy Gold" in str(acme.why)
    assert "ACME is in client table Customers" in str(acme.why)
    assert [(page.name, page.after.total_seconds()) for page in globex.pages] == [("bob", 0)]
    assert [page.name for page in other.pages] == ["alice"]
    assert "client Initech is not in client table Customers" in str(other.why)


def test_second_import_changes_nothing_and_policies_follow_their_fallback(now: datetime) -> None:
    assert apply(YAML, now).is_empty
    exported = plan.export_configuration(with_secrets=False)
    assert [one["name"] for one in exported["client_tables"]] == ["Customers"]
    assert exported["integrations"][0]["routes"][0]["client_table"] == "Customers"


def test_csv_parses_with_or_without_heading_and_bad_rows_named(now: datetime) -> None:
    rows = [
        {"client": "Acme", "group": "Gold team", "escalation_policy": "Gold"},
        {"client": "Initech", "group": "Desk", "numbers": ["+41431234*", "+41440000001"]},
    ]
    text = "Client;Group;Policy\nAcme;Gold team;Gold\n\nInitech;Desk;;+41431234* +41440000001\n"
    assert specs.from_csv(text) == rows
    assert specs.from_csv(specs.to_csv(rows)) == rows
    table = ClientTable.objects.get()
    bad = [
        {"client": "Acme", "group": "Nobody's"}, {"client": "acme", "group": "Desk"}, {"client": "Umbrella"},
        {"client": "Hooli", "group": "Desk", "numbers": ["043 123 45 67"]},
    ]  # fmt: skip
    with pytest.raises(Rejected) as refused:
        specs.save_client_table({"name": "Customers", "clients": bad}, existing=table, actor=ACTOR, now=now)
    assert set(refused.value.fields) == {
        "clients[0].group",
        "clients[1].client",
        "clients[2].group",
        "clients[3].numbers",
    }
    with pytest.raises(Rejected, match="Row 2 has more than"):
        specs.from_csv("Acme,Desk\nInitech,Desk,Gold,+4143,more\n")


def test_client_table_and_its_references_are_protected_from_deletion(now: datetime) -> None:
    for delete in (
        lambda: registry.CLIENT_TABLES.delete(ClientTable.objects.get(), actor=ACTOR, now=now),
        lambda: registry.GROUPS.delete(Group.objects.get(name="Gold team"), actor=ACTOR, now=now),
    ):
        with pytest.raises(Rejected) as refused:
            delete()
        assert refused.value.code == "in_use"
    assert hooks.references_to("escalation_policy", Policy.objects.get(name="Gold").pk) == [
        hooks.CLIENT_TABLE(name="Customers")
    ]
    spec = {**integrations.integration_spec(Integration.objects.get()), "routes": []}
    integrations.save_integration(spec, existing=Integration.objects.get(), actor=ACTOR, now=now)
    registry.CLIENT_TABLES.delete(ClientTable.objects.get(), actor=ACTOR, now=now)
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.object_type) == ("delete", "client_table")
