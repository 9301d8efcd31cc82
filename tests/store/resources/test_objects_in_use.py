"""A group or policy that another object refers to cannot be deleted, and the answer names that object."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.support.people import ACTOR, make_group
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.escalation.commands import save_policy
from tocsin.identity.commands import save_provider
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.admin.specs import save_client_table
from tocsin.inbound.maintenance_commands import save_window
from tocsin.oncall.changes.commands import save_holiday_calendar
from tocsin.outbound.commands import save_outbound
from tocsin.people.models import Group
from tocsin.resources import registry
from tocsin.workflows.commands import save_workflow

pytestmark = pytest.mark.usefixtures("database")

#: What can belong or refer to the group "Network": how it is saved, and the code that names it.
USES: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "client table {name}": (save_client_table, {"clients": [{"client": "Acme", "group": "Network"}]}),
    "holiday calendar {name}": (save_holiday_calendar, {"group": "Network", "country": "CH"}),
    "identity provider {name}": (
        save_provider,
        {
            "issuer": "https://id.example.org",
            "client_id": "tocsin",
            "preset": "keycloak",
            "client_secret": "a secret",
            "roles": [{"claim": "net", "role": "responder", "groups": [{"group": "Network"}]}],
        },
    ),
    "integration {name}": (save_integration, {"kind": "api", "anyway": True, "recipients": {"groups": ["Network"]}}),
    "maintenance window {name}": (
        save_window,
        {"groups": ["Network"], "starts": "2026-12-01 10:00", "ends": "2026-12-01 11:00", "time_zone": "UTC"},
    ),
    "outbound integration {name}": (
        save_outbound,
        {"kind": "http", "url": "https://pager.example.org", "group": "Network"},
    ),
    "workflow {name}": (
        save_workflow,
        {"trigger": "opened", "actions": [{"do": "notify", "groups": ["Network"], "contacts": True}]},
    ),
}


@pytest.mark.parametrize("code", USES)
def test_group_in_use_is_not_deleted(code: str, now: datetime) -> None:
    group = make_group("Network", now)
    save, spec = USES[code]
    save({"name": "User of it", **spec}, actor=ACTOR, now=now)
    with pytest.raises(Rejected) as rejected:
        registry.GROUPS.delete(group, actor=ACTOR, now=now)
    assert rejected.value.reason.code == "Can't delete {name}: it is used by {users}."
    assert [use.code for use in rejected.value.reason["users"]] == [code]


def test_policy_in_use_is_not_deleted(now: datetime) -> None:
    steps = [{"notify": {"roles": ["primary"]}}]
    policy = save_policy({"name": "Standard", "steps": steps}, actor=ACTOR, now=now)
    handing_over = {"name": "First", "steps": steps, "end": {"then": "hand_over", "policy": "Standard"}}
    save_policy(handing_over, actor=ACTOR, now=now)
    with pytest.raises(Rejected) as rejected:
        registry.POLICIES.delete(policy, actor=ACTOR, now=now)
    assert [use.code for use in rejected.value.reason["users"]] == ["escalation policy {name}"]


def test_change_of_a_deleted_object_is_rejected(now: datetime) -> None:
    group = make_group("Network", now)
    Group.objects.filter(pk=group.pk).delete()
    with pytest.raises(Rejected) as rejected, settings_store.exclusive(group):
        pytest.fail("the group is gone")
    assert rejected.value.reason.code == "This was deleted in the meantime."
